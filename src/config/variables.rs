//! Reads environment variables as keys of the config: `IMD_SESSION__IDLE=10s` sets `session.idle`.
//!
//! Serves [`Sources`](super::Sources), which puts the variables over a file. Nothing here reads the environment: the
//! program passes it in, so that a stack in a test does not depend on the shell of its developer. A name that is not known
//! is an error, and so is a value that has not the form of its key. A variable that is empty counts as unset.

use std::ffi::OsString;

use toml::{Table, Value};

use super::error::ConfigError;
use super::hint;
use super::position::{is_in, key_at};
use super::schema::{Kind, Schema};
use super::{Config, VARIABLE_PREFIX, service_links};

/// What separates the parts of a key in the name of a variable. One underscore would not do, since keys have some.
const SEPARATOR: &str = "__";

/// The variables that set keys of the config. It has no `Debug`, because a value may be a secret.
#[derive(Default)]
pub struct Variables(Vec<Variable>);

/// A variable that sets one key.
struct Variable {
    name: String,
    path: Path,
    value: Value,
    /// Whether the value begins with a quote, which no shell or YAML has removed.
    is_quoted: bool,
}

/// A dotted key in its parts. In the order of their paths, variables add the tables of an array one after the other.
type Path = Vec<Part>;

/// A part of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The index of an element of an array.
    Index(usize),
    /// The name of a key.
    Name(String),
}

impl Variables {
    /// Reads the variables of an environment. Those that do not begin with [`VARIABLE_PREFIX`] or are empty are passed over, and so
    /// are those with a name of `others`, which the program uses for other purposes.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] for the first variable, in alphabetical order, whose name is not known, with the most
    /// similar name, or whose value can't be read as the type of its key, with an example.
    pub fn read(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        others: &[String],
    ) -> Result<Variables, ConfigError> {
        let mut given: Vec<(String, OsString)> = environment
            .into_iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, value)| name.starts_with(VARIABLE_PREFIX) && !value.is_empty())
            .filter(|(name, value)| !others.contains(name) && !service_links::is_one(name, value))
            .collect();
        if given.is_empty() {
            return Ok(Variables::default());
        }
        given.sort();
        let schema = Schema::of_config();
        let variables = given
            .into_iter()
            .map(|(name, value)| Variable::read(&schema, name, value, others));
        let mut variables = variables.collect::<Result<Vec<Variable>, ConfigError>>()?;
        variables.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Variables(variables))
    }

    /// Returns the dotted key that each variable sets, and the name of the variable.
    pub(super) fn keys(&self) -> impl Iterator<Item = (String, &str)> {
        let variables = self.0.iter();
        variables.map(|variable| (dotted(&variable.path), variable.name.as_str()))
    }

    /// Returns the name of the variable that sets a key, an element of it, or the list that it is an element of.
    pub(super) fn name_for(&self, key: &str) -> Option<&str> {
        let mut keys = self.keys();
        let found = keys.find(|(set, _)| is_in(set, key) || is_in(key, set));
        found.map(|(_, name)| name)
    }

    /// Returns the name of a variable that sets a key of some table in an array, of which an error does not tell the index,
    /// such as `user.uid`.
    pub(super) fn name_without_index(&self, key: &str) -> Option<&str> {
        let mut keys = self.keys();
        let found = keys.find(|(set, _)| is_in(&hint::without_indices(set), key));
        found.map(|(_, name)| name)
    }

    /// Puts the variables over a config.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`], with the name of the variable, for an index that leaves a gap, a missing key of a new table,
    /// and a value that its key can't have. Whether values fit one another is not checked.
    pub(super) fn apply(&self, config: Config) -> Result<Config, ConfigError> {
        if self.0.is_empty() {
            return Ok(config);
        }
        let unwritable = |error: toml::ser::Error| ConfigError::of_variable("", error.to_string());
        let table = Table::try_from(config).map_err(unwritable)?;
        let mut root = Value::Table(table);
        for variable in &self.0 {
            set(&mut root, &variable.path, variable.value.clone())
                .map_err(|why| ConfigError::of_variable(&variable.name, why))?;
        }
        // The errors of a text have places, and a place has a key, and the key a variable.
        let text = toml::to_string(&root).map_err(unwritable)?;
        toml::from_str(&text).map_err(|error| self.explain(&error, &text))
    }

    /// Converts an error about the text that has the values of the variables.
    fn explain(&self, error: &toml::de::Error, text: &str) -> ConfigError {
        let key = error.span().and_then(|span| key_at(text, span));
        let (key, message) = (key.unwrap_or_default(), error.message().replace('\n', " "));
        let missing = message.strip_prefix("missing field `");
        if let Some(field) = missing.and_then(|rest| rest.split('`').next()) {
            let name = name_of(&format!("{key}.{field}"));
            let message = format!("is not set, and {key} needs it");
            return ConfigError::of_variable(&name, hint::with_example(&name, &message));
        }
        let at_key = |variable: &&Variable| {
            let set = dotted(&variable.path);
            is_in(&set, &key) || is_in(&key, &set)
        };
        // An error about a whole table names the key in its text.
        let is_named = |variable: &&Variable| match variable.path.last() {
            Some(Part::Name(name)) => message.contains(name.as_str()),
            _ => false,
        };
        let variables = || self.0.iter().filter(at_key);
        match variables().find(is_named).or_else(|| variables().next()) {
            Some(variable) if !is_named(&variable) && !is_in(&key, &dotted(&variable.path)) => {
                ConfigError::of_variable(&variable.name, message)
            }
            Some(variable) => {
                let message = hint::explain_variable(&variable.name, &key, &message);
                let quotes = match variable.is_quoted {
                    true => " (the quotes are part of the value: leave them out)",
                    false => "",
                };
                ConfigError::of_variable(&variable.name, format!("{message}{quotes}"))
            }
            None => ConfigError::of_variable(&key, message),
        }
    }
}

impl Variable {
    /// Reads a variable by the kind of its key.
    fn read(
        schema: &Schema,
        name: String,
        value: OsString,
        others: &[String],
    ) -> Result<Variable, ConfigError> {
        let wrong = |message: String| ConfigError::of_variable(&name, message);
        let path = path_of(&name);
        let kind = path.as_ref().and_then(|path| kind_at(schema, path));
        let (Some(path), Some(kind)) = (path, kind) else {
            return Err(wrong(unknown(schema, &name, others)));
        };
        let text = value.into_string();
        let text = text.map_err(|_| wrong("the value is no UTF-8 text".into()))?;
        let value = parse(&kind, &text);
        let value = value.map_err(|why| wrong(hint::with_example(&name, &why)))?;
        let is_quoted = text.starts_with(['"', '\'']);
        Ok(Variable {
            name,
            path,
            value,
            is_quoted,
        })
    }
}

/// Returns the key that a name stands for. None if the name is not written in the form of a variable.
fn path_of(name: &str) -> Option<Path> {
    let parts = name.strip_prefix(VARIABLE_PREFIX)?.split(SEPARATOR);
    parts.map(part_of).collect()
}

/// Returns a part of a key, as it stands in the name of a variable.
fn part_of(part: &str) -> Option<Part> {
    if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
        return part.parse().ok().map(Part::Index);
    }
    let is_upper = !part.bytes().any(|byte| byte.is_ascii_lowercase());
    is_upper.then(|| Part::Name(part.to_ascii_lowercase()))
}

/// Returns the kind of the value at a path. An element of a list has a kind too.
fn kind_at(schema: &Schema, path: &[Part]) -> Option<Kind> {
    if let Some(kind) = schema.kind(&general(path)) {
        return Some(kind.clone());
    }
    match path.split_last() {
        Some((Part::Index(_), list)) => match schema.kind(&general(list))? {
            Kind::List(kind) => Some((**kind).clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns a path as a dotted key.
fn dotted(path: &[Part]) -> String {
    join(path, usize::to_string)
}

/// Returns a path as the key of a schema, which has one index only.
fn general(path: &[Part]) -> String {
    join(path, |_| "0".to_owned())
}

fn join(path: &[Part], index: impl Fn(&usize) -> String) -> String {
    let parts = path.iter().map(|part| match part {
        Part::Index(number) => index(number),
        Part::Name(name) => name.clone(),
    });
    parts.collect::<Vec<String>>().join(".")
}

/// Returns the name of the variable that sets a dotted key.
pub(super) fn name_of(key: &str) -> String {
    format!(
        "{VARIABLE_PREFIX}{}",
        key.replace('.', SEPARATOR).to_ascii_uppercase()
    )
}

/// Returns why a name is refused: it is that of a table, or not known, and then the most similar name is given.
fn unknown(schema: &Schema, name: &str, others: &[String]) -> String {
    // With 0 for every index, a name can be compared with those of the schema.
    let generalize = |part: &str| match part.parse::<usize>() {
        Ok(_) => "0".to_owned(),
        Err(_) => part.to_owned(),
    };
    let upper = name.to_ascii_uppercase();
    let parts: Vec<&str> = upper.split(SEPARATOR).collect();
    let general: Vec<String> = parts.iter().map(|part| generalize(part)).collect();
    let general = general.join(SEPARATOR);
    let known = || schema.keys().map(name_of).chain(others.iter().cloned());
    let below = format!("{general}{SEPARATOR}");
    if let Some(key) = known().find(|known| known.starts_with(&below)) {
        return format!("is a table of keys: set one of them, such as {key}");
    }
    let similarity = |known: &String| strsim::normalized_damerau_levenshtein(&general, known);
    let nearest = known().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let nearest = nearest.unwrap_or_default();
    // The index is the one that was written, where the names have theirs at the same place.
    let with_index = nearest.split(SEPARATOR).enumerate().map(|(at, part)| {
        let written = parts.get(at).filter(|part| part.parse::<usize>().is_ok());
        written.filter(|_| part == "0").copied().unwrap_or(part)
    });
    let nearest = with_index.collect::<Vec<&str>>().join(SEPARATOR);
    format!(
        "imd knows no such variable: did you mean {nearest}? (imd check prints every key, and session.idle is {})",
        name_of("session.idle")
    )
}

/// Reads the text of a variable as a value of this kind.
///
/// # Errors
///
/// What the text is not. The caller adds an example.
fn parse(kind: &Kind, text: &str) -> Result<Value, String> {
    let number = || text.trim().replace('_', "");
    match kind {
        Kind::Text => Ok(text.into()),
        Kind::Bool => {
            let value = switch(text).ok_or_else(|| format!("{text:?} is neither true nor false"));
            value.map(Value::Boolean)
        }
        Kind::Integer => {
            let value = number().parse();
            let value = value.map_err(|_| format!("{text:?} is no whole number, or too large"));
            value.map(Value::Integer)
        }
        Kind::Float => {
            let value = number().parse();
            value
                .map(Value::Float)
                .map_err(|_| format!("{text:?} is no number"))
        }
        Kind::Any => Ok(number().parse().map_or(text.into(), Value::Integer)),
        Kind::List(kind) => list(kind, text).map(Value::Array),
    }
}

/// Reads a text as a switch: true or false, yes or no, on or off, 1 or 0, in any case. None if it is none of these.
pub fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Reads a list: items between commas, or the array of TOML that imd.toml has.
fn list(kind: &Kind, text: &str) -> Result<Vec<Value>, String> {
    // A list of hosts may begin with the bracket of an IPv6 address, which is no array.
    let array = toml::from_str::<Table>(&format!("x = {text}"));
    let array = array.ok().and_then(|mut table| table.remove("x"));
    if let Some(Value::Array(items)) = array {
        return Ok(items);
    }
    let items = text.split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(|item| parse(kind, item))
        .collect()
}

/// Sets the value at a path. Tables that are not there are made.
///
/// # Errors
///
/// An index that is not that of an element, nor the next one.
fn set(at: &mut Value, path: &[Part], value: Value) -> Result<(), String> {
    let Some((part, rest)) = path.split_first() else {
        *at = value;
        return Ok(());
    };
    let child = match part {
        Part::Name(name) => {
            if !at.is_table() {
                *at = Value::Table(Table::new());
            }
            at.as_table_mut()
                .map(|table| table.entry(name).or_insert(Value::Boolean(false)))
        }
        Part::Index(index) => {
            if !at.is_array() {
                *at = Value::Array(Vec::new());
            }
            at.as_array_mut().and_then(|items| {
                if items.len() == *index {
                    items.push(Value::Boolean(false));
                }
                items.get_mut(*index)
            })
        }
    };
    match (child, part) {
        (Some(child), _) => set(child, rest, value),
        (None, Part::Index(index)) => {
            let count = at.as_array().map_or(0, Vec::len);
            Err(format!(
                "there are only {count} of them, counted from 0, so the next one is number {count}, not {index}"
            ))
        }
        (None, Part::Name(_)) => Ok(()),
    }
}

//! Knows where each value of a config came from, and prints the config with it.
//!
//! Serves `imd check`. The printed text is TOML: the origins are comments below the values, whose lines scripts may read. A
//! secret of the environment is not printed: whoever reads the output of a container's checks has not been told its variables.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use toml::{Table, Value};

use super::Config;
use super::hint::is_secret_key;
use super::position::{self, Entry, Lines};
use super::variables::Variables;

/// The longest key for which the column of origins makes room.
const MAX_WIDTH: usize = 40;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provenance {
    /// No source has the key.
    Default,
    /// A line of the config file, from 1.
    File {
        /// The path of the file, as the user gave it.
        name: String,
        /// The number of the line.
        line: usize,
    },
    /// An environment variable: its name.
    Variable(String),
    /// A flag of the command line, as it is written there.
    Flag(String),
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provenance::Default => f.write_str("default"),
            Provenance::File { name, line } => write!(f, "{}:{line}", name.escape_debug()),
            Provenance::Variable(name) => f.write_str(name),
            Provenance::Flag(flag) => write!(f, "{}", flag.escape_debug()),
        }
    }
}

/// The origin of each key that is not a default, by its dotted name.
#[derive(Debug)]
pub struct Provenances(BTreeMap<String, Provenance>);

impl Provenances {
    /// Finds the keys of a file, given by its name and its text, and of variables.
    pub(super) fn new(file: Option<(&str, &str)>, variables: &Variables) -> Provenances {
        let mut origins = BTreeMap::new();
        if let Some((name, text)) = file {
            let lines = Lines::of(text);
            for Entry { key, span, .. } in position::entries(text) {
                let (name, line) = (name.to_owned(), lines.number(span.start));
                origins.insert(key, Provenance::File { name, line });
            }
        }
        let defaults = values(&Config::default());
        for (key, name) in variables.keys() {
            let origin = Provenance::Variable(name.to_owned());
            let (table, last) = key.rsplit_once('.').unwrap_or(("", &key));
            // A table of an array that is new has its origin too, for the keys that it leaves out.
            let is_new = !defaults.keys().any(|key| position::is_in(key, table));
            if is_element(table) && is_new {
                let table = table.to_owned();
                origins.entry(table).or_insert(origin.clone());
            }
            let key = if is_index(last) { table } else { &key };
            origins.insert(key.to_owned(), origin);
        }
        Provenances(origins)
    }

    /// Notes that a flag has made one config of another: its keys are those whose values differ.
    pub fn note_flag(&mut self, flag: &Provenance, before: &Config, after: &Config) {
        let before = values(before);
        for (key, value) in values(after) {
            if before.get(&key) != Some(&value) {
                self.0.insert(key, flag.clone());
            }
        }
    }

    /// Returns the origin of a key.
    pub fn of(&self, key: &str) -> &Provenance {
        self.0.get(key).unwrap_or(&Provenance::Default)
    }

    /// Returns the origin of a value in the text of a config. What a table of an array has in another form than its source,
    /// such as the `nth` of a fault, came with the table; an empty text is what the table has left out.
    fn of_value(&self, entry: &Entry, text: &str) -> &Provenance {
        let is_empty = text.get(entry.span.clone()) == Some("\"\"");
        let table = entry.key.rsplit_once('.').map_or("", |(table, _)| table);
        let found = self.0.get(&entry.key);
        found
            .or_else(|| self.0.get(table).filter(|_| !is_empty && is_element(table)))
            .unwrap_or(&Provenance::Default)
    }

    /// Formats a config as TOML, as [`Config::to_toml`] does, and adds a list of the values that are not defaults, as comments
    /// with the origin of each. A secret from a variable is left out.
    ///
    /// # Errors
    ///
    /// The error of the serializer, as for [`Config::to_toml`].
    pub fn annotate(&self, config: &Config) -> Result<String, toml::ser::Error> {
        let text = config.to_toml()?;
        let entries = position::entries(&text);
        let values = entries.iter().filter(|entry| !entry.is_table);
        let values: Vec<(&Entry, &Provenance)> = values
            .map(|entry| (entry, self.of_value(entry, &text)))
            .collect();
        let mut annotated = without_secrets(&text, &values);
        let set = values
            .iter()
            .filter(|(_, origin)| **origin != Provenance::Default);
        let set: Vec<_> = set.map(|(entry, origin)| (&entry.key, origin)).collect();
        annotated.push_str(match set.is_empty() {
            true => "\n# Every value is a default.\n",
            false => "\n# Where the values come from. Those that are not listed are defaults.\n",
        });
        let width = set.iter().map(|(key, _)| key.len()).max();
        let width = width.unwrap_or_default().min(MAX_WIDTH);
        for (key, origin) in set {
            // Writing to a String can't fail.
            let _ = writeln!(
                annotated,
                "# {:width$}   {origin}",
                key.escape_debug().to_string()
            );
        }
        Ok(annotated)
    }
}

/// Returns the text of a config with a comment in place of each secret that came from a variable.
fn without_secrets(text: &str, values: &[(&Entry, &Provenance)]) -> String {
    let mut kept = String::with_capacity(text.len() * 2);
    let mut written = 0;
    for (Entry { key, span, .. }, origin) in values {
        let Provenance::Variable(variable) = origin else {
            continue;
        };
        if !is_secret_key(key) {
            continue;
        }
        let begin = text.get(..span.start).and_then(|text| text.rfind('\n'));
        let begin = begin.map_or(0, |at| at + 1);
        kept.push_str(text.get(written..begin).unwrap_or_default());
        let name = key.rsplit('.').next().unwrap_or_default();
        // Writing to a String can't fail.
        let _ = write!(kept, "# {name} is not shown: it came from {variable}");
        written = span.end;
    }
    kept.push_str(text.get(written..).unwrap_or_default());
    kept
}

/// Returns whether a dotted key is that of an element of an array.
fn is_element(key: &str) -> bool {
    key.rsplit_once('.').is_some_and(|(_, last)| is_index(last))
}

/// Returns whether a part of a dotted key is an index.
fn is_index(part: &str) -> bool {
    part.parse::<usize>().is_ok()
}

/// Returns the values of a config by their dotted keys.
fn values(config: &Config) -> BTreeMap<String, Value> {
    fn walk(key: &str, value: Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Table(table) => {
                for (name, value) in table {
                    walk(&format!("{key}.{name}"), value, found);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_table) => {
                for (index, item) in items.into_iter().enumerate() {
                    walk(&format!("{key}.{index}"), item, found);
                }
            }
            value => drop(found.insert(key.to_owned(), value)),
        }
    }
    let mut found = BTreeMap::new();
    for (name, value) in Table::try_from(config).unwrap_or_default() {
        walk(&name, value, &mut found);
    }
    found
}

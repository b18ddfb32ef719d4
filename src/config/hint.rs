//! Hints on what to write instead of a wrong key or value.
//!
//! Serves the errors of the config. The known keys and the examples of their values are taken from the shipped
//! imd.toml, which has every key; a key without a default is there as a comment.

use super::{SHIPPED, VARIABLE_PREFIX};
use crate::byte_size;

/// The sections that may occur several times, with double brackets.
const ARRAYS_OF_TABLES: [&str; 5] = ["access", "user", "group", "fault", "gateway.advertise_to"];

/// Examples that the shipped imd.toml does not have, as section, key and value.
const EXTRA_EXAMPLES: [(&str, &str, &str); 17] = [
    ("admin", "hosts", "[\"im.example.org\"]"),
    ("http", "hosts", "[\"im.example.org\"]"),
    ("http", "cors_origins", "[\"http://localhost:5173\"]"),
    ("fault", "name", "\"lost\""),
    ("fault", "uid", "7"),
    ("fault", "access", "\"access-1\""),
    ("fault", "session", "3"),
    ("fault", "direction", "\"in\""),
    ("fault", "nth", "2"),
    ("fault", "after", "3"),
    ("fault", "probability", "0.5"),
    ("fault", "for", "\"10s\""),
    ("fault", "delay", "\"2s\""),
    ("fault", "jitter", "\"1s\""),
    ("fault", "error", "90001"),
    ("fault", "throttle", "1000"),
    ("fault", "slice", "1"),
];

/// The similarity, from 0 to 1, from which on a known name is suggested for an unknown one.
const MIN_SIMILARITY: f64 = 0.75;

/// Returns the message of the TOML parser about a key, followed by what to write instead. The value of a secret is
/// removed from the message.
pub fn explain(key: &str, message: &str) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    let hint = if message.starts_with("invalid ") || message.starts_with("wanted ") {
        wrong_type(&parts, message)
    } else if let Some(rest) = message.strip_prefix("missing field ") {
        let name = in_backticks(rest).next().unwrap_or_default();
        example(section(&parts), name).map(|value| format!("write {name} = {value}"))
    } else if message.starts_with("unknown ") {
        suggest_name(message)
    } else {
        None
    };
    let is_secret = parts.last().is_some_and(|name| is_secret(name));
    let message = match message.split_once(", expected ") {
        Some((_, expected)) if is_secret => format!("expected {expected}"),
        _ => message.to_owned(),
    };
    hint.map_or(message.clone(), |hint| format!("{message}: {hint}"))
}

/// Returns the message of the TOML parser about the value of a variable, followed by what to write instead.
pub fn explain_variable(variable: &str, key: &str, message: &str) -> String {
    let message = match message.split_once(", expected ") {
        Some((_, expected)) if is_secret_key(key) => format!("expected {expected}"),
        _ => message.to_owned(),
    };
    match suggest_name(&message).filter(|_| message.starts_with("unknown ")) {
        Some(hint) => format!("{message}: {hint}"),
        None => with_example(variable, &message),
    }
}

/// Returns a message about a variable, followed by an example of its value if there is one.
pub fn with_example(variable: &str, message: &str) -> String {
    let key = variable.strip_prefix(VARIABLE_PREFIX).unwrap_or(variable);
    let key = without_indices(&key.to_ascii_lowercase().replace("__", "."));
    let (section, name) = key.rsplit_once('.').unwrap_or(("", &key));
    match example(section, name) {
        Some(value) => format!("{message}: write {variable}={}", without_quotes(&value)),
        None => message.to_owned(),
    }
}

/// Returns a dotted key without the indices of arrays.
pub fn without_indices(key: &str) -> String {
    let names = key.split('.').filter(|part| !is_index(part));
    names.collect::<Vec<&str>>().join(".")
}

/// Returns an example in TOML as the text of a variable: without quotes, and a list with commas alone.
fn without_quotes(example: &str) -> String {
    let items = example.trim_matches(['[', ']']).split(',');
    let items = items.map(|item| item.trim().trim_matches('"'));
    items.collect::<Vec<&str>>().join(",")
}

/// Returns whether the value of a dotted key is a secret.
pub fn is_secret_key(key: &str) -> bool {
    key.rsplit('.').next().is_some_and(is_secret)
}

/// Returns whether the value of a key is a secret, which an error must not repeat.
pub fn is_secret(name: &str) -> bool {
    ["pw", "token", "salt"].contains(&name)
}

/// Returns a hint for a line that can't be parsed, because its value lacks quotes or is no value at all. `line` counts
/// from 1. None if the key of the line is not known.
pub fn of_line(text: &str, line: usize) -> Option<String> {
    let (name, value) = text.lines().nth(line - 1)?.split_once('=')?;
    let name = name.trim();
    let before = text.lines().take(line);
    let header = before
        .filter(|line| line.trim_start().starts_with('['))
        .last();
    let (section, name) = match (header, name.split_once('.')) {
        (None, Some((section, name))) => (section, name),
        _ => (header.map_or("", name_of_header), name),
    };
    let example = example(section, name)?;
    // A size with a unit has to be a text, although the example is a number.
    let size = without_comment(value.trim());
    let example = match byte_size::parse(size) {
        Ok(_) if is_number(&example) => format!("\"{size}\""),
        _ => example,
    };
    Some(format!("write it as {name} = {example}"))
}

/// Returns the name of the section in a header such as `[store]` or `[[access]]`.
fn name_of_header(header: &str) -> &str {
    let name = header.split('#').next().unwrap_or_default();
    name.trim().trim_matches(['[', ']']).trim()
}

/// Returns the section of a dotted key, which is the longest one if it lies in two, such as `gateway.advertise_to`. Empty
/// for a key outside all sections.
fn section(parts: &[&str]) -> &'static str {
    let holds = |section: &&str| {
        let names: Vec<_> = section.split('.').collect();
        parts.starts_with(&names)
    };
    let known = known_sections().filter(holds);
    known.max_by_key(|section| section.len()).unwrap_or("")
}

/// Returns a hint for a value of the wrong type. It suggests the value that was found, if that only needs another form.
fn wrong_type(parts: &[&str], message: &str) -> Option<String> {
    let found = message.split(", expected").next().unwrap_or_default();
    let is_section = |name: &str| known_sections().any(|known| known == name);
    let whole = parts.join(".");
    match parts {
        _ if ARRAYS_OF_TABLES.contains(&&*whole) => {
            return Some(format!(
                "write [[{whole}]], with two brackets, once for each"
            ));
        }
        [name] if is_section(name) => {
            return Some(format!("write [{name}], and its keys below"));
        }
        [name, index]
            if !ARRAYS_OF_TABLES.contains(name) && is_section(name) && is_index(index) =>
        {
            return Some(format!(
                "write [{name}], with one bracket: there is only one"
            ));
        }
        _ => {}
    }
    let name = parts.iter().rev().find(|part| !is_index(part))?;
    let value = example(section(parts), name)?;
    let value = as_example(found, &value).unwrap_or(value);
    Some(format!("write it as {name} = {value}"))
}

/// Returns whether a part of a dotted key is an index into an array.
fn is_index(part: &str) -> bool {
    part.parse::<usize>().is_ok()
}

/// Returns the value that was found in the form of the example: a number as a duration, or a text as a number. None if
/// it is neither.
fn as_example(found: &str, example: &str) -> Option<String> {
    let within = |start, end| {
        found
            .split_once(start)?
            .1
            .rsplit_once(end)
            .map(|(it, _)| it)
    };
    let is_time = humantime::parse_duration(example.trim_matches('"')).is_ok();
    match (within("`", "`"), within("\"", "\"")) {
        // A bare number most likely means seconds.
        (Some(number), _)
            if is_time
                && example.starts_with('"')
                && number.parse::<f64>().is_ok_and(|n| n >= 0.0) =>
        {
            Some(match number.parse::<u64>() {
                Ok(seconds) => format!("\"{seconds}s\""),
                Err(_) => example.to_owned(),
            })
        }
        (_, Some(text)) if is_number(example) && text.parse::<u64>().is_ok() => {
            Some(text.to_owned())
        }
        _ => None,
    }
}

/// Returns whether an example is a number, as TOML writes it.
fn is_number(example: &str) -> bool {
    example.replace('_', "").parse::<f64>().is_ok()
}

/// Returns a hint for an unknown name: the most similar known name, or the section that has a key of this name.
fn suggest_name(message: &str) -> Option<String> {
    let mut names = in_backticks(message);
    let name = names.next()?;
    let similarity = |known: &str| strsim::jaro_winkler(&name.to_lowercase(), known);
    let most_similar = names.max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    if let Some(known) = most_similar.filter(|known| similarity(known) >= MIN_SIMILARITY) {
        return Some(format!("did you mean {known}?"));
    }
    let other_section = known_sections().find(|section| example(section, name).is_some());
    let other_section = other_section.filter(|_| message.starts_with("unknown field"))?;
    Some(format!("{name} belongs to [{other_section}]"))
}

/// Returns the texts between backticks in a message of the TOML parser.
fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the names of all sections of the shipped imd.toml.
fn known_sections() -> impl Iterator<Item = &'static str> {
    entries().filter_map(|entry| match entry {
        Entry::Section(name) => Some(name),
        Entry::Key(..) => None,
    })
}

/// Returns an example of a key's value, as TOML. None if there is no such key.
fn example(section: &str, name: &str) -> Option<String> {
    let extra = EXTRA_EXAMPLES
        .iter()
        .find(|(known, key, _)| (*known, *key) == (section, name));
    if let Some((_, _, value)) = extra {
        return Some((*value).to_owned());
    }
    let mut current = "";
    for entry in entries() {
        match entry {
            Entry::Section(name) => current = name,
            Entry::Key(key, value) if (current, key) == (section, name) => {
                return Some(value.to_owned());
            }
            Entry::Key(..) => {}
        }
    }
    None
}

/// A line of the shipped imd.toml that is a header or a key, possibly in a comment.
enum Entry {
    /// The name of a section.
    Section(&'static str),
    /// A key, and its value as TOML.
    Key(&'static str, &'static str),
}

/// Returns the headers and the keys of the shipped imd.toml, including those in comments.
fn entries() -> impl Iterator<Item = Entry> {
    SHIPPED.lines().filter_map(|line| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') {
            return Some(Entry::Section(name_of_header(line)));
        }
        let (key, value) = line.split_once(" = ")?;
        let is_key = !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_key.then(|| Entry::Key(key, without_comment(value)))
    })
}

/// Removes the comment after a value.
fn without_comment(value: &str) -> &str {
    let mut in_quotes = false;
    let end = value.find(|c| {
        in_quotes ^= c == '"';
        c == '#' && !in_quotes
    });
    value
        .get(..end.unwrap_or(value.len()))
        .unwrap_or(value)
        .trim_end()
}

/// Returns the dotted keys of the shipped imd.toml, also those in comments, and those of the further examples.
#[cfg(test)]
pub fn known_keys() -> impl Iterator<Item = String> {
    let mut section = "";
    let shipped = entries().filter_map(move |entry| match entry {
        Entry::Section(name) => {
            section = name;
            None
        }
        Entry::Key(name, _) => Some((section, name)),
    });
    let extra = EXTRA_EXAMPLES
        .iter()
        .map(|(section, name, _)| (*section, *name));
    let keys = shipped.chain(extra);
    keys.map(|(section, name)| {
        format!("{section}.{name}")
            .trim_start_matches('.')
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_shipped_file_has_an_example() {
        let table: toml::Table = toml::from_str(SHIPPED).unwrap();
        let mut keys = 0;
        for (section_name, section) in &table {
            let Some(section) = section.as_table() else {
                continue;
            };
            for (key, value) in section {
                let written = example(section_name, key).unwrap();
                if !EXTRA_EXAMPLES.iter().any(|(_, extra, _)| extra == key) {
                    let read: toml::Table = toml::from_str(&format!("x = {written}")).unwrap();
                    assert_eq!(&read["x"], value, "{section_name}.{key}");
                }
                keys += 1;
            }
        }
        assert!(keys > 40, "only {keys} keys were found");
        assert_eq!(example("auth", "salt").as_deref(), Some("\"!0h#?123(ABM\""));
        assert_eq!(example("store", "keep").as_deref(), Some("\"30d\""));
        assert_eq!(example("group", "members").as_deref(), Some("[7, 8]"));
        assert_eq!(example("", "seed").as_deref(), Some("0"));
    }

    #[test]
    fn an_explanation_does_not_repeat_a_secret() {
        for key in ["user.0.pw", "admin.token", "auth.salt"] {
            let told = explain(key, "invalid type: integer `1234`, expected a string");
            assert!(
                told.starts_with("expected a string: write it as "),
                "{told}"
            );
        }
    }

    #[test]
    fn every_extra_example_can_be_parsed() {
        for (section, key, value) in EXTRA_EXAMPLES {
            let written: toml::Table = toml::from_str(&format!("{key} = {value}")).unwrap();
            assert!(written.contains_key(key), "{section}.{key}");
        }
    }
}

//! What to write instead of what a config says wrongly: the keys that there are, and how their values are written.
//!
//! The examples are those of the shipped imd.toml, also of the keys that stand there in comments.

use super::SHIPPED;
use crate::byte_size;

/// Sections of which there may be several.
const LISTS: [&str; 4] = ["access", "user", "group", "fault"];

/// Values that the shipped imd.toml has no example of.
const MORE: [(&str, &str, &str); 16] = [
    ("admin", "hosts", "[\"im.example.org\"]"),
    ("http", "hosts", "[\"im.example.org\"]"),
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

/// How near a name has to be to a known one to be meant as that.
const NEAR: f64 = 0.75;

/// Returns what TOML's reader says of a key, followed by what to write instead.
pub fn explain(key: &str, message: &str) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    let hint = if message.starts_with("invalid ") || message.starts_with("wanted ") {
        wrong_type(&parts, message)
    } else if let Some(rest) = message.strip_prefix("missing field ") {
        let name = quoted(rest).next().unwrap_or_default();
        example(section(&parts), name).map(|value| format!("write {name} = {value}"))
    } else if message.starts_with("unknown ") {
        unknown(message)
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

/// Whether the value of a key must not be repeated in an error.
pub fn is_secret(name: &str) -> bool {
    ["pw", "token", "salt"].contains(&name)
}

/// Returns how a value is written that stands without quotes, or is no value at all, in a line of a section.
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
    // A size is a text where it has a unit.
    let size = without_comment(value.trim());
    let example = match byte_size::parse(size) {
        Ok(_) if is_number(&example) => format!("\"{size}\""),
        _ => example,
    };
    Some(format!("write it as {name} = {example}"))
}

fn name_of_header(header: &str) -> &str {
    let name = header.split('#').next().unwrap_or_default();
    name.trim().trim_matches(['[', ']']).trim()
}

/// The name of the section that a dotted key stands in; empty for a key of the whole config.
fn section<'a>(parts: &[&'a str]) -> &'a str {
    match parts {
        [name] if known_sections().any(|known| known == *name) => name,
        [_] | [] => "",
        [section, ..] => section,
    }
}

fn wrong_type(parts: &[&str], message: &str) -> Option<String> {
    let found = message.split(", expected").next().unwrap_or_default();
    let is_section = |name: &str| known_sections().any(|known| known == name);
    match parts {
        [name] if LISTS.contains(name) => {
            return Some(format!(
                "write [[{name}]], with two brackets, once for each"
            ));
        }
        [name] if is_section(name) => {
            return Some(format!("write [{name}], and its keys below"));
        }
        [name, index] if !LISTS.contains(name) && is_section(name) && is_index(index) => {
            return Some(format!(
                "write [{name}], with one bracket: there is only one"
            ));
        }
        _ => {}
    }
    let name = parts.iter().rev().find(|part| !is_index(part))?;
    let value = example(section(parts), name)?;
    let value = near(found, &value).unwrap_or(value);
    Some(format!("write it as {name} = {value}"))
}

fn is_index(part: &str) -> bool {
    part.parse::<usize>().is_ok()
}

/// The value that was found, written as the example is, where that can be told.
fn near(found: &str, example: &str) -> Option<String> {
    let within = |start, end| {
        found
            .split_once(start)?
            .1
            .rsplit_once(end)
            .map(|(it, _)| it)
    };
    let is_time = humantime::parse_duration(example.trim_matches('"')).is_ok();
    match (within("`", "`"), within("\"", "\"")) {
        // Seconds are what is mostly meant.
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

fn is_number(example: &str) -> bool {
    example.replace('_', "").parse::<f64>().is_ok()
}

/// What a name that is not known may have been meant as.
fn unknown(message: &str) -> Option<String> {
    let mut names = quoted(message);
    let name = names.next()?;
    let nearness = |known: &str| strsim::jaro_winkler(&name.to_lowercase(), known);
    let nearest = names.max_by(|a, b| nearness(a).total_cmp(&nearness(b)));
    if let Some(known) = nearest.filter(|known| nearness(known) >= NEAR) {
        return Some(format!("did you mean {known}?"));
    }
    let elsewhere = known_sections().find(|section| example(section, name).is_some());
    let elsewhere = elsewhere.filter(|_| message.starts_with("unknown field"))?;
    Some(format!("{name} belongs to [{elsewhere}]"))
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn known_sections() -> impl Iterator<Item = &'static str> {
    entries().filter_map(|entry| match entry {
        Entry::Section(name) => Some(name),
        Entry::Key(..) => None,
    })
}

/// How the value of a key is written.
fn example(section: &str, name: &str) -> Option<String> {
    let more = MORE
        .iter()
        .find(|(known, key, _)| (*known, *key) == (section, name));
    if let Some((_, _, value)) = more {
        return Some((*value).to_owned());
    }
    let mut here = "";
    for entry in entries() {
        match entry {
            Entry::Section(name) => here = name,
            Entry::Key(key, value) if (here, key) == (section, name) => {
                return Some(value.to_owned());
            }
            Entry::Key(..) => {}
        }
    }
    None
}

/// A line of the shipped imd.toml.
enum Entry {
    Section(&'static str),
    Key(&'static str, &'static str),
}

/// The lines that say something, also those in comments.
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

/// A value without the comment behind it.
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
                if !MORE.iter().any(|(_, more, _)| more == key) {
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
    fn a_secret_is_not_repeated() {
        for key in ["user.0.pw", "admin.token", "auth.salt"] {
            let told = explain(key, "invalid type: integer `1234`, expected a string");
            assert!(
                told.starts_with("expected a string: write it as "),
                "{told}"
            );
        }
    }

    #[test]
    fn the_examples_that_are_not_shipped_can_be_read() {
        for (section, key, value) in MORE {
            let written: toml::Table = toml::from_str(&format!("{key} = {value}")).unwrap();
            assert!(written.contains_key(key), "{section}.{key}");
        }
    }
}

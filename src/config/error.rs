//! The errors of a config, and where in its file each of them stands: file, line and dotted key.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::hint;
use crate::text::{self, NotText};

/// The longest file that is read as a config, in bytes. Users and groups for a longer one belong into a snapshot.
const LONGEST: u64 = 16 << 20;

/// Why a config can't be used. Its text says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{name}: {source} (give another file with --config FILE, or none for the defaults)")]
    Unreadable {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The file is longer than any config, or has no end.
    #[error(
        "{name}: it has more than {LONGEST} bytes, so it is no config (give another file with --config FILE)"
    )]
    TooLong {
        /// The file.
        name: String,
    },
    /// Something in it is wrong.
    #[error("{place}{}", Shown(message))]
    Invalid {
        /// File, line and key, as far as they are known.
        place: Place,
        /// What is wrong.
        message: String,
    },
}

/// Where in a config something stands. Written as `imd.toml:12: session.idle: `.
#[derive(Debug, Default)]
pub struct Place {
    file: String,
    line: Option<usize>,
    key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", Shown(&self.key))?;
        }
        Ok(())
    }
}

/// The longest text of a file that an error repeats as a whole, in characters.
const SHOWN: usize = 800;

/// A text that may repeat what stands in a file, as a line for people: control characters are escaped, and the middle of a
/// text that is too long is left out. Its end says what to write instead.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.chars().count();
        let left_out = SHOWN / 2..count.saturating_sub(SHOWN / 2);
        for (at, char) in self.0.chars().enumerate() {
            if left_out.contains(&at) {
                if at == left_out.start {
                    f.write_str(" ... ")?;
                }
            } else if char.is_control() {
                write!(f, "{}", char.escape_default())?;
            } else {
                write!(f, "{char}")?;
            }
        }
        Ok(())
    }
}

/// What [`Config::check`](super::Config::check) finds: a key such as `access.1.name`, and what is wrong with it.
#[derive(Debug)]
pub struct Invalid {
    pub key: String,
    pub message: String,
    /// Another key that is as much to blame; it ends the message.
    pub rival: Option<String>,
}

/// Passes where a value `holds` what its key demands.
///
/// # Errors
///
/// The key, with the message.
pub fn ensure(holds: bool, key: &str, message: impl FnOnce() -> String) -> Result<(), Invalid> {
    if holds {
        return Ok(());
    }
    Err(Invalid {
        key: key.into(),
        message: message(),
        rival: None,
    })
}

impl Invalid {
    fn message(&self) -> String {
        match &self.rival {
            Some(rival) => format!("{} {rival}", self.message),
            None => self.message.clone(),
        }
    }
}

impl From<Invalid> for ConfigError {
    fn from(invalid: Invalid) -> Self {
        let message = invalid.message();
        let place = Place {
            key: invalid.key,
            ..Place::default()
        };
        ConfigError::Invalid { place, message }
    }
}

impl ConfigError {
    /// Reads a file that is to be a config.
    pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
        let name = path.display().to_string();
        match File::open(path).and_then(|file| text::read_within(LONGEST, file)) {
            Ok(bytes) => bytes.ok_or(ConfigError::TooLong { name }),
            Err(source) => Err(ConfigError::Unreadable { name, source }),
        }
    }

    pub(super) fn from_toml(error: &toml::de::Error, text: &str, file: &str) -> Self {
        let line = error.span().map(|span| line_of(text, span.start));
        let key = error.span().and_then(|span| key_at(text, span));
        let mut message = error.message().replace('\n', " ");
        match (&key, line) {
            (Some(key), _) => message = hint::explain(key, &message),
            // Where no key can be named, the line itself can.
            (None, Some(line)) => {
                let source = text.lines().nth(line - 1).unwrap_or_default().trim();
                let name = source.split('=').next().unwrap_or_default().trim();
                let shown = if hint::is_secret(name) { name } else { source };
                let hint = hint::of_line(text, line).filter(|_| message != "duplicate key");
                let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
                message = format!("{message}: {shown}{hint}");
            }
            (None, None) => {}
        }
        let place = Place {
            file: file.into(),
            line,
            key: key.unwrap_or_default(),
        };
        ConfigError::Invalid { place, message }
    }

    /// Of two keys that are to blame, one that stands in the file is named first.
    pub(super) fn invalid(mut invalid: Invalid, text: &str, file: &str) -> Self {
        if let Some(rival) = &mut invalid.rival
            && !stands_in(text, &invalid.key)
            && stands_in(text, rival)
        {
            std::mem::swap(&mut invalid.key, rival);
        }
        let line = span_of(text, &invalid.key).map(|(span, _)| line_of(text, span.start));
        let message = invalid.message();
        let place = Place {
            file: file.into(),
            line,
            key: invalid.key,
        };
        ConfigError::Invalid { place, message }
    }

    /// The value of a key of this file can't be used, for a reason that shows only when it is used.
    pub fn unusable(file: &Path, key: &str, why: impl ToString) -> Self {
        let bytes = ConfigError::read_file(file).unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap_or_default();
        let invalid = Invalid {
            key: key.into(),
            message: why.to_string(),
            rival: None,
        };
        ConfigError::invalid(invalid, &text, &file.display().to_string())
    }

    /// A file that is not text.
    pub(super) fn no_text(error: NotText, file: &str) -> Self {
        let place = Place {
            file: file.into(),
            line: Some(error.line()),
            ..Place::default()
        };
        ConfigError::Invalid {
            place,
            message: error.to_string(),
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|&byte| byte == b'\n')
        .count()
        + 1
}

/// Where the value of a dotted key stands, or that of its nearest parent when the key itself was left out; and whether
/// it is the key's own.
fn span_of(text: &str, key: &str) -> Option<(Range<usize>, bool)> {
    let root = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut children = Children::Table(root.get_ref());
    for part in key.split('.') {
        let Some(value) = children.get(part) else {
            return found.map(|span| (span, false));
        };
        found = Some(value.span());
        children = Children::of(value.get_ref());
    }
    found.map(|span| (span, true))
}

fn stands_in(text: &str, key: &str) -> bool {
    span_of(text, key).is_some_and(|(_, own)| own)
}

/// The dotted key of the innermost value or key that covers a place.
fn key_at(text: &str, at: Range<usize>) -> Option<String> {
    let root = DeTable::parse(text).ok()?;
    let mut path: Vec<String> = Vec::new();
    let mut children = Children::Table(root.get_ref());
    while let Some((name, value)) = children.covering(&at) {
        path.push(name);
        children = Children::of(value.get_ref());
    }
    (!path.is_empty()).then(|| path.join("."))
}

enum Children<'a, 'i> {
    Table(&'a DeTable<'i>),
    Array(&'a [Spanned<DeValue<'i>>]),
    None,
}

impl<'a, 'i> Children<'a, 'i> {
    fn of(value: &'a DeValue<'i>) -> Self {
        match value {
            DeValue::Table(table) => Children::Table(table),
            DeValue::Array(array) => Children::Array(array),
            _ => Children::None,
        }
    }

    fn get(&self, name: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        match self {
            Children::Table(table) => table.get(name),
            Children::Array(array) => array.get(name.parse::<usize>().ok()?),
            Children::None => None,
        }
    }

    fn covering(&self, at: &Range<usize>) -> Option<(String, &'a Spanned<DeValue<'i>>)> {
        let covers = |span: Range<usize>| span.start <= at.start && at.end <= span.end;
        match self {
            Children::Table(table) => table
                .iter()
                .find(|(key, value)| covers(key.span()) || covers(value.span()) || holds(value, at))
                .map(|(key, value)| (key.get_ref().to_string(), value)),
            Children::Array(array) => array
                .iter()
                .enumerate()
                .find(|(_, value)| covers(value.span()) || holds(value, at))
                .map(|(index, value)| (index.to_string(), value)),
            Children::None => None,
        }
    }
}

/// The span of a `[table]` is its header alone; what it covers is in its children.
fn holds(value: &Spanned<DeValue<'_>>, at: &Range<usize>) -> bool {
    Children::of(value.get_ref()).covering(at).is_some()
}

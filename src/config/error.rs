//! The errors of a config, each with the file, the line and the dotted key that it is about.
//!
//! Serves the reading and the validation of a config. A message never repeats a secret, nor more than a part of a long
//! value.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use super::hint;
use super::position::{is_written_in, key_at, line_of, span_of};
use crate::text::{self, NotText};

/// The longest file that is read as a config, in bytes. A larger set of users and groups is loaded as a snapshot
/// instead.
const MAX_FILE: u64 = 16 << 20;

/// Why a config can't be used. The text of the error says where the mistake is, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The system can't open or read the file.
    #[error("{name}: {source} (give another file with --config FILE, or none for the defaults)")]
    Unreadable {
        /// The path of the file, as the user gave it.
        name: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is longer than any config, or is a device that has no end.
    #[error(
        "{name}: it has more than {MAX_FILE} bytes, so it is no config (give another file with --config FILE)"
    )]
    TooLong {
        /// The path of the file, as the user gave it.
        name: String,
    },
    /// The text is not TOML, or a key or a value is wrong.
    #[error("{location}{}", Escaped(message))]
    Invalid {
        /// The file, the line and the key, as far as they are known.
        location: Location,
        /// What is wrong, and what to write instead.
        message: String,
    },
}

/// A location in a config, displayed as `imd.toml:12: session.idle: `. Parts that are not known are left out.
#[derive(Debug, Default)]
pub struct Location {
    /// The path of the file. Empty for a config that was made by a program.
    file: String,
    /// The number of the line, from 1.
    line: Option<usize>,
    /// The dotted key, such as `access.1.name`, or the variable that sets it. Empty if the mistake belongs to no key.
    key: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", Escaped(&self.key))?;
        }
        Ok(())
    }
}

/// The longest text of a file that an error repeats in full, in characters.
const MAX_SHOWN: usize = 800;

/// Displays a text that may quote a file as one line. Control characters are escaped, and the middle of a text that is
/// too long is left out. The end is kept, because it says what to write instead.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.chars().count();
        let omitted = MAX_SHOWN / 2..count.saturating_sub(MAX_SHOWN / 2);
        for (at, char) in self.0.chars().enumerate() {
            if omitted.contains(&at) {
                if at == omitted.start {
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

/// The first mistake that [`Config::check`](super::Config::check) finds, before it is located in a file.
#[derive(Debug)]
pub struct Invalid {
    /// The dotted key whose value is wrong, such as `access.1.name`.
    pub key: String,
    /// What is wrong with the value, without the key.
    pub message: String,
    /// Another key whose value is wrong together with this one. It is appended to the message.
    pub rival: Option<String>,
}

/// Checks that a condition on the value of a key holds.
///
/// # Errors
///
/// The key and the message, when the condition does not hold.
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
    /// Returns the message with its other key, if it has one.
    pub(super) fn message(&self) -> String {
        match &self.rival {
            Some(rival) => format!("{} {rival}", self.message),
            None => self.message.clone(),
        }
    }
}

impl From<Invalid> for ConfigError {
    fn from(invalid: Invalid) -> Self {
        let message = invalid.message();
        let location = Location {
            key: invalid.key,
            ..Location::default()
        };
        ConfigError::Invalid { location, message }
    }
}

impl ConfigError {
    /// Reads the bytes of a file that is to be a config.
    ///
    /// # Errors
    ///
    /// [`Unreadable`](Self::Unreadable) or [`TooLong`](Self::TooLong).
    pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
        let name = path.display().to_string();
        match File::open(path).and_then(|file| text::read_within(MAX_FILE, file)) {
            Ok(bytes) => bytes.ok_or(ConfigError::TooLong { name }),
            Err(source) => Err(ConfigError::Unreadable { name, source }),
        }
    }

    /// Converts an error of the TOML parser, and adds the line, the key and a hint on what to write instead.
    pub(super) fn from_toml(error: &toml::de::Error, text: &str, file: &str) -> Self {
        let line = error.span().map(|span| line_of(text, span.start));
        let key = error.span().and_then(|span| key_at(text, span));
        let mut message = error.message().replace('\n', " ");
        match (&key, line) {
            (Some(key), _) => message = hint::explain(key, &message),
            // The text can't be parsed, so there is no key to name. The line itself is quoted instead.
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
        let location = Location {
            file: file.into(),
            line,
            key: key.unwrap_or_default(),
        };
        ConfigError::Invalid { location, message }
    }

    /// Locates a mistake in the text of a file. If two keys are wrong together, one that the file contains is named
    /// first, since the other has its default.
    pub(super) fn invalid(mut invalid: Invalid, text: &str, file: &str) -> Self {
        if let Some(rival) = &mut invalid.rival
            && !is_written_in(text, &invalid.key)
            && is_written_in(text, rival)
        {
            std::mem::swap(&mut invalid.key, rival);
        }
        let line = span_of(text, &invalid.key).map(|(span, _)| line_of(text, span.start));
        let message = invalid.message();
        let location = Location {
            file: file.into(),
            line,
            key: invalid.key,
        };
        ConfigError::Invalid { location, message }
    }

    /// Creates the error of an environment variable. The message follows its name.
    pub(super) fn of_variable(name: &str, message: impl Into<String>) -> Self {
        let location = Location {
            key: name.into(),
            ..Location::default()
        };
        ConfigError::Invalid {
            location,
            message: message.into(),
        }
    }

    /// Creates the error of a file that is not text in UTF-8.
    pub(super) fn not_text(error: NotText, file: &str) -> Self {
        let location = Location {
            file: file.into(),
            line: Some(error.line()),
            ..Location::default()
        };
        ConfigError::Invalid {
            location,
            message: error.to_string(),
        }
    }
}

//! Writing to stdout, which may be closed at any time.

use std::io::{self, ErrorKind, Write};

use super::failure::Failure;

/// Writes text and flushes it.
///
/// # Errors
///
/// [`Failure::OutputClosed`] when nobody reads it any more.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Failed(format!("stdout: {error}")),
    })
}

/// Writes a line.
///
/// # Errors
///
/// As [`write`].
pub fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

/// Writes a value as a line of JSON.
///
/// # Errors
///
/// As [`write`].
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))?;
    line(&text)
}

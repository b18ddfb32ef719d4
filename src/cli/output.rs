//! Writing to stdout, which may be closed at any time.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use super::escape::{escape_json, escape_lines};
use super::failure::Failure;

/// Writes text and flushes it. Its lines stay lines; other characters that a terminal would obey are written out.
///
/// # Errors
///
/// [`Failure::OutputClosed`] when nobody reads it any more.
pub fn write(text: &str) -> Result<(), Failure> {
    let text = escape_lines(text);
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
    json_text(&text)
}

/// Writes a value as JSON of several lines, for people.
///
/// # Errors
///
/// As [`write`].
pub fn json_pretty(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    json_text(&text.map_err(|error| Failure::Failed(error.to_string()))?)
}

/// Writes what is JSON already.
///
/// # Errors
///
/// As [`write`].
pub fn json_text(text: &str) -> Result<(), Failure> {
    line(&escape_json(text))
}

/// How often to look whether stdout is still read.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Resolves when nobody reads stdout any more, also while nothing is written to it.
pub async fn closed() {
    while !is_closed() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(unix)]
fn is_closed() -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    // What the system does not say is found out by the next write.
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds
            .iter()
            .any(|fd| fd.revents().is_some_and(|events| events.intersects(gone)))
}

/// There it is found out by the next write.
#[cfg(not(unix))]
fn is_closed() -> bool {
    false
}

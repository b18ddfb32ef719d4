//! Writing to stdout: one rule for every command.
//!
//! - A stdout that fails, such as a full disk, is a failure of the command: exit code 1.
//! - A reader who has gone is none: the command prints no more, and its exit code says what became of its work.
//! - A stdout that is not read blocks only commands that wait for nothing else. A command that handles signals prints
//!   with [`print`], so that a signal still ends it.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::escape::{escape_json, escape_lines};
use super::failure::Failure;

/// Writes text and flushes it. Its lines stay lines; other characters that a terminal would obey are written out. This
/// thread waits for whoever reads it: only for commands that a signal simply kills.
///
/// # Errors
///
/// [`Failure::OutputClosed`] when nobody reads it any more, and [`Failure::Failed`] when it can't be written.
pub fn write(text: &str) -> Result<(), Failure> {
    let text = escape_lines(text);
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(failed)
}

/// What is said of a stdout that can't be written to.
pub fn failed(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Failed(format!("stdout: {error}")),
    }
}

/// Writes a line, while the caller can go on with something else. Once the wait is given up, the line may still be
/// written.
///
/// # Errors
///
/// As [`write`].
pub async fn print(line: impl std::fmt::Display) -> Result<(), Failure> {
    let text = format!("{line}\n");
    let written = tokio::task::spawn_blocking(move || write(&text)).await;
    written.map_err(|error| Failure::Failed(format!("stdout: {error}")))?
}

/// Writes a value as a line of JSON, as [`print`] does.
///
/// # Errors
///
/// As [`write`].
pub async fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print_json_text(&as_json(value)?).await
}

/// Writes what is JSON already, as [`print`] does.
///
/// # Errors
///
/// As [`write`].
pub async fn print_json_text(text: &str) -> Result<(), Failure> {
    print(escape_json(text)).await
}

/// How long the last line of a process waits for its reader.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a command says that works until it is told to stop: its work waits for no reader.
pub struct Said(JoinHandle<Result<(), Failure>>);

impl Said {
    /// Prints the first lines as soon as they are read.
    pub fn begin(lines: String) -> Said {
        Said(tokio::spawn(async move {
            let said = print(lines).await;
            match &said {
                Err(Failure::OutputClosed) => tracing::info!("nobody reads stdout"),
                Err(error) => tracing::warn!(%error, "the first lines were not printed"),
                Ok(()) => {}
            }
            said
        }))
    }

    /// Prints the last line, if somebody reads it now. That nobody does is no failure.
    ///
    /// # Errors
    ///
    /// As [`write`], for the first lines too.
    pub async fn end(self, line: String) -> Result<(), Failure> {
        let printed = async {
            let begun = self.0.await;
            begun.map_err(|error| Failure::Failed(format!("stdout: {error}")))??;
            print(line).await
        };
        let printed = tokio::time::timeout(LAST_WORDS, printed).await;
        printed.unwrap_or(Ok(()))
    }
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
    json_text(&as_json(value)?)
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

fn as_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))
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

//! Writes to stdout, under one set of rules for every command.
//!
//! - A stdout that can't be written to, such as a full disk, fails the command with exit code 1.
//! - A stdout whose reader has gone is not a failure: the command stops printing, and its exit code reports only its
//!   work.
//! - A stdout that nobody reads blocks only commands that wait for nothing else. A command that handles signals
//!   prints with [`print()`], so that a signal still ends it.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::escape::{escape_json, escape_lines};
use super::failure::Failure;

/// Writes text to stdout and flushes it. Line feeds are kept; every other character that a terminal would obey is
/// escaped. Blocks the calling thread until the text is read, so only commands that a signal kills outright may call
/// it.
///
/// # Errors
///
/// [`Failure::OutputClosed`] when the reader of stdout has gone: the command should stop printing.
/// [`Failure::Failed`] when writing fails for another reason.
pub fn write(text: &str) -> Result<(), Failure> {
    let text = escape_lines(text);
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(failed)
}

/// Converts an error of stdout into the failure of the command.
pub fn failed(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Failed(format!("stdout: {error}")),
    }
}

/// Writes a line to stdout without blocking the caller's thread. A line whose future is dropped may still be written.
///
/// # Errors
///
/// The errors of [`write()`].
pub async fn print(line: impl std::fmt::Display) -> Result<(), Failure> {
    let text = format!("{line}\n");
    let written = tokio::task::spawn_blocking(move || write(&text)).await;
    written.map_err(|error| Failure::Failed(format!("stdout: {error}")))?
}

/// Writes a value as one line of JSON, under the rules of [`print()`].
///
/// # Errors
///
/// The errors of [`write()`].
pub async fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print_json_text(&as_json(value)?).await
}

/// Writes a text that is JSON already as one line, under the rules of [`print()`].
///
/// # Errors
///
/// The errors of [`write()`].
pub async fn print_json_text(text: &str) -> Result<(), Failure> {
    print(escape_json(text)).await
}

/// How long the end of a process waits for its last line to be read.
pub const FINAL_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The first and last lines of a command that runs until it is told to stop. They are printed in the background, so
/// that its work never waits for a reader of stdout.
pub struct StatusLines(JoinHandle<Result<(), Failure>>);

impl StatusLines {
    /// Starts to print the first lines and returns at once.
    pub fn begin(lines: String) -> StatusLines {
        StatusLines(tokio::spawn(async move {
            let said = print(lines).await;
            match &said {
                Err(Failure::OutputClosed) => tracing::info!("nobody reads stdout"),
                Err(error) => tracing::warn!(%error, "the first lines were not printed"),
                Ok(()) => {}
            }
            said
        }))
    }

    /// Prints the last line, unless stdout is not being read: then the line is given up after
    /// [`FINAL_WRITE_TIMEOUT`], which is not an error.
    ///
    /// # Errors
    ///
    /// The errors of [`write()`], for the first lines as well as for the last one.
    pub async fn end(self, line: String) -> Result<(), Failure> {
        let printed = async {
            let begun = self.0.await;
            begun.map_err(|error| Failure::Failed(format!("stdout: {error}")))??;
            print(line).await
        };
        let printed = tokio::time::timeout(FINAL_WRITE_TIMEOUT, printed).await;
        printed.unwrap_or(Ok(()))
    }
}

/// Writes a line to stdout, under the rules of [`write()`].
///
/// # Errors
///
/// The errors of [`write()`].
pub fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

/// Writes a value as one line of JSON, under the rules of [`write()`].
///
/// # Errors
///
/// The errors of [`write()`].
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    json_text(&as_json(value)?)
}

/// Writes a value as indented JSON, which is easier to read for people.
///
/// # Errors
///
/// The errors of [`write()`].
pub fn json_pretty(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    json_text(&text.map_err(|error| Failure::Failed(error.to_string()))?)
}

/// Writes a text that is JSON already as one line, under the rules of [`write()`].
///
/// # Errors
///
/// The errors of [`write()`].
pub fn json_text(text: &str) -> Result<(), Failure> {
    line(&escape_json(text))
}

fn as_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))
}

/// How often [`closed`] checks whether stdout still has a reader.
const CLOSED_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Resolves when the reader of stdout has gone, even while nothing is written to it.
pub async fn closed() {
    while !is_closed() {
        tokio::time::sleep(CLOSED_CHECK_INTERVAL).await;
    }
}

/// Returns whether the reader of stdout has gone.
#[cfg(unix)]
fn is_closed() -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let closed_flags = PollFlags::POLLERR | PollFlags::POLLHUP;
    // Where the system does not report it, the next write finds out.
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds.iter().any(|fd| {
            fd.revents()
                .is_some_and(|events| events.intersects(closed_flags))
        })
}

/// Always false: without `poll`, the next write finds out.
#[cfg(not(unix))]
fn is_closed() -> bool {
    false
}

//! Sets up logging to stderr.
//!
//! Serves `main`. Logs pass the queue of [`stderr`], so that logging never blocks a task.

use std::io::{self, IsTerminal, Write};
use std::time::SystemTime;

use clap::ValueEnum;
use imd::store::COMPACTION_STOPPED;
use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::failure::Failure;
use super::stderr;

/// How logs are written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people
    Pretty,
    /// A JSON object on each line
    Json,
}

/// Starts logging to stderr with the filter that RUST_LOG sets.
///
/// # Errors
///
/// [`Failure::Usage`] when RUST_LOG can't be parsed, and [`Failure::Failed`] when the writing thread or the logger
/// can't be started.
pub fn init(format: LogFormat) -> Result<(), Failure> {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let bad = |why: String| Failure::Usage(format!("RUST_LOG={wanted}: {why}"));
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse(&wanted)
        .map_err(|error| bad(error.to_string()))?;
    // The line editor logs every key that is pressed, and those keys are private messages.
    let quiet = "rustyline=off"
        .parse()
        .map_err(|error| bad(format!("{error}")))?;
    let tell_dropped = match format {
        LogFormat::Pretty => dropped_as_text,
        LogFormat::Json => dropped_as_json,
    };
    stderr::start(tell_dropped).map_err(|error| Failure::Failed(format!("no logs: {error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter.add_directive(quiet))
        .with_writer(|| Events)
        .with_ansi(io::stderr().is_terminal())
        // Internal errors would be printed by a macro that panics when stderr is closed.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Pretty => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| Failure::Failed(format!("no logs: {error}")))
}

/// Passes the formatted events on to stderr. It leaves out the errors of the store's engine about compactions that `imd` has
/// stopped itself.
struct Events;

impl Write for Events {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if is_stopped_compaction(event) {
            return Ok(event.len());
        }
        stderr::Logs.write(event)
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr::Logs.flush()
    }
}

/// Returns whether an event tells that a compaction was stopped, as at every end of a store that has much to merge.
fn is_stopped_compaction(event: &[u8]) -> bool {
    let text = COMPACTION_STOPPED.as_bytes();
    event.windows(text.len()).any(|window| window == text)
}

/// The text of the line that reports dropped lines.
const DROPPED: &str = "lines of log were dropped here: stderr was not read";

/// Builds the line that reports dropped lines, for people.
fn dropped_as_text(lines: u64) -> String {
    format!("imd: {lines} {DROPPED}\n")
}

/// Builds the line that reports dropped lines, in the JSON form of the other log lines.
fn dropped_as_json(lines: u64) -> String {
    let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let event = json!({
        "timestamp": now, "level": "WARN", "fields": { "message": DROPPED, "lines": lines }, "target": "imd",
    });
    format!("{event}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_compaction_is_no_error_and_a_failed_one_is() {
        let error = io::Error::other(COMPACTION_STOPPED);
        let event = format!("ERROR fjall::worker_pool: Worker #1 crashed: Storage(Io({error:?}))");
        assert!(is_stopped_compaction(event.as_bytes()));
        let failed = b"ERROR fjall::compaction::worker: Compaction failed: Io(no space left)";
        assert!(!is_stopped_compaction(failed));
    }
}

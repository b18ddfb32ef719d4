//! Sets up logging to stderr.
//!
//! Serves `main`. Logs pass the queue of [`stderr`], so that logging never blocks a task.

use std::io::{self, IsTerminal};
use std::time::SystemTime;

use clap::ValueEnum;
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
        .with_writer(|| stderr::Logs)
        .with_ansi(io::stderr().is_terminal())
        // Internal errors would be printed by a macro that panics when stderr is closed.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Pretty => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| Failure::Failed(format!("no logs: {error}")))
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

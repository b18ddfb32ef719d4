//! Logs go to stderr.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::failure::Failure;

/// How logs are written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people
    Pretty,
    /// A JSON object on each line
    Json,
}

/// Sends logs to stderr, as RUST_LOG says.
///
/// # Errors
///
/// When RUST_LOG can't be understood.
pub fn init(format: LogFormat) -> Result<(), Failure> {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let bad = |why: String| Failure::Usage(format!("RUST_LOG={wanted}: {why}"));
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse(&wanted)
        .map_err(|error| bad(error.to_string()))?;
    // It logs each key that is pressed, and these are messages.
    let quiet = "rustyline=off"
        .parse()
        .map_err(|error| bad(format!("{error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter.add_directive(quiet))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // These would be printed by a macro that panics when stderr is closed.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Pretty => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| Failure::Failed(format!("no logs: {error}")))
}

//! Shows the progress of a run of `imd bench` as a line on stderr.
//!
//! Serves the main thread, which watches the counts. Nothing is shown when stderr is not a terminal.

use std::io::{self, IsTerminal};

use imd::load::grouped;

use super::tally::Counts;
use crate::cli::stderr;

/// How often the line is rewritten, in nanoseconds.
const INTERVAL: u64 = 250_000_000;

/// A line that shows the progress, if stderr is a terminal. Dropping it removes the line.
pub struct Progress {
    /// Set when stderr is a terminal.
    is_enabled: bool,
    /// Set when messages are delivered in this run, whose rate is then shown too.
    delivers: bool,
    /// When the line was last written, in nanoseconds since the run began, and the counts at that time.
    last: (u64, Counts),
}

impl Progress {
    /// Creates a line that is not shown yet. `delivers` says whether messages are delivered in the run.
    pub fn new(delivers: bool) -> Self {
        Progress {
            is_enabled: io::stderr().is_terminal(),
            delivers,
            last: Default::default(),
        }
    }

    /// Rewrites the line if it is old enough.
    pub fn show(&mut self, now: u64, counts: &Counts) {
        let (before, last) = self.last;
        if !self.is_enabled || now < before + INTERVAL {
            return;
        }
        let per_sec = |now_at: u64, last_at: u64| {
            let more = now_at.saturating_sub(last_at) as f64;
            grouped(more * 1e9 / (now - before) as f64)
        };
        let secs = now as f64 / 1e9;
        let answered = per_sec(counts.answered, last.answered);
        let mut line = format!("{secs:6.1} s   {answered} answered per second");
        if self.delivers {
            let delivered = per_sec(counts.delivered, last.delivered);
            line.push_str(&format!("   {delivered} delivered"));
        }
        write(&line);
        self.last = (now, *counts);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_enabled {
            write("");
        }
    }
}

/// Replaces the text of the line.
fn write(line: &str) {
    stderr::write_warning(&format!("\r\x1b[K{line}"));
}

//! The line on stderr that shows how far a run of `imd bench` is.

use std::io::{self, IsTerminal};

use imd::load::grouped;

use super::tally::Counts;
use crate::cli::stderr;

/// How often the line is written anew, in nanoseconds.
const EVERY: u64 = 250_000_000;

/// Shows the line if stderr is a terminal. Dropping it removes the line.
pub struct Progress {
    is_on: bool,
    /// Whether messages are delivered in this run.
    delivers: bool,
    /// When the line was written last, in nanoseconds since the run began, and the counts at that time.
    last: (u64, Counts),
}

impl Progress {
    /// Creates a line that was not shown yet. `delivers` says whether the run has messages to be delivered.
    pub fn new(delivers: bool) -> Self {
        Progress {
            is_on: io::stderr().is_terminal(),
            delivers,
            last: Default::default(),
        }
    }

    /// Writes the line anew, if it is old enough.
    pub fn show(&mut self, now: u64, counts: &Counts) {
        let (before, last) = self.last;
        if !self.is_on || now < before + EVERY {
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
        if self.is_on {
            write("");
        }
    }
}

/// Replaces the contents of the terminal's line.
fn write(line: &str) {
    stderr::write_warning(&format!("\r\x1b[K{line}"));
}

use std::io::{self, IsTerminal};

use super::report::grouped;
use super::tally::Counts;
use crate::cli::stderr;

/// A new line so often, in nanoseconds.
const EVERY: u64 = 250_000_000;

/// A line on stderr that says how the run goes on; only on a terminal. Wiped off when dropped.
pub struct Progress {
    is_on: bool,
    /// Whether messages are delivered in this run.
    delivers: bool,
    /// When the line was written, and what the counts were then.
    last: (u64, Counts),
}

impl Progress {
    pub fn new(delivers: bool) -> Self {
        Progress {
            is_on: io::stderr().is_terminal(),
            delivers,
            last: Default::default(),
        }
    }

    /// Says how far the run is, at times.
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

/// Writes over what stands in the line.
fn write(line: &str) {
    stderr::say(&format!("\r\x1b[K{line}"));
}

use std::time::Duration;

use crate::proto::Code;

/// What a fault does. What that means at each site stands in docs/lab.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Waits, by `imd`'s clock; what comes behind waits too.
    Delay {
        /// So long at least.
        by: Duration,
        /// And so much more at the most.
        jitter: Duration,
    },
    /// It does not happen.
    Drop,
    /// It happens twice.
    Duplicate,
    /// It happens after the next one.
    Reorder,
    /// It fails with this code.
    Error(Code),
    /// The connection is reset.
    Reset,
    /// From now on nothing is read from the connection and nothing written to it; it stays open.
    HalfOpen,
    /// So many bytes of it leave in a second, by `imd`'s clock.
    Throttle(u64),
    /// So many bytes of it leave at a time.
    Slice(usize),
    /// Half of it leaves, then the connection is closed.
    Truncate,
    /// What was true before.
    Stale,
    /// A version is left out.
    Gap,
}

impl Action {
    /// What a timer for it ticks by, if it takes time.
    pub(super) fn every(&self) -> Option<Duration> {
        match *self {
            Action::Delay { by, .. } => (!by.is_zero()).then_some(by),
            Action::Throttle(rate) => Some(Duration::from_secs(1) / pieces(rate)),
            _ => None,
        }
    }

    /// How many bytes of what is throttled leave at a time.
    pub fn piece(rate: u64) -> usize {
        let piece = rate / u64::from(pieces(rate));
        usize::try_from(piece).unwrap_or(usize::MAX)
    }

    /// What it is called outside Rust.
    pub const fn name(&self) -> &'static str {
        match self {
            Action::Delay { .. } => "delay",
            Action::Drop => "drop",
            Action::Duplicate => "duplicate",
            Action::Reorder => "reorder",
            Action::Error(_) => "error",
            Action::Reset => "reset",
            Action::HalfOpen => "half_open",
            Action::Throttle(_) => "throttle",
            Action::Slice(_) => "slice",
            Action::Truncate => "truncate",
            Action::Stale => "stale",
            Action::Gap => "gap",
        }
    }
}

/// In so many pieces a second it leaves: ten, or one for each byte.
fn pieces(rate: u64) -> u32 {
    u32::try_from(rate.clamp(1, 10)).unwrap_or(10)
}

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
    /// The session is half-open from now on: see [`Session::half_open`](crate::session::Session::half_open).
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
            Action::Throttle(rate) => {
                let share = Action::piece(rate) as f64 / rate.max(1) as f64;
                Some(Duration::from_secs_f64(share))
            }
            _ => None,
        }
    }

    /// How many bytes of what is throttled leave at a time: a tenth of what leaves in a second.
    pub fn piece(rate: u64) -> usize {
        usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_throttled_leaves_at_its_rate() {
        for rate in [1, 9, 10, 11, 15, 19, 100, 12_345, 1_000_000] {
            let every = Action::Throttle(rate).every().unwrap();
            let per_second = Action::piece(rate) as f64 / every.as_secs_f64();
            assert!(
                (per_second / rate as f64 - 1.0).abs() < 0.001,
                "{rate}: {per_second}"
            );
        }
    }
}

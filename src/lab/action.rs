//! The actions: what a fault does to the frame or the call that it hits.
//!
//! Serves the rules, each of which has one action, and the modules with a site, which carry it out: the connection, the
//! services and the registration of an access server. The names of the actions are part of the formats of rules.

use std::time::Duration;

use crate::proto::Code;

/// What a fault does. docs/lab.md describes the effect of each action at each site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Waits before the frame or call goes on, by `imd`'s clock. Later frames of the session wait behind it.
    Delay {
        /// The shortest delay.
        by: Duration,
        /// Upper bound of a random addition to `by`.
        jitter: Duration,
    },
    /// Discards the frame, skips the call, or closes the accepted connection.
    Drop,
    /// Sends the frame or does the request twice, or gives out the last id again.
    Duplicate,
    /// Lets the next frame of the session overtake this one.
    Reorder,
    /// Fails with this code of the contract.
    Error(Code),
    /// Resets the connection (RST).
    Reset,
    /// Makes the session half-open: see [`Session::half_open`](crate::session::Session::half_open).
    HalfOpen,
    /// Writes the frame at this rate, in bytes per second of `imd`'s clock.
    Throttle(u64),
    /// Writes the frame in pieces of this many bytes, each with a write of its own.
    Slice(usize),
    /// Writes the first half of the frame, then closes the connection.
    Truncate,
    /// Answers with an earlier state: a page, an address or an id that is no longer current.
    Stale,
    /// Leaves the first entry of a page out, or makes a notify announce one version too many.
    Gap,
}

impl Action {
    /// Returns the period of the timer that the action needs, or `None` for an action that takes no time.
    pub(super) fn timer_period(&self) -> Option<Duration> {
        match *self {
            Action::Delay { by, .. } => (!by.is_zero()).then_some(by),
            Action::Throttle(rate) => {
                let share = Action::bytes_per_tick(rate) as f64 / rate.max(1) as f64;
                Some(Duration::from_secs_f64(share))
            }
            _ => None,
        }
    }

    /// Returns how many bytes of a throttled frame are written at a time: a tenth of `rate`, which is in bytes per second.
    pub fn bytes_per_tick(rate: u64) -> usize {
        usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1)
    }

    /// Returns the name of the action in imd.toml, JSON and on the command line.
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
    fn pieces_of_a_throttled_frame_add_up_to_its_rate() {
        for rate in [1, 9, 10, 11, 15, 19, 100, 12_345, 1_000_000] {
            let every = Action::Throttle(rate).timer_period().unwrap();
            let per_second = Action::bytes_per_tick(rate) as f64 / every.as_secs_f64();
            assert!(
                (per_second / rate as f64 - 1.0).abs() < 0.001,
                "{rate}: {per_second}"
            );
        }
    }
}

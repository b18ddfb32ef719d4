//! The bounds of the wall clock, and the arithmetic that keeps a clock within them.
//!
//! Serves both clocks: whatever is added to a wall clock is checked here first.

use std::time::Duration;

/// The earliest time of the wall clock, in Unix milliseconds: 1970-01-01T00:00:00Z.
pub const EARLIEST_MS: i64 = 0;

/// The latest time of the wall clock, in Unix milliseconds: 2038-01-01T00:00:00Z.
///
/// An id has 41 bits for its milliseconds, which suffice until September 2039. The time between is a reserve: while the
/// clock stands still at its latest time, ids take their milliseconds from it.
pub const LATEST_MS: i64 = 2_145_916_800_000;

/// The error of moving a clock whose wall clock would leave its bounds. The clock was not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the wall clock stays from {} to {}: from now ({}) it can go back by {} ms and forward by {} ms",
    date(EARLIEST_MS), date(LATEST_MS), date(self.now_ms()), self.now_ms() - EARLIEST_MS, LATEST_MS - self.now_ms(),
)]
pub struct OutOfBounds {
    /// The time of the wall clock when the move was refused, in Unix milliseconds.
    now_ms: i64,
}

impl OutOfBounds {
    /// Returns the time of the wall clock when the move was refused, in Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

/// Formats a time as RFC 3339, for people.
fn date(ms: i64) -> humantime::Rfc3339Timestamp {
    let ms = Duration::from_millis(ms.unsigned_abs());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + ms)
}

/// Clamps a time to the bounds of the wall clock.
pub(super) fn clamped(ms: i64) -> i64 {
    ms.clamp(EARLIEST_MS, LATEST_MS)
}

/// Returns the total skew after `by` milliseconds are added to `skew`. `unskewed` is the time of the wall clock without
/// any skew.
///
/// # Errors
///
/// [`OutOfBounds`], when the wall clock would leave its bounds.
pub(super) fn skewed(unskewed: i64, skew: i64, by: i64) -> Result<i64, OutOfBounds> {
    let total = skew.checked_add(by);
    let keeps_bounds = |skew: &i64| is_in_bounds(unskewed.checked_add(*skew));
    total.filter(keeps_bounds).ok_or(OutOfBounds {
        now_ms: clamped(unskewed.saturating_add(skew)),
    })
}

/// Checks that a wall clock whose time is `now` can advance by `by`.
///
/// # Errors
///
/// [`OutOfBounds`], when the wall clock would leave its bounds.
pub(super) fn check_advance(now: i64, by: Duration) -> Result<(), OutOfBounds> {
    let by = i64::try_from(by.as_millis()).ok();
    if by.is_some_and(|by| is_in_bounds(now.checked_add(by))) {
        Ok(())
    } else {
        Err(OutOfBounds { now_ms: now })
    }
}

/// Returns whether the wall clock can show a time. None, a time that overflowed, is out of bounds.
fn is_in_bounds(ms: Option<i64>) -> bool {
    ms.is_some_and(|ms| (EARLIEST_MS..=LATEST_MS).contains(&ms))
}

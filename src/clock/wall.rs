//! The bounds of the wall clock.

use std::time::Duration;

/// The first time that the wall clock can show: 1970-01-01T00:00:00Z, in Unix milliseconds.
pub const EARLIEST_MS: i64 = 0;

/// The last time that the wall clock can show: 2038-01-01T00:00:00Z, in Unix milliseconds.
///
/// An id has 41 bits for its milliseconds, which end in September 2039. What is between is room for the ids that are given
/// out on a clock that stands there.
pub const LATEST_MS: i64 = 2_145_916_800_000;

/// Why a clock was not moved: its wall clock would leave the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the wall clock stays from {} to {}: from now ({}) it can go back by {} ms and forward by {} ms",
    date(EARLIEST_MS), date(LATEST_MS), date(self.now_ms()), self.now_ms() - EARLIEST_MS, LATEST_MS - self.now_ms(),
)]
pub struct OutOfBounds {
    now_ms: i64,
}

impl OutOfBounds {
    /// What the wall clock shows, in Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

/// A time as people write it.
fn date(ms: i64) -> humantime::Rfc3339Timestamp {
    let ms = Duration::from_millis(ms.unsigned_abs());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + ms)
}

/// A time that the wall clock shows, or the nearest that it can.
pub(super) fn within(ms: i64) -> i64 {
    ms.clamp(EARLIEST_MS, LATEST_MS)
}

/// The skew of a wall clock which shows `unskewed` without it, moved by so much more.
///
/// # Errors
///
/// When the wall clock would leave its bounds.
pub(super) fn skewed(unskewed: i64, skew: i64, by: i64) -> Result<i64, OutOfBounds> {
    let moved = skew.checked_add(by);
    let fits = |skew: &i64| is_within(unskewed.checked_add(*skew));
    moved.filter(fits).ok_or(OutOfBounds {
        now_ms: within(unskewed.saturating_add(skew)),
    })
}

/// Makes sure that a wall clock which shows `now` can go forward by so much.
///
/// # Errors
///
/// When it would leave its bounds.
pub(super) fn can_go_on(now: i64, by: Duration) -> Result<(), OutOfBounds> {
    let by = i64::try_from(by.as_millis()).ok();
    if by.is_some_and(|by| is_within(now.checked_add(by))) {
        Ok(())
    } else {
        Err(OutOfBounds { now_ms: now })
    }
}

fn is_within(ms: Option<i64>) -> bool {
    ms.is_some_and(|ms| (EARLIEST_MS..=LATEST_MS).contains(&ms))
}

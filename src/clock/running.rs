//! Time in which this process ran: real time without the stops of the process or the machine.
//!
//! A process is stopped by SIGSTOP, by a debugger, and with its machine: a closed lid, a suspended virtual machine. When
//! it goes on, every timer of the runtime fires at once, although nobody had a chance to act meanwhile. Deadlines that
//! are counted here go on where they stood.
//!
//! [`RunTime`] is what the real clock counts by. [`sleep`] and [`timeout`] are for the few waits that are real time
//! although a test may have a clock of its own.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// How often a thread of its own shows that the process runs.
pub(super) const PULSE: Duration = Duration::from_millis(100);

/// The part of the time between two signs that counts at most. What is beyond it counts as a stop of the process.
///
/// A busy process still gives its signs, because the thread that gives them does nothing else. On a machine so busy that
/// this thread is kept waiting for longer than the limit, deadlines end later, but they do end: each such interval counts
/// half a second.
pub(super) const LIMIT: Duration = Duration::from_millis(500);

/// Counts the time in which the process ran. Times are nanoseconds since the clock was made.
#[derive(Debug, Default)]
pub(super) struct RunTime {
    /// When the process was last seen running.
    seen: AtomicU64,
    /// How long it was stopped so far.
    stopped: AtomicU64,
    /// Held while a stop is counted, so that it is counted once.
    counting: Mutex<()>,
}

impl RunTime {
    /// Counts all time from now on, for a clock without a thread that gives signs.
    pub(super) fn watch_no_more(&self) {
        self.seen.store(u64::MAX, Ordering::Release);
    }

    /// Notes that the process runs.
    pub(super) fn see(&self, real: Duration) {
        let _counting = self.counting.lock();
        let (real, seen) = (nanos(real), self.seen.load(Ordering::Acquire));
        let stopped = real.saturating_sub(seen).saturating_sub(nanos(LIMIT));
        // In this order: a thread that loads the new `seen` also loads the new `stopped`.
        self.stopped.fetch_add(stopped, Ordering::AcqRel);
        self.seen.fetch_max(real, Ordering::AcqRel);
    }

    /// Returns how long the process has run. `real` returns the time since the clock was made, stops included. The result
    /// never goes back.
    ///
    /// The first caller after a stop counts it: no caller sees the time of the stop.
    pub(super) fn now(&self, real: impl Fn() -> Duration) -> Duration {
        loop {
            let stopped = self.stopped.load(Ordering::Acquire);
            let passed = real();
            let now = nanos(passed);
            if now.saturating_sub(self.seen.load(Ordering::Acquire)) > nanos(LIMIT) {
                self.see(passed);
            } else if self.stopped.load(Ordering::Acquire) == stopped {
                // No stop was counted between the two loads, so `passed` and `stopped` belong together.
                return Duration::from_nanos(now.saturating_sub(stopped));
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A [`sleep`] that is kept in a place of its own, and polled now and then.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Sleeps for `time`. A stop of the process shortens the sleep by an eighth of `time` at most, by half of a short `time`.
pub async fn sleep(time: Duration) {
    let (count, part) = parts(time);
    for _ in 0..count {
        tokio::time::sleep(part).await;
    }
}

/// Returns into how many parts a wait is divided, and how long each is. A stop ends only the part that it falls into.
fn parts(time: Duration) -> (u32, Duration) {
    let count = match time.as_millis() / 250 {
        0..=2 => 2,
        3..=7 => 4,
        _ => 8,
    };
    (count, time / count)
}

/// The time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time is over")]
pub struct Elapsed;

/// Waits for `work`, for as long as [`sleep`] takes.
///
/// # Errors
///
/// [`Elapsed`], when the time is over before. The work is dropped then.
pub async fn timeout<T>(time: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = sleep(time) => Err(Elapsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_stop_counts_half_a_second_whoever_notices_it() {
        let time = RunTime::default();
        time.see(ms(100));
        assert_eq!(time.now(|| ms(200)), ms(200));
        // Stopped from 200 to 12,200.
        assert_eq!(time.now(|| ms(12_200)), ms(600));
        time.see(ms(12_200));
        assert_eq!(time.now(|| ms(12_300)), ms(700));
        // Once more; the thread that gives signs comes first.
        time.see(ms(72_300));
        assert_eq!(time.now(|| ms(72_300)), ms(1_100));
        assert_eq!(time.now(|| ms(72_400)), ms(1_200));
    }

    #[test]
    fn whoever_is_slow_to_give_signs_has_deadlines_all_the_same() {
        let time = RunTime::default();
        for n in 1..=100 {
            time.see(ms(n * 400));
            assert_eq!(time.now(|| ms(n * 400)), ms(n * 400));
        }
        for n in 1..=100 {
            time.see(ms(40_000 + n * 700));
            assert_eq!(time.now(|| ms(40_000 + n * 700)), ms(40_000 + n * 500));
        }
    }

    #[test]
    fn without_signs_all_time_counts() {
        let time = RunTime::default();
        time.watch_no_more();
        assert_eq!(time.now(|| ms(3_600_000)), ms(3_600_000));
    }

    /// The time is read before the stop, and used after another thread has noticed it.
    #[test]
    fn a_stop_in_the_middle_of_a_look_at_the_clock_does_not_turn_it_back() {
        let time = RunTime::default();
        time.see(ms(100));
        let before = time.now(|| ms(150));
        let is_stopped = AtomicBool::new(false);
        let now = time.now(|| {
            if is_stopped.swap(true, Ordering::Relaxed) {
                return ms(60_150);
            }
            time.see(ms(60_100));
            ms(150)
        });
        assert!(now >= before && now <= ms(700), "{now:?}");
    }

    #[test]
    fn a_wait_has_parts_of_which_a_stop_takes_one() {
        assert_eq!(parts(Duration::from_secs(8)), (8, Duration::from_secs(1)));
        assert_eq!(parts(ms(1_000)), (4, ms(250)));
        assert_eq!(parts(ms(250)), (2, ms(125)));
        assert_eq!(parts(Duration::ZERO), (2, Duration::ZERO));
        assert_eq!(parts(Duration::MAX), (8, Duration::MAX / 8));
    }

    #[tokio::test]
    async fn what_is_done_in_time_is_answered_also_when_the_time_is_over_too() {
        assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
        let never = std::future::pending::<()>();
        assert_eq!(timeout(ms(1), never).await, Err(Elapsed));
    }
}

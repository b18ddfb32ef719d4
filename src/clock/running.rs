//! The time for which this process has run: real time without the stops of the process or of the machine.
//!
//! A process is stopped by SIGSTOP, by a debugger, and together with its machine: by a closed lid, or when a virtual
//! machine is suspended. When it continues, every timer of the runtime that was due meanwhile fires at once, although
//! neither the process nor its clients could act. Deadlines that are measured here continue where they stood instead.
//!
//! [`RunTime`] serves the real clock. [`sleep`] and [`timeout`] serve the few waits that are real time with every
//! clock, such as the timeouts of the HTTP server.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// How often the thread of the real clock records that the process is running.
pub(super) const PULSE: Duration = Duration::from_millis(100);

/// The most that the time between two records counts as running. The rest counts as a stop of the process.
///
/// A busy process still records that it runs, because the recording thread does nothing else. On a machine so busy that
/// this thread has to wait for longer than the limit, deadlines expire later, but they do expire: each such interval
/// counts as half a second.
pub(super) const MAX_GAP: Duration = Duration::from_millis(500);

/// Measures for how long the process has run. All times are nanoseconds since the clock was created.
#[derive(Debug, Default)]
pub(super) struct RunTime {
    /// When the process was last recorded as running, in real time. `u64::MAX` once stops are no longer looked for.
    last_seen: AtomicU64,
    /// The time for which the process has been stopped so far.
    stopped: AtomicU64,
    /// Held while a stop is added to `stopped`, so that two threads do not add the same one.
    counting: Mutex<()>,
}

impl RunTime {
    /// Counts all time as running from now on. For a clock that has no thread to record that the process runs.
    pub(super) fn count_everything(&self) {
        self.last_seen.store(u64::MAX, Ordering::Release);
    }

    /// Records that the process is running, where `real` is the time since the clock was created. Adds the stop that
    /// has just ended, if there was one.
    pub(super) fn observe(&self, real: Duration) {
        let _counting = self.counting.lock();
        let (real, last_seen) = (nanos(real), self.last_seen.load(Ordering::Acquire));
        let stopped = real
            .saturating_sub(last_seen)
            .saturating_sub(nanos(MAX_GAP));
        // `stopped` is changed first, so that a thread that loads the new `last_seen` also loads the new `stopped`.
        self.stopped.fetch_add(stopped, Ordering::AcqRel);
        self.last_seen.fetch_max(real, Ordering::AcqRel);
    }

    /// Returns for how long the process has run. The result never goes back.
    ///
    /// `real` returns the time since the clock was created, stops included; it may be called several times. The first
    /// caller after a stop adds it to the stops, so no caller ever gets a time that includes one.
    pub(super) fn now(&self, real: impl Fn() -> Duration) -> Duration {
        loop {
            let stopped = self.stopped.load(Ordering::Acquire);
            let passed = real();
            let now = nanos(passed);
            if now.saturating_sub(self.last_seen.load(Ordering::Acquire)) > nanos(MAX_GAP) {
                self.observe(passed);
            } else if self.stopped.load(Ordering::Acquire) == stopped {
                // No stop was counted between the two loads, so `passed` and `stopped` belong together.
                return Duration::from_nanos(now.saturating_sub(stopped));
            }
        }
    }
}

/// Converts a duration into nanoseconds. 584 years is the longest that they can count.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A boxed [`sleep`], to be kept in a field and polled by hand.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Sleeps for `time`, in real time.
///
/// A stop of the process shortens the sleep by an eighth of `time` at most; by a quarter if `time` is less than 2 s,
/// and by a half if it is less than 750 ms. The sleep has no thread that would record stops, so it is divided into
/// parts instead: a stop ends only the current one.
pub async fn sleep(time: Duration) {
    let (count, part) = split(time);
    for _ in 0..count {
        tokio::time::sleep(part).await;
    }
}

/// Returns into how many parts a sleep is divided, and the length of each.
fn split(time: Duration) -> (u32, Duration) {
    let count = match time.as_millis() / 250 {
        0..=2 => 2,
        3..=7 => 4,
        _ => 8,
    };
    (count, time / count)
}

/// The error of [`timeout`]: the time was over before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time is over")]
pub struct Elapsed;

/// Waits for `work`, for no longer than a [`sleep`] of `time`. Work that is done when the time is over too is returned.
///
/// # Errors
///
/// [`Elapsed`], when the time is over before the work is done. The work has been dropped then.
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
    fn a_stop_counts_as_half_a_second_whether_a_reader_or_the_thread_notices_it() {
        let time = RunTime::default();
        time.observe(ms(100));
        assert_eq!(time.now(|| ms(200)), ms(200));
        // The process was stopped from 200 to 12,200, which a reader notices.
        assert_eq!(time.now(|| ms(12_200)), ms(600));
        time.observe(ms(12_200));
        assert_eq!(time.now(|| ms(12_300)), ms(700));
        // The process was stopped again, which the recording thread notices.
        time.observe(ms(72_300));
        assert_eq!(time.now(|| ms(72_300)), ms(1_100));
        assert_eq!(time.now(|| ms(72_400)), ms(1_200));
    }

    #[test]
    fn time_still_passes_while_every_record_is_late() {
        let time = RunTime::default();
        for n in 1..=100 {
            time.observe(ms(n * 400));
            assert_eq!(time.now(|| ms(n * 400)), ms(n * 400));
        }
        for n in 1..=100 {
            time.observe(ms(40_000 + n * 700));
            assert_eq!(time.now(|| ms(40_000 + n * 700)), ms(40_000 + n * 500));
        }
    }

    #[test]
    fn all_time_counts_without_a_recording_thread() {
        let time = RunTime::default();
        time.count_everything();
        assert_eq!(time.now(|| ms(3_600_000)), ms(3_600_000));
    }

    /// A reader reads the real time before a stop, and uses it after another thread has recorded that stop.
    #[test]
    fn a_stop_during_a_read_of_the_clock_does_not_turn_the_clock_back() {
        let time = RunTime::default();
        time.observe(ms(100));
        let before = time.now(|| ms(150));
        let is_stopped = AtomicBool::new(false);
        let now = time.now(|| {
            if is_stopped.swap(true, Ordering::Relaxed) {
                return ms(60_150);
            }
            time.observe(ms(60_100));
            ms(150)
        });
        assert!(now >= before && now <= ms(700), "{now:?}");
    }

    #[test]
    fn a_sleep_is_divided_into_parts_by_its_length() {
        assert_eq!(split(Duration::from_secs(8)), (8, Duration::from_secs(1)));
        assert_eq!(split(ms(1_000)), (4, ms(250)));
        assert_eq!(split(ms(250)), (2, ms(125)));
        assert_eq!(split(Duration::ZERO), (2, Duration::ZERO));
        assert_eq!(split(Duration::MAX), (8, Duration::MAX / 8));
    }

    #[tokio::test]
    async fn work_that_is_done_is_returned_even_if_the_time_is_over_too() {
        assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
        let never = std::future::pending::<()>();
        assert_eq!(timeout(ms(1), never).await, Err(Elapsed));
    }
}

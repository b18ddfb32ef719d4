//! The schedule of an open loop: what is due is handed to the users in turn, whatever became of what was due before.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use super::feed::Feed;
use super::floor::Floor;

/// One thread's part of the schedule: every `step`th request, from number `first` on.
pub struct Schedule {
    /// Requests per second, of all threads together.
    pub rate: f64,
    pub first: u64,
    pub step: u64,
    /// The number of the first request that is not made.
    pub end: u64,
    /// How long before a request is due the thread is awake and looks at the clock, in nanoseconds.
    pub early: u64,
}

/// Waking up takes about as long, in nanoseconds, and would count as latency. With a single core there is none to spare
/// for looking at the clock.
pub fn early(is_private: bool) -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    if is_private && cores == 1 { 0 } else { 150_000 }
}

impl Schedule {
    /// How many requests a run makes, at most; it ends by time or by number.
    pub fn length(rate: f64, time: Option<Duration>, count: Option<u64>) -> u64 {
        let in_time = time.map_or(u64::MAX, |time| (rate * time.as_secs_f64()).ceil() as u64);
        in_time.min(count.unwrap_or(u64::MAX))
    }

    /// When a request is due, in nanoseconds since the run began.
    fn due(&self, number: u64) -> u64 {
        (number as f64 * 1e9 / self.rate) as u64
    }

    /// Hands out the requests as they become due.
    pub async fn hand_out(self, feeds: Vec<Arc<Feed>>, floor: Floor) {
        let mut timer = Timer::new();
        let mut feeds = feeds.iter().cycle();
        let mut number = self.first;
        while number < self.end {
            let now = floor.now();
            while number < self.end && self.due(number) <= now {
                let Some(feed) = feeds.next() else {
                    return;
                };
                floor.desk.lock().tally.counts.scheduled += 1;
                feed.push(self.due(number));
                number += self.step;
            }
            let wait = self.due(number).saturating_sub(floor.now());
            if wait > self.early {
                timer.wait(wait - self.early).await;
            } else {
                // Connections that have something to do come first.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Waits more finely than tokio, whose timers tick once a millisecond.
struct Timer {
    #[cfg(target_os = "linux")]
    fine: Option<fine::Timer>,
}

impl Timer {
    #[cfg(target_os = "linux")]
    fn new() -> Timer {
        Timer {
            fine: fine::Timer::new().ok(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> Timer {
        Timer {}
    }

    async fn wait(&mut self, nanoseconds: u64) {
        // None at all would stop the system's timer.
        let wait = Duration::from_nanos(nanoseconds.max(1));
        #[cfg(target_os = "linux")]
        if let Some(fine) = &mut self.fine
            && fine.wait(wait).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(target_os = "linux")]
mod fine {
    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe::Receiver;

    /// The system's own timer.
    pub struct Timer {
        timer: TimerFd,
        /// The same one. It is no pipe, but can be read like one.
        expirations: Receiver,
    }

    impl Timer {
        pub fn new() -> io::Result<Timer> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            let same = timer.as_fd().try_clone_to_owned()?;
            Ok(Timer {
                timer,
                expirations: Receiver::from_owned_fd_unchecked(same)?,
            })
        }

        pub async fn wait(&mut self, wait: Duration) -> io::Result<()> {
            let once = Expiration::OneShot(TimeSpec::from(wait));
            self.timer.set(once, TimerSetTimeFlags::empty())?;
            // It brings 8 bytes. With room for more, tokio takes them for the last ones and waits the next time.
            match self.expirations.read(&mut [0; 16]).await? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_ends_by_time_or_by_number() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(Schedule::length(50.0, second, None), 50);
        assert_eq!(Schedule::length(50.0, second, Some(20)), 20);
        assert_eq!(Schedule::length(50.0, None, Some(200)), 200);
        assert_eq!(Schedule::length(0.5, second, None), 1);
    }

    #[tokio::test]
    async fn the_timer_waits_as_long_as_it_is_told() {
        let mut timer = Timer::new();
        for _ in 0..3 {
            let begun = std::time::Instant::now();
            timer.wait(300_000).await;
            assert!(begun.elapsed() >= Duration::from_nanos(300_000));
        }
    }
}

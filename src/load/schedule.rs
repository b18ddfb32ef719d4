//! The schedule of an open loop: requests are made when they are due, whatever became of those before.
//!
//! Serves the threads of `imd bench` and the latency rows of `examples/side_by_side`. No request is made early, and none is
//! left out when the thread was late: a latency that counts from the time when a request was due includes the wait that a
//! slow server has caused.

use std::time::{Duration, Instant};

/// One thread's part of a schedule: every `step`th request, from number `first` on.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// When request 0 is due.
    pub begun: Instant,
    /// Requests per second, of all threads together.
    pub rate: f64,
    /// The number of this thread's first request.
    pub first: u64,
    /// How many threads there are.
    pub step: u64,
    /// The number of the first request that is not made.
    pub end: u64,
    /// How long before a request is due the thread stops sleeping and watches the clock, in nanoseconds. Waking up takes
    /// long, and would count as latency.
    pub watch: u64,
}

impl Schedule {
    /// Returns how many requests a run makes that ends after a time or a number of requests, whichever comes first.
    pub fn length(rate: f64, time: Option<Duration>, count: Option<u64>) -> u64 {
        let in_time = time.map_or(u64::MAX, |time| (rate * time.as_secs_f64()).ceil() as u64);
        in_time.min(count.unwrap_or(u64::MAX))
    }

    /// Returns when a request is due, in nanoseconds since the run began.
    fn due(&self, number: u64) -> u64 {
        (number as f64 * 1e9 / self.rate) as u64
    }

    /// Calls `request` for each request, with the time when it is due. Returns after the last one.
    pub async fn run(&self, mut request: impl FnMut(u64)) {
        let mut timer = Timer::default();
        let mut number = self.first;
        while number < self.end {
            let wait = self.due(number).saturating_sub(nanos(self.begun.elapsed()));
            if wait > self.watch {
                timer.wait(Duration::from_nanos(wait - self.watch)).await;
            } else {
                // Connections that have something to do come first.
                tokio::task::yield_now().await;
            }
            let now = nanos(self.begun.elapsed());
            while number < self.end && self.due(number) <= now {
                request(self.due(number));
                number += self.step;
            }
        }
    }
}

/// Returns a duration in nanoseconds.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A timer that wakes up some 40 us late, where tokio's, which tick once a millisecond, are 900 us to 1,300 us late. Systems
/// other than Linux have only tokio's.
#[derive(Default)]
struct Timer {
    #[cfg(target_os = "linux")]
    fine: linux::Timer,
}

impl Timer {
    async fn wait(&mut self, time: Duration) {
        #[cfg(target_os = "linux")]
        if self.fine.wait(time).await.is_ok() {
            return;
        }
        tokio::time::sleep(time).await;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe::Receiver;

    /// A timerfd, and the reader through which tokio waits for it. The reader is meant for pipes, but reads whatever can be
    /// polled. `AsyncFd` is meant for this, but in tokio 1.54 its only constructors that are not deprecated are unsafe.
    #[derive(Default)]
    pub struct Timer(Option<(TimerFd, Receiver)>);

    impl Timer {
        pub async fn wait(&mut self, time: Duration) -> io::Result<()> {
            let (timer, expirations) = match &mut self.0 {
                Some(timer) => timer,
                none => none.insert(open()?),
            };
            // Zero would stop the timer.
            let time = TimeSpec::from(time.max(Duration::from_nanos(1)));
            timer.set(Expiration::OneShot(time), TimerSetTimeFlags::empty())?;
            // It returns 8 bytes. With room for more, tokio knows that nothing is left, and waits the next time.
            expirations.read(&mut [0; 16]).await.map(|_| ())
        }
    }

    fn open() -> io::Result<(TimerFd, Receiver)> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let same = timer.as_fd().try_clone_to_owned()?;
        Ok((timer, Receiver::from_owned_fd_unchecked(same)?))
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
    async fn the_timer_waits_at_least_as_long_as_asked_each_time() {
        let mut timer = Timer::default();
        for _ in 0..3 {
            let begun = Instant::now();
            let time = Duration::from_micros(300);
            timer.wait(time).await;
            assert!(begun.elapsed() >= time);
        }
    }

    #[tokio::test]
    async fn each_request_is_made_once_and_not_early() {
        let schedule = Schedule {
            begun: Instant::now(),
            rate: 2_000.0,
            first: 1,
            step: 3,
            end: 20,
            watch: 100_000,
        };
        let mut made = Vec::new();
        let begun = schedule.begun;
        let request = |due| made.push((due, nanos(begun.elapsed())));
        schedule.run(request).await;
        let due: Vec<u64> = made.iter().map(|(due, _)| due / 500_000).collect();
        assert_eq!(due, [1, 4, 7, 10, 13, 16, 19]);
        assert!(made.iter().all(|(due, at)| at >= due), "{made:?}");
    }
}

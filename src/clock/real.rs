//! The clock of the machine, without the time for which the process was stopped.
//!
//! Serves every stack whose config does not ask for a manual clock. Timers are those of tokio, which count stops too;
//! each wait is therefore checked against [`ProcessTime`] and continued if need be.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::running::{PULSE, RunTime};
use super::{Clock, ClockControl, OutOfBounds, Ticks, wall};

/// How late a tick must be to move the later ones. A smaller delay is jitter of the runtime, and would only add up.
const LATE_AFTER: Duration = Duration::from_millis(5);

/// The clock of the machine.
///
/// [`now`](Clock::now) leaves out the time for which the process was stopped, except for half a second of each stop, so
/// that no deadline expires while the process can't do anything about it. The wall clock is that of the machine, stops
/// included.
///
/// A thread records that the process is running, for as long as this clock or one of its timers exists. A runtime that
/// is busy or blocked therefore does not count as a stop.
#[derive(Debug)]
pub struct RealClock {
    running: Arc<ProcessTime>,
    /// The time of the machine's wall clock when this clock was created, in Unix milliseconds.
    start_ms: i64,
    /// How far [`ClockControl::skew`] has moved the wall clock in all, in milliseconds.
    skew_ms: AtomicI64,
}

impl Default for RealClock {
    fn default() -> Self {
        RealClock {
            running: ProcessTime::watched(),
            start_ms: machine_ms(),
            skew_ms: AtomicI64::new(0),
        }
    }
}

/// Measures for how long the process has run, with the help of a thread. Shared by the clock and its timers.
#[derive(Debug)]
struct ProcessTime {
    /// When the clock was created; the times of `time` count from here.
    start: Instant,
    time: RunTime,
    /// Dropping this sender ends the thread at once, rather than after its current wait.
    _stop: mpsc::Sender<()>,
}

impl ProcessTime {
    /// Starts to measure, in a new thread. If the system does not grant a thread, stops count as time, and a warning is
    /// logged.
    fn watched() -> Arc<ProcessTime> {
        let (stop, stop_signal) = mpsc::channel();
        let running = Arc::new(ProcessTime {
            start: Instant::now(),
            time: RunTime::default(),
            _stop: stop,
        });
        let watched = Arc::downgrade(&running);
        let thread = thread::Builder::new()
            .name("clock".to_owned())
            .stack_size(64 * 1024);
        if let Err(error) = thread.spawn(move || ProcessTime::watch(&watched, &stop_signal)) {
            tracing::warn!(%error, "stops of the process count as time: no thread can watch for them");
            running.time.count_everything();
        }
        running
    }

    /// Records every [`PULSE`] that the process is running, until the clock and all its timers are dropped.
    fn watch(watched: &Weak<ProcessTime>, stop_signal: &mpsc::Receiver<()>) {
        while let Some(running) = watched.upgrade() {
            running.time.observe(running.start.elapsed());
            drop(running);
            if stop_signal.recv_timeout(PULSE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Returns for how long the process has run since the clock was created.
    fn now(&self) -> Duration {
        self.time.now(|| self.start.elapsed())
    }

    /// Waits until the process has run for `due` since the clock was created.
    async fn wait_until(&self, due: Duration) {
        loop {
            // The timers of the runtime count stops as time, so this one may end too early.
            match due.saturating_sub(self.now()) {
                Duration::ZERO => return,
                remaining => tokio::time::sleep(remaining).await,
            }
        }
    }
}

/// Returns the time of the machine's wall clock in Unix milliseconds; 0 if it is set to a time before 1970.
fn machine_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.running.now()
    }

    fn unix_ms(&self) -> i64 {
        wall::clamped(machine_ms().saturating_add(self.skew_ms.load(Ordering::Relaxed)))
    }

    fn stopped(&self) -> Duration {
        // Measured by the wall clock: on Linux an `Instant` does not advance while the machine is suspended, so the
        // stops that `ProcessTime` has counted would leave that time out.
        let passed = machine_ms().saturating_sub(self.start_ms);
        let passed = Duration::from_millis(u64::try_from(passed).unwrap_or(0));
        passed.saturating_sub(self.now())
    }

    fn ticks(&self, every: Duration) -> Box<dyn Ticks> {
        Box::new(RealTicks {
            due: self.running.now().saturating_add(every),
            running: Arc::clone(&self.running),
            every,
            has_ended_work: false,
        })
    }
}

#[async_trait]
impl ClockControl for RealClock {
    fn is_manual(&self) -> bool {
        false
    }

    fn skew(&self, by_ms: i64) -> Result<(), OutOfBounds> {
        let machine = machine_ms();
        let mut skew = self.skew_ms.load(Ordering::Relaxed);
        loop {
            let moved = wall::skewed(machine, skew, by_ms)?;
            let order = Ordering::Relaxed;
            match self.skew_ms.compare_exchange(skew, moved, order, order) {
                Ok(_) => return Ok(()),
                Err(other) => skew = other,
            }
        }
    }

    async fn try_advance(&self, by: Duration) -> Result<(), OutOfBounds> {
        wall::check_advance(self.unix_ms(), by)?;
        let due = self.running.now().saturating_add(by);
        self.running.wait_until(due).await;
        Ok(())
    }
}

/// A timer of [`RealClock`].
struct RealTicks {
    running: Arc<ProcessTime>,
    every: Duration,
    /// When the next tick is due, as a time of [`Clock::now`].
    due: Duration,
    /// Whether the owner has ended the work of the last tick without waiting for the next one: a tick that was due meanwhile
    /// is then skipped.
    has_ended_work: bool,
}

#[async_trait]
impl Ticks for RealTicks {
    async fn tick(&mut self) -> Duration {
        if std::mem::take(&mut self.has_ended_work) {
            // A tick that was due before this call is skipped: the next one is a whole period away.
            let now = self.running.now();
            if self.due <= now {
                self.due = now.saturating_add(self.every);
            }
        }
        self.running.wait_until(self.due).await;
        let now = self.running.now();
        let is_late = now.saturating_sub(self.due) > LATE_AFTER;
        let from = if is_late { now } else { self.due };
        self.due = from.saturating_add(self.every);
        self.every
    }

    fn end_tick_work(&mut self) {
        self.has_ended_work = true;
    }
}

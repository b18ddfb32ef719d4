//! The clock of the machine, without the stops of the process.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::running::{PULSE, RunTime};
use super::{Clock, ClockControl, OutOfBounds, Ticks, wall};

/// A tick that comes this much late moves the later ones.
const LATE: Duration = Duration::from_millis(5);

/// The machine's clocks.
///
/// [`now`](Clock::now) leaves out the time in which the process did not run, but for half a second of each stop. So
/// nothing runs out while nobody can do anything about it. The wall clock shows what the machine's shows, always.
///
/// A thread gives signs that the process runs, as long as this clock or one of its tickers is there. A runtime that is
/// busy, or blocked, is therefore no stop.
#[derive(Debug)]
pub struct RealClock {
    running: Arc<Running>,
    /// What the machine's wall clock showed when this clock was made.
    start_ms: i64,
    skew_ms: AtomicI64,
}

impl Default for RealClock {
    fn default() -> Self {
        RealClock {
            running: Running::watched(),
            start_ms: machine_ms(),
            skew_ms: AtomicI64::new(0),
        }
    }
}

/// How long the process has run.
#[derive(Debug)]
struct Running {
    start: Instant,
    time: RunTime,
    /// The thread that gives signs ends with this.
    _ends: mpsc::Sender<()>,
}

impl Running {
    fn watched() -> Arc<Running> {
        let (ends, is_over) = mpsc::channel();
        let running = Arc::new(Running {
            start: Instant::now(),
            time: RunTime::default(),
            _ends: ends,
        });
        let watched = Arc::downgrade(&running);
        let thread = thread::Builder::new()
            .name("clock".to_owned())
            .stack_size(64 * 1024);
        if let Err(error) = thread.spawn(move || Running::watch(&watched, &is_over)) {
            tracing::warn!(%error, "stops of the process count as time: no thread can watch for them");
            running.time.watch_no_more();
        }
        running
    }

    fn watch(watched: &Weak<Running>, is_over: &mpsc::Receiver<()>) {
        while let Some(running) = watched.upgrade() {
            running.time.see(running.start.elapsed());
            drop(running);
            if is_over.recv_timeout(PULSE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn now(&self) -> Duration {
        self.time.now(|| self.start.elapsed())
    }

    /// Waits until the process has run so long.
    async fn until(&self, due: Duration) {
        loop {
            // The runtime's timers know nothing of stops.
            match due.saturating_sub(self.now()) {
                Duration::ZERO => return,
                left => tokio::time::sleep(left).await,
            }
        }
    }
}

/// What the machine's wall clock shows, before 1970 as 1970.
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
        wall::within(machine_ms().saturating_add(self.skew_ms.load(Ordering::Relaxed)))
    }

    fn stopped(&self) -> Duration {
        // Not the stops that are counted: on Linux the time of a suspended machine is not in an `Instant`.
        let passed = machine_ms().saturating_sub(self.start_ms);
        let passed = Duration::from_millis(u64::try_from(passed).unwrap_or(0));
        passed.saturating_sub(self.now())
    }

    fn ticks(&self, every: Duration) -> Box<dyn Ticks> {
        Box::new(RealTicks {
            due: self.running.now().saturating_add(every),
            running: Arc::clone(&self.running),
            every,
            has_rested: false,
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
        wall::can_go_on(self.unix_ms(), by)?;
        let due = self.running.now().saturating_add(by);
        self.running.until(due).await;
        Ok(())
    }
}

struct RealTicks {
    running: Arc<Running>,
    every: Duration,
    /// When the next tick comes.
    due: Duration,
    has_rested: bool,
}

#[async_trait]
impl Ticks for RealTicks {
    async fn tick(&mut self) -> Duration {
        if std::mem::take(&mut self.has_rested) {
            // One that has come meanwhile is let pass: the next is a period away.
            let now = self.running.now();
            if self.due <= now {
                self.due = now.saturating_add(self.every);
            }
        }
        self.running.until(self.due).await;
        let now = self.running.now();
        let is_late = now.saturating_sub(self.due) > LATE;
        let from = if is_late { now } else { self.due };
        self.due = from.saturating_add(self.every);
        self.every
    }

    fn rest(&mut self) {
        self.has_rested = true;
    }
}

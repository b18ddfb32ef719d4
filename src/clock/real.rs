use std::future::poll_fn;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::{Clock, OutOfBounds, Ticks, wall};

/// The machine's clocks.
#[derive(Debug)]
pub struct RealClock {
    start: Instant,
    skew_ms: AtomicI64,
}

impl Default for RealClock {
    fn default() -> Self {
        RealClock {
            start: Instant::now(),
            skew_ms: AtomicI64::new(0),
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

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_ms(&self) -> i64 {
        wall::within(machine_ms().saturating_add(self.skew_ms.load(Ordering::Relaxed)))
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

    fn ticks(&self, every: Duration) -> Box<dyn Ticks> {
        let mut interval = interval_at(tokio::time::Instant::now() + every, every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Box::new(RealTicks {
            interval,
            has_rested: false,
        })
    }

    async fn try_advance(&self, by: Duration) -> Result<(), OutOfBounds> {
        wall::can_go_on(self.unix_ms(), by)?;
        tokio::time::sleep(by).await;
        Ok(())
    }
}

struct RealTicks {
    interval: Interval,
    has_rested: bool,
}

#[async_trait]
impl Ticks for RealTicks {
    async fn tick(&mut self) -> Duration {
        if std::mem::take(&mut self.has_rested) {
            // One that has come meanwhile is let pass: the next is a period away.
            let _ = poll_fn(|cx| Poll::Ready(self.interval.poll_tick(cx))).await;
        }
        self.interval.tick().await;
        self.interval.period()
    }

    fn rest(&mut self) {
        self.has_rested = true;
    }
}

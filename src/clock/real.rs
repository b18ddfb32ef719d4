use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::{Clock, Ticks};

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

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_ms(&self) -> i64 {
        // A machine whose clock stands before 1970, or after the year 292 million, has other worries.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        });
        ms.saturating_add(self.skew_ms.load(Ordering::Relaxed))
    }

    fn skew(&self, by_ms: i64) {
        let add = |skew: i64| Some(skew.saturating_add(by_ms));
        let _ = self
            .skew_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn ticks(&self, every: Duration) -> Box<dyn Ticks> {
        let mut interval = interval_at(tokio::time::Instant::now() + every, every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Box::new(RealTicks(interval))
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

struct RealTicks(Interval);

#[async_trait]
impl Ticks for RealTicks {
    async fn tick(&mut self) {
        self.0.tick().await;
    }
}

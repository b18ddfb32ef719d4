use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Clock, Ticks};

/// Where the wall clock of a manual clock starts: 2020-01-01T00:00:00Z, in Unix milliseconds.
const EPOCH_MS: i64 = 1_577_836_800_000;

/// A clock that stands still until it is told to [`advance`](Clock::advance).
///
/// It steps from tick to tick and lets the work of each be done before the next, so that one jump over several periods
/// is the same as many small ones. The work of a tick must not advance the clock itself: it would wait for its own end.
/// Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told whenever the work of a tick is done.
    settled: Notify,
    /// Held while the clock moves: two who advance it do so one after the other.
    moving: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    now: Duration,
    skew_ms: i64,
    next_id: u64,
    tickers: HashMap<u64, Ticker>,
}

#[derive(Debug)]
struct Ticker {
    due: Duration,
    every: Duration,
    phase: Phase,
}

/// A ticker waits, is told of its tick, works, and waits again.
#[derive(Debug)]
enum Phase {
    Waiting(Option<Waker>),
    Fired,
    Working,
}

impl ManualClock {
    /// Fires the earliest tick that is due by `end`; says which, or none when there is no more.
    fn fire_next(&self, end: Duration) -> Option<u64> {
        let mut state = self.shared.state.lock();
        let (&id, _) = state
            .tickers
            .iter()
            .filter(|(_, ticker)| ticker.due <= end)
            .min_by_key(|(id, ticker)| (ticker.due, **id))?;
        let ticker = state.tickers.get_mut(&id)?;
        let due = ticker.due;
        ticker.due += ticker.every;
        let waker = match std::mem::replace(&mut ticker.phase, Phase::Fired) {
            Phase::Waiting(waker) => waker,
            Phase::Fired | Phase::Working => None,
        };
        state.now = state.now.max(due);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Some(id)
    }

    fn is_settled(&self, id: u64) -> bool {
        let state = self.shared.state.lock();
        state
            .tickers
            .get(&id)
            .is_none_or(|ticker| matches!(ticker.phase, Phase::Waiting(_)))
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.shared.state.lock().now
    }

    fn unix_ms(&self) -> i64 {
        let state = self.shared.state.lock();
        let passed = i64::try_from(state.now.as_millis()).unwrap_or(i64::MAX);
        EPOCH_MS
            .saturating_add(passed)
            .saturating_add(state.skew_ms)
    }

    fn ticks(&self, every: Duration) -> Box<dyn Ticks> {
        let mut state = self.shared.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        let due = state.now + every;
        state.tickers.insert(
            id,
            Ticker {
                due,
                every,
                phase: Phase::Waiting(None),
            },
        );
        Box::new(ManualTicks {
            id,
            shared: Arc::clone(&self.shared),
        })
    }

    fn skew(&self, by_ms: i64) {
        let mut state = self.shared.state.lock();
        state.skew_ms = state.skew_ms.saturating_add(by_ms);
    }

    fn is_manual(&self) -> bool {
        true
    }

    async fn advance(&self, by: Duration) {
        let _moving = self.shared.moving.lock().await;
        let end = self.now() + by;
        while let Some(id) = self.fire_next(end) {
            loop {
                let mut settled = std::pin::pin!(self.shared.settled.notified());
                settled.as_mut().enable();
                if self.is_settled(id) {
                    break;
                }
                settled.await;
            }
        }
        self.shared.state.lock().now = end;
    }
}

struct ManualTicks {
    id: u64,
    shared: Arc<Shared>,
}

#[async_trait]
impl Ticks for ManualTicks {
    async fn tick(&mut self) {
        poll_fn(|cx| {
            let mut state = self.shared.state.lock();
            let Some(ticker) = state.tickers.get_mut(&self.id) else {
                return Poll::Pending;
            };
            match ticker.phase {
                Phase::Fired => {
                    ticker.phase = Phase::Working;
                    return Poll::Ready(());
                }
                Phase::Waiting(_) | Phase::Working => {
                    ticker.phase = Phase::Waiting(Some(cx.waker().clone()));
                }
            }
            drop(state);
            self.shared.settled.notify_waiters();
            Poll::Pending
        })
        .await;
    }
}

impl Drop for ManualTicks {
    fn drop(&mut self) {
        self.shared.state.lock().tickers.remove(&self.id);
        self.shared.settled.notify_waiters();
    }
}

//! A clock that a test moves.

use std::collections::{BTreeSet, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{Clock, ClockControl, OutOfBounds, Ticks, wall};

/// Where the wall clock of a manual clock starts: 2020-01-01T00:00:00Z, in Unix milliseconds.
const EPOCH_MS: i64 = 1_577_836_800_000;

/// An advance goes so many ticks step by step before it begins to leap.
const STEPS: u32 = 10_000;

/// A leap ends so many rounds of the slowest housekeeping before what comes next, and goes on step by step: what one
/// round brings about, the others see.
const ROUNDS: u32 = 3;

/// But of the faster housekeeping, so many rounds at the most.
const MOST_ROUNDS: u32 = 500;

/// A clock that stands still until it is told to [`advance`](ClockControl::advance).
///
/// It steps from tick to tick and lets the work of each be done before the next, so that one jump over several periods
/// is the same as many small ones. The work of a tick must not advance the clock itself: it would wait for its own end.
/// Clones are the same clock.
///
/// An advance that goes far would take for ever so. After 10,000 ticks it leaps over [housekeeping](Clock::rounds), from
/// each [tick that counts](Clock::ticks) to the next, and to its end. In front of each it does the last rounds of all
/// housekeeping step by step, for three periods of the slowest. So whatever ends within a leap, such as a deadline, ends
/// before anything that comes after the leap.
///
/// Who has begun an advance need not wait for it: inside a tokio runtime, it goes all the way as a task of its own. Two
/// advances go one after the other.
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
    /// The tickers that do not rest, by when they are due.
    queue: BTreeSet<(Duration, u64)>,
}

#[derive(Debug)]
struct Ticker {
    due: Duration,
    every: Duration,
    /// How long it is from the tick that was fired last to the next.
    apart: Duration,
    is_housekeeping: bool,
    phase: Phase,
}

/// A ticker waits, is told of its tick, works, and waits again, or rests.
#[derive(Debug)]
enum Phase {
    Waiting(Option<Waker>),
    Fired,
    Working,
    Resting,
}

impl State {
    fn unix_ms(&self) -> i64 {
        wall::within(self.unskewed().saturating_add(self.skew_ms))
    }

    fn unskewed(&self) -> i64 {
        let passed = i64::try_from(self.now.as_millis()).unwrap_or(i64::MAX);
        EPOCH_MS.saturating_add(passed)
    }

    fn add(&mut self, every: Duration, is_housekeeping: bool) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let due = self.now.saturating_add(every);
        self.queue.insert((due, id));
        let ticker = Ticker {
            due,
            every,
            apart: every,
            is_housekeeping,
            phase: Phase::Waiting(None),
        };
        self.tickers.insert(id, ticker);
        id
    }

    fn remove(&mut self, id: u64) {
        if let Some(ticker) = self.tickers.remove(&id) {
            self.queue.remove(&(ticker.due, id));
        }
    }

    /// Moves to the earliest tick that is due by `end`, and fires it. Says which it was, and who is to be woken.
    fn fire_next(&mut self, end: Duration, may_leap: bool) -> Option<(u64, Option<Waker>)> {
        let &(due, id) = self.queue.first().filter(|(due, _)| *due <= end)?;
        let is_housekeeping = self.tickers.get(&id)?.is_housekeeping;
        let landing = (may_leap && is_housekeeping).then(|| self.landing(end));
        let ticker = self.tickers.get_mut(&id)?;
        let periods = landing.map_or(1, |landing| landing.periods(ticker, due));
        ticker.apart = ticker.every.saturating_mul(periods);
        ticker.due = due.saturating_add(ticker.apart);
        self.queue.remove(&(due, id));
        self.queue.insert((ticker.due, id));
        self.now = self.now.max(due);
        match std::mem::replace(&mut ticker.phase, Phase::Fired) {
            Phase::Waiting(waker) => Some((id, waker)),
            Phase::Fired | Phase::Working | Phase::Resting => Some((id, None)),
        }
    }

    /// Where housekeeping that is due now may leap to.
    fn landing(&self, end: Duration) -> Landing {
        let ticker = |id| self.tickers.get(id);
        let is_housekeeping = |id| ticker(id).is_some_and(|ticker| ticker.is_housekeeping);
        let counted = self.queue.iter().find(|(_, id)| !is_housekeeping(id));
        let before = counted.map_or(end, |(due, _)| *due).min(end);
        let rounds = self.tickers.values().filter(|t| t.is_housekeeping);
        let slowest = rounds.map(|ticker| ticker.every).max();
        let window = slowest.unwrap_or_default().saturating_mul(ROUNDS);
        Landing { before, window }
    }
}

/// Where a leap ends.
#[derive(Debug, Clone, Copy)]
struct Landing {
    /// What comes next.
    before: Duration,
    /// How long before it all housekeeping is done step by step again.
    window: Duration,
}

impl Landing {
    /// How many periods a ticker goes on at once, from a tick at `due`.
    fn periods(self, ticker: &Ticker, due: Duration) -> u32 {
        let window = self.window.min(ticker.every.saturating_mul(MOST_ROUNDS));
        let far = (self.before.saturating_sub(window)).saturating_sub(due);
        let periods = far.as_nanos() / ticker.every.as_nanos().max(1);
        u32::try_from(periods).unwrap_or(u32::MAX).max(1)
    }
}

impl ManualClock {
    fn ticker(&self, every: Duration, is_housekeeping: bool) -> Box<dyn Ticks> {
        Box::new(ManualTicks {
            id: self.shared.state.lock().add(every, is_housekeeping),
            shared: Arc::clone(&self.shared),
        })
    }

    fn is_settled(&self, id: u64) -> bool {
        let state = self.shared.state.lock();
        state
            .tickers
            .get(&id)
            .is_none_or(|ticker| matches!(ticker.phase, Phase::Waiting(_) | Phase::Resting))
    }

    /// Waits until the work of a tick is done.
    async fn settled(&self, id: u64) {
        loop {
            let mut settled = std::pin::pin!(self.shared.settled.notified());
            settled.as_mut().enable();
            if self.is_settled(id) {
                return;
            }
            settled.await;
        }
    }

    async fn go_on(&self, by: Duration) -> Result<(), OutOfBounds> {
        let _moving = self.shared.moving.lock().await;
        let end = {
            let state = self.shared.state.lock();
            wall::can_go_on(state.unix_ms(), by)?;
            state.now + by
        };
        let mut steps = 0;
        loop {
            let fired = self.shared.state.lock().fire_next(end, steps >= STEPS);
            let Some((id, waker)) = fired else {
                break;
            };
            if let Some(waker) = waker {
                waker.wake();
            }
            self.settled(id).await;
            steps = (steps + 1).min(STEPS);
        }
        self.shared.state.lock().now = end;
        Ok(())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.shared.state.lock().now
    }

    fn unix_ms(&self) -> i64 {
        self.shared.state.lock().unix_ms()
    }

    fn ticks(&self, every: Duration) -> Box<dyn Ticks> {
        self.ticker(every, false)
    }

    fn rounds(&self, every: Duration) -> Box<dyn Ticks> {
        self.ticker(every, true)
    }
}

#[async_trait]
impl ClockControl for ManualClock {
    fn skew(&self, by_ms: i64) -> Result<(), OutOfBounds> {
        let mut state = self.shared.state.lock();
        state.skew_ms = wall::skewed(state.unskewed(), state.skew_ms, by_ms)?;
        Ok(())
    }

    fn is_manual(&self) -> bool {
        true
    }

    async fn try_advance(&self, by: Duration) -> Result<(), OutOfBounds> {
        let Ok(runtime) = Handle::try_current() else {
            return self.go_on(by).await;
        };
        let clock = self.clone();
        let gone = runtime.spawn(async move { clock.go_on(by).await });
        // It is cut off with the runtime alone.
        gone.await.unwrap_or(Ok(()))
    }
}

struct ManualTicks {
    id: u64,
    shared: Arc<Shared>,
}

#[async_trait]
impl Ticks for ManualTicks {
    async fn tick(&mut self) -> Duration {
        poll_fn(|cx| {
            let mut state = self.shared.state.lock();
            let State {
                now,
                tickers,
                queue,
                ..
            } = &mut *state;
            let Some(ticker) = tickers.get_mut(&self.id) else {
                return Poll::Pending;
            };
            match ticker.phase {
                Phase::Fired => {
                    ticker.phase = Phase::Working;
                    return Poll::Ready(ticker.apart);
                }
                Phase::Resting => {
                    ticker.pass(*now);
                    queue.insert((ticker.due, self.id));
                }
                Phase::Waiting(_) | Phase::Working => {}
            }
            ticker.phase = Phase::Waiting(Some(cx.waker().clone()));
            drop(state);
            self.shared.settled.notify_waiters();
            Poll::Pending
        })
        .await
    }

    fn rest(&mut self) {
        let mut state = self.shared.state.lock();
        let State { tickers, queue, .. } = &mut *state;
        if let Some(ticker) = tickers.get_mut(&self.id) {
            ticker.phase = Phase::Resting;
            queue.remove(&(ticker.due, self.id));
        }
        drop(state);
        self.shared.settled.notify_waiters();
    }
}

impl Ticker {
    /// Lets the ticks pass that were due by now.
    fn pass(&mut self, now: Duration) {
        if self.due <= now {
            let passed = (now - self.due).as_nanos() / self.every.as_nanos().max(1) + 1;
            let passed = self
                .every
                .saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX));
            self.due = self.due.saturating_add(passed);
        }
    }
}

impl Drop for ManualTicks {
    fn drop(&mut self) {
        self.shared.state.lock().remove(self.id);
        self.shared.settled.notify_waiters();
    }
}

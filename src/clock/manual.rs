//! A clock that stands still until a test or the admin API advances it.
//!
//! Serves tests and the lab. An advance fires the timers of the stack one by one, in the order of their due times, and
//! waits after each until its owner has done its work. Thus the result of an advance does not depend on how fast the
//! machine is.

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

/// The time of the wall clock of a new manual clock, in Unix milliseconds: 2020-01-01T00:00:00Z.
const EPOCH_MS: i64 = 1_577_836_800_000;

/// The number of ticks that an advance fires one by one before it begins to leap over housekeeping.
const STEPS_BEFORE_LEAP: u32 = 10_000;

/// How long before its target a leap ends, in periods of the slowest housekeeping. The ticks from there on are fired one
/// by one, so that each housekeeping task sees the effects of the others.
const WINDOW_PERIODS: u32 = 3;

/// The limit of that time for faster housekeeping, in its own periods.
const MAX_WINDOW_PERIODS: u32 = 500;

/// A clock that stands still until [`advance`](ClockControl::advance) moves it. Clones are handles to one clock.
///
/// An advance goes from tick to tick and waits for the work of each before the next, so that one advance over several
/// periods has the same effects as many small ones. The work of a tick must not advance the clock itself: it would wait
/// for its own end, for ever.
///
/// A far advance would have too many ticks. After 10,000 of them, an advance leaps over
/// [housekeeping](Clock::housekeeping_ticks): from each [tick that counts](Clock::ticks) to the next one, and to the end of the advance. Before each of these, the
/// last ticks of all housekeeping are done one by one, for three periods of the slowest. Thus a deadline that expires
/// within a leap takes effect before anything that is due after the leap.
///
/// Inside a tokio runtime an advance is a task of its own, which completes even if its caller stops waiting. Concurrent
/// advances are done one after the other.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    clock: Arc<ClockState>,
}

/// The state that the handles of one clock and its timers share.
#[derive(Debug, Default)]
struct ClockState {
    state: Mutex<Timeline>,
    /// Notified whenever the work of a tick is done.
    settled: Notify,
    /// Held during an advance, so that concurrent advances are done one after the other.
    advancing: tokio::sync::Mutex<()>,
}

/// The time of a clock, and its timers.
#[derive(Debug, Default)]
struct Timeline {
    /// The time since the clock was created.
    now: Duration,
    /// How far the wall clock has been moved by skews in all, in milliseconds.
    skew_ms: i64,
    /// The id of the next timer. Ids are not used again, so two timers that are due at one time fire in the order of
    /// their creation.
    next_id: u64,
    tickers: HashMap<u64, Ticker>,
    /// The tickers that are not in the phase `WorkEnded`, by due time and id.
    queue: BTreeSet<(Duration, u64)>,
}

/// The clock's side of a timer.
#[derive(Debug)]
struct Ticker {
    /// When the next tick is due. In the phase `WorkEnded`, this is when the next tick would have been due.
    due: Duration,
    period: Duration,
    /// The time from the tick that was fired last to the next. More than the period after a leap.
    until_next: Duration,
    /// Whether an advance may leap over ticks: see [`Clock::housekeeping_ticks`].
    is_housekeeping: bool,
    phase: Phase,
}

/// The activity of a timer's owner. `Waiting` is followed by `Fired`, then by `Working`, then by `Waiting` or
/// `WorkEnded`.
#[derive(Debug)]
enum Phase {
    /// The owner waits for the next tick. There is no waker until the timer is polled for the first time.
    Waiting(Option<Waker>),
    /// A tick was fired, and the owner has not run since.
    Fired,
    /// The owner is doing the work of a tick.
    Working,
    /// The owner has ended the work of a tick, and does not wait for the next one.
    WorkEnded,
}

impl Timeline {
    fn unix_ms(&self) -> i64 {
        wall::clamped(self.unskewed().saturating_add(self.skew_ms))
    }

    /// Returns the time of the wall clock without any skew.
    fn unskewed(&self) -> i64 {
        let passed = i64::try_from(self.now.as_millis()).unwrap_or(i64::MAX);
        EPOCH_MS.saturating_add(passed)
    }

    /// Adds a ticker, and returns its id.
    fn add_ticker(&mut self, period: Duration, is_housekeeping: bool) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let due = self.now.saturating_add(period);
        self.queue.insert((due, id));
        let ticker = Ticker {
            due,
            period,
            until_next: period,
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

    /// Moves the clock to the earliest tick that is due by `end`, and fires it. Returns the id of the ticker and the
    /// waker of its owner; none if no tick is due by `end`.
    fn fire_next(&mut self, end: Duration, may_leap: bool) -> Option<(u64, Option<Waker>)> {
        let &(due, id) = self.queue.first().filter(|(due, _)| *due <= end)?;
        let is_housekeeping = self.tickers.get(&id)?.is_housekeeping;
        let leap = (may_leap && is_housekeeping).then(|| self.leap(end));
        let ticker = self.tickers.get_mut(&id)?;
        let periods = leap.map_or(1, |leap| leap.periods(ticker, due));
        ticker.until_next = ticker.period.saturating_mul(periods);
        ticker.due = due.saturating_add(ticker.until_next);
        self.queue.remove(&(due, id));
        self.queue.insert((ticker.due, id));
        self.now = self.now.max(due);
        match std::mem::replace(&mut ticker.phase, Phase::Fired) {
            Phase::Waiting(waker) => Some((id, waker)),
            Phase::Fired | Phase::Working | Phase::WorkEnded => Some((id, None)),
        }
    }

    /// Returns the leap that housekeeping which is due now may make.
    fn leap(&self, end: Duration) -> Leap {
        let ticker = |id| self.tickers.get(id);
        let is_housekeeping = |id| ticker(id).is_some_and(|ticker| ticker.is_housekeeping);
        let next_counted = self.queue.iter().find(|(_, id)| !is_housekeeping(id));
        let target = next_counted.map_or(end, |(due, _)| *due).min(end);
        let housekeeping = self.tickers.values().filter(|t| t.is_housekeeping);
        let slowest = housekeeping.map(|ticker| ticker.period).max();
        let window = slowest.unwrap_or_default().saturating_mul(WINDOW_PERIODS);
        Leap { target, window }
    }
}

/// The end of a leap over ticks of housekeeping.
#[derive(Debug, Clone, Copy)]
struct Leap {
    /// When the next tick that counts is due, or the advance ends.
    target: Duration,
    /// For how long before `target` the ticks of housekeeping are fired one by one again.
    window: Duration,
}

impl Leap {
    /// Returns how many periods after its tick at `due` the next tick of a ticker comes; at least one.
    fn periods(self, ticker: &Ticker, due: Duration) -> u32 {
        let window = self
            .window
            .min(ticker.period.saturating_mul(MAX_WINDOW_PERIODS));
        let distance = (self.target.saturating_sub(window)).saturating_sub(due);
        let periods = distance.as_nanos() / ticker.period.as_nanos().max(1);
        u32::try_from(periods).unwrap_or(u32::MAX).max(1)
    }
}

impl ManualClock {
    fn ticker(&self, period: Duration, is_housekeeping: bool) -> Box<dyn Ticks> {
        Box::new(ManualTicks {
            id: self.clock.state.lock().add_ticker(period, is_housekeeping),
            clock: Arc::clone(&self.clock),
        })
    }

    /// Returns whether the work of a ticker's last tick is done, which it also is for a ticker that was removed.
    fn is_work_done(&self, id: u64) -> bool {
        let state = self.clock.state.lock();
        state
            .tickers
            .get(&id)
            .is_none_or(|ticker| matches!(ticker.phase, Phase::Waiting(_) | Phase::WorkEnded))
    }

    /// Waits until the work of a ticker's last tick is done.
    async fn settled(&self, id: u64) {
        loop {
            let mut settled = std::pin::pin!(self.clock.settled.notified());
            settled.as_mut().enable();
            if self.is_work_done(id) {
                return;
            }
            settled.await;
        }
    }

    /// Advances the clock by `by`, in the task of the caller.
    async fn advance_now(&self, by: Duration) -> Result<(), OutOfBounds> {
        let _advancing = self.clock.advancing.lock().await;
        let end = {
            let state = self.clock.state.lock();
            wall::check_advance(state.unix_ms(), by)?;
            state.now + by
        };
        let mut steps = 0;
        loop {
            let fired = self
                .clock
                .state
                .lock()
                .fire_next(end, steps >= STEPS_BEFORE_LEAP);
            let Some((id, waker)) = fired else {
                break;
            };
            if let Some(waker) = waker {
                waker.wake();
            }
            self.settled(id).await;
            steps = (steps + 1).min(STEPS_BEFORE_LEAP);
        }
        self.clock.state.lock().now = end;
        Ok(())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.clock.state.lock().now
    }

    fn unix_ms(&self) -> i64 {
        self.clock.state.lock().unix_ms()
    }

    fn ticks(&self, period: Duration) -> Box<dyn Ticks> {
        self.ticker(period, false)
    }

    fn housekeeping_ticks(&self, period: Duration) -> Box<dyn Ticks> {
        self.ticker(period, true)
    }
}

#[async_trait]
impl ClockControl for ManualClock {
    fn skew(&self, by_ms: i64) -> Result<(), OutOfBounds> {
        let mut state = self.clock.state.lock();
        state.skew_ms = wall::skewed(state.unskewed(), state.skew_ms, by_ms)?;
        Ok(())
    }

    fn is_manual(&self) -> bool {
        true
    }

    async fn try_advance(&self, by: Duration) -> Result<(), OutOfBounds> {
        let Ok(runtime) = Handle::try_current() else {
            return self.advance_now(by).await;
        };
        let clock = self.clone();
        let advance = runtime.spawn(async move { clock.advance_now(by).await });
        // The task can fail only when the runtime is shut down, and its tasks with it.
        advance.await.unwrap_or(Ok(()))
    }
}

/// A timer of [`ManualClock`]: its owner's side.
struct ManualTicks {
    id: u64,
    clock: Arc<ClockState>,
}

#[async_trait]
impl Ticks for ManualTicks {
    async fn tick(&mut self) -> Duration {
        poll_fn(|cx| {
            let mut state = self.clock.state.lock();
            let Timeline {
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
                    return Poll::Ready(ticker.until_next);
                }
                Phase::WorkEnded => {
                    ticker.skip_past_ticks(*now);
                    queue.insert((ticker.due, self.id));
                }
                Phase::Waiting(_) | Phase::Working => {}
            }
            ticker.phase = Phase::Waiting(Some(cx.waker().clone()));
            drop(state);
            self.clock.settled.notify_waiters();
            Poll::Pending
        })
        .await
    }

    fn end_tick_work(&mut self) {
        let mut state = self.clock.state.lock();
        let Timeline { tickers, queue, .. } = &mut *state;
        if let Some(ticker) = tickers.get_mut(&self.id) {
            ticker.phase = Phase::WorkEnded;
            queue.remove(&(ticker.due, self.id));
        }
        drop(state);
        self.clock.settled.notify_waiters();
    }
}

impl Ticker {
    /// Skips the ticks that were due by `now`.
    fn skip_past_ticks(&mut self, now: Duration) {
        if self.due <= now {
            let passed = (now - self.due).as_nanos() / self.period.as_nanos().max(1) + 1;
            let passed = self
                .period
                .saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX));
            self.due = self.due.saturating_add(passed);
        }
    }
}

impl Drop for ManualTicks {
    fn drop(&mut self) {
        self.clock.state.lock().remove(self.id);
        self.clock.settled.notify_waiters();
    }
}

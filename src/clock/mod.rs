//! The clock of a stack: the machine's clock, or one that a test moves by hand.
//!
//! Every lease, deadline, expiry and id of the stack takes its time from one [`Clock`], which can only be read. A test
//! and the admin API hold the [`ClockControl`] of the same clock, which can also move it. Waits for the operating
//! system are the only ones that are real time with every clock: the back-off of a failing accept, the bounds on
//! teardown, and the timeouts of the HTTP server. The wait of the notify after a login ends by whichever time passes first.
//!
//! Invariants:
//!
//! - Time during which the process or its machine was stopped does not count for [`Clock::now`], nor for the waits in
//!   `running`. Otherwise every deadline would expire at once when the process continues, although no client could have
//!   met it. The wall clock does show that time.
//! - The wall clock stays between [`EARLIEST_MS`] and [`LATEST_MS`]. The ids of messages have room for every time
//!   between them, and so have clients that compute with a `sendTime`.

mod manual;
mod real;
pub(crate) mod running;
mod wall;
pub(crate) mod written;

pub use manual::ManualClock;
pub use real::RealClock;
pub use wall::{EARLIEST_MS, LATEST_MS, OutOfBounds};

use std::fmt;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;

/// Tells the time, and makes timers.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the time since this clock was created, without the time for which the process was stopped. It never goes
    /// back.
    fn now(&self) -> Duration;

    /// Returns the time of the wall clock: Unix time in milliseconds, from [`EARLIEST_MS`] to [`LATEST_MS`].
    ///
    /// It goes back when the wall clock is set back. If the time of the machine is out of bounds, the nearer bound is
    /// returned.
    fn unix_ms(&self) -> i64;

    /// Returns for how long the process was stopped since this clock was created, by the wall clock of the machine.
    ///
    /// This is an estimate, since it also changes when the machine's wall clock is set. It is zero for a manual clock.
    fn stopped(&self) -> Duration {
        Duration::ZERO
    }

    /// Creates a timer that ticks at `every`, 2 `every`, ... after this call. If a tick is late, the later ones are
    /// moved by as much.
    ///
    /// `every` must be more than zero.
    fn ticks(&self, every: Duration) -> Box<dyn Ticks>;

    /// Creates a timer for housekeeping: work that reads the time itself, and so makes up for ticks that were left out.
    ///
    /// A manual clock that is advanced far leaves out most of the ticks of such a timer. [`Ticks::tick`] returns how
    /// long it is to the next tick, so that the work of a tick can last for that long.
    fn housekeeping_ticks(&self, every: Duration) -> Box<dyn Ticks> {
        self.ticks(every)
    }
}

/// Moves a clock. Held by tests and by the admin API; the rest of the stack only reads the [`Clock`].
#[async_trait]
pub trait ClockControl: Clock {
    /// Returns whether the clock stands still unless it is advanced.
    fn is_manual(&self) -> bool;

    /// Moves the wall clock by `by_ms` milliseconds, forward or back, in addition to all earlier skews. [`Clock::now`],
    /// and with it every lease and deadline, is not affected.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`], when the wall clock would leave its bounds. The clock is unchanged then; the error says how far
    /// it can be moved.
    fn skew(&self, by_ms: i64) -> Result<(), OutOfBounds>;

    /// Advances the clock by `by`, and returns once that time has passed and the work of every tick that was due is
    /// done.
    ///
    /// The real clock waits for the time to pass. A manual clock moves, as [`ManualClock`] describes; inside a tokio
    /// runtime, it completes the advance even if the returned future is dropped.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`], when the wall clock would leave its bounds. No time has passed then; the error says how far the
    /// clock can be moved.
    async fn try_advance(&self, by: Duration) -> Result<(), OutOfBounds>;

    /// Advances the clock as [`try_advance`](Self::try_advance) does, by a time that is known to be within the bounds.
    /// If it is not, no time passes, and an error is logged.
    async fn advance(&self, by: Duration) {
        if let Err(error) = self.try_advance(by).await {
            tracing::error!(%error, "the clock was not moved");
        }
    }
}

/// A periodic timer.
///
/// What its owner does between a tick and the next call of [`tick`](Self::tick) or [`end_tick_work`](Self::end_tick_work)
/// is the work of that tick. A manual clock waits for the work to be done before it moves on: once it has fired a timer, an
/// advance waits until the owner polls the timer again, ends the work, or drops the timer. So an owner that stops polling a
/// timer without doing one of these holds up every advance.
#[async_trait]
pub trait Ticks: Send {
    /// Waits for the next tick, and returns the time from that tick to the one after it.
    ///
    /// The time is the timer's period, except for a timer of [`Clock::housekeeping_ticks`] when a manual clock is about to
    /// leave ticks out.
    async fn tick(&mut self) -> Duration;

    /// Ends the work of a tick without waiting for the next one. Ticks that are due before the next call of
    /// [`tick`](Self::tick) are skipped.
    fn end_tick_work(&mut self);
}

/// Awaits `work` outside the work of a tick of `ticks`, so that an advance of the clock does not wait for it.
///
/// Work that is ready at once is still part of the tick's work. Work that has to wait [ends](Ticks::end_tick_work) the
/// tick's work first, and ticks that are due before it is done are skipped.
pub async fn await_outside_tick<T>(ticks: &mut dyn Ticks, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    // Polled once before the tick's work is ended, so that an advance of the clock sees the effects of work that need
    // not wait.
    let first = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
    if let Poll::Ready(done) = first {
        return done;
    }
    ticks.end_tick_work();
    work.await
}

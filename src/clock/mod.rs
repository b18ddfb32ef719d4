//! Time: real, or moved by hand in a test.
//!
//! Every lease, deadline, expiry and id asks a [`Clock`], which only tells the time. Whoever moves it, a test or the admin
//! API, holds the [`ClockControl`] of the same clock. Only waits for the operating system are always real time: the back-off
//! of a failing accept, the bounds on teardown, and the HTTP server's timeouts.
//!
//! Time in which the process did not run, because it or its machine was stopped, does not pass for [`Clock::now`], nor for
//! the waits in `running`: nobody could do anything that a deadline asks for. The wall clock shows it.
//!
//! The wall clock stays between two bounds: [`EARLIEST_MS`] and [`LATEST_MS`]. Ids have room for the times between them,
//! and so has whatever a client computes with a sendTime.

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

/// Tells the time, and when a time has come.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the time since this clock was made, without the stops of the process. It never goes back.
    fn now(&self) -> Duration;

    /// Returns what the wall clock shows: Unix time in milliseconds. It may go back, but stays from [`EARLIEST_MS`] to
    /// [`LATEST_MS`]: a machine whose time is not between them counts as the nearer one.
    fn unix_ms(&self) -> i64;

    /// Returns how far the wall clock of the machine has gone on, since this clock was made, while the process did not run.
    /// It is an estimate, which also changes when that wall clock is set. A manual clock knows no stops.
    fn stopped(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns a timer that ticks at `every`, 2 `every`, ... from this call on. A tick that comes late moves the later ones.
    ///
    /// `every` must be more than zero.
    fn ticks(&self, every: Duration) -> Box<dyn Ticks>;

    /// Returns a timer for housekeeping: work that looks at the time itself, and so makes up for ticks that did not come. A
    /// clock that is moved far leaves most of its ticks out, and says so: see [`Ticks::tick`].
    fn rounds(&self, every: Duration) -> Box<dyn Ticks> {
        self.ticks(every)
    }
}

/// Moves a clock.
#[async_trait]
pub trait ClockControl: Clock {
    /// Returns whether the clock moves only when it is told to.
    fn is_manual(&self) -> bool;

    /// Moves the wall clock alone, by milliseconds, either way: skews add up. Leases and deadlines do not notice.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`], when the wall clock would leave its bounds. Then it has not moved.
    fn skew(&self, by_ms: i64) -> Result<(), OutOfBounds>;

    /// Returns when at least `by` has passed and the work of every tick due by then is done.
    ///
    /// The real clock can only wait for it. The manual one moves, as [`ManualClock`] says, and goes all the way also when
    /// nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`], when the wall clock would leave its bounds. Then no time has passed.
    async fn try_advance(&self, by: Duration) -> Result<(), OutOfBounds>;

    /// Does the same as [`try_advance`](Self::try_advance), for a `by` that is known to be within the bounds. If it is not,
    /// no time passes, which is logged as an error.
    async fn advance(&self, by: Duration) {
        if let Err(error) = self.try_advance(by).await {
            tracing::error!(%error, "the clock was not moved");
        }
    }
}

/// A periodic timer. The work of a tick is what its owner does until it asks for the next one, or [rests](Self::rest).
#[async_trait]
pub trait Ticks: Send {
    /// Resolves at the next tick, and returns how long it is from this tick to the one after it.
    ///
    /// That is the period, except for [`Clock::rounds`] of a clock that is about to leave ticks out.
    async fn tick(&mut self) -> Duration;

    /// Ends the work of a tick without a wait for the next one: ticks that come before that wait are skipped.
    fn rest(&mut self);
}

/// Does `work`. Where it has to wait, it stops being the work of a tick: `ticks` that come meanwhile are skipped, and whoever
/// advances the clock does not wait for it.
pub async fn beside<T>(ticks: &mut dyn Ticks, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    // Work that is done at once still belongs to the tick.
    let first = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
    if let Poll::Ready(done) = first {
        return done;
    }
    ticks.rest();
    work.await
}

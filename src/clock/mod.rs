//! Time: real, or moved by hand in a test.
//!
//! Every lease, deadline, expiry and id asks a [`Clock`]. Only waits for the operating system are real time always: the
//! back-off of a failing accept, the bounds on teardown, and the HTTP server's timeouts.

mod manual;
mod real;
pub(crate) mod written;

pub use manual::ManualClock;
pub use real::RealClock;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

/// Where the time comes from.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// Time since this clock was made. Never goes back.
    fn now(&self) -> Duration;

    /// The wall clock: Unix time in milliseconds. May go back.
    fn unix_ms(&self) -> i64;

    /// Ticks at `every`, 2 `every`, ... from this call on. A tick that comes late moves the later ones.
    ///
    /// `every` must be more than zero.
    fn ticks(&self, every: Duration) -> Box<dyn Ticks>;

    /// Moves the wall clock alone, by milliseconds, either way: skews add up. Leases and deadlines do not notice.
    fn skew(&self, by_ms: i64);

    /// Whether it moves only when it is told to.
    fn is_manual(&self) -> bool {
        false
    }

    /// Returns when at least `by` has passed and the work of every tick due by then is done.
    ///
    /// The real clock can only wait for it; the manual one moves, from tick to tick.
    async fn advance(&self, by: Duration);
}

/// A periodic timer. The work of a tick is what its owner does until it asks for the next one.
#[async_trait]
pub trait Ticks: Send {
    /// Resolves at the next tick.
    async fn tick(&mut self);
}

/// Does `work`, which is the work of no tick where it has to wait: `ticks` that come meanwhile are let pass, and who
/// advances the clock does not wait for it.
pub async fn beside<T>(ticks: &mut dyn Ticks, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = ticks.tick() => {}
        }
    }
}

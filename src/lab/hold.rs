//! Holds a frame or a call back until a timer has ticked, or until the rule that holds it ends.
//!
//! Serves the modules with a site, which get a [`Hold`] with every hit. The end of a rule releases everything that it holds,
//! so that no frame stays behind without a rule that explains it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::clock::{Ticks, await_outside_tick};

/// Holds back the frame or call that a rule has hit. Its timer runs from the hit on, so that a test which has seen the hit
/// can move the clock.
///
/// The end of the rule releases it at once: removal by name, drop of the guard, removal of all rules, or a reset. A rule
/// that has used up its `times` or outlived its `for` has not ended in this sense, and goes on holding what it has hit.
pub struct Hold {
    /// `None` for an action that takes no time, and after the release.
    timer: Option<Box<dyn Ticks>>,
    ended: CancellationToken,
}

impl Hold {
    /// Creates the hold of a rule that ends when `ended` is cancelled, with the timer of its action, if the action has one.
    pub(super) fn new(timer: Option<Box<dyn Ticks>>, ended: CancellationToken) -> Hold {
        Hold { timer, ended }
    }

    /// Waits for the next tick of the timer or the end of the rule. Returns at once if the action takes no time, or after the
    /// rule has ended.
    pub async fn wait(&mut self) {
        let Some(timer) = &mut self.timer else {
            return;
        };
        tokio::select! {
            biased;
            // The timer is dropped, since an advance of the clock would wait for one that nobody polls: see `Ticks`.
            () = self.ended.cancelled() => self.timer = None,
            _ = timer.tick() => {}
        }
    }

    /// Awaits `work`, which may wait for a peer, and keeps an advance of the clock from waiting for it: see
    /// [`await_outside_tick`].
    pub async fn await_outside_tick<T>(&mut self, work: impl Future<Output = T>) -> T {
        match &mut self.timer {
            Some(timer) => await_outside_tick(timer.as_mut(), work).await,
            None => work.await,
        }
    }

    /// Returns whether the rule has ended.
    pub fn is_released(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Gives up the timer: the frame is held until the rule ends.
    pub fn until_release(self) -> UntilRelease {
        UntilRelease {
            released: Box::pin(self.ended.clone().cancelled_owned()),
            ended: self.ended,
        }
    }
}

/// Resolves at the end of the rule that holds a frame back. Made by [`Hold::until_release`].
pub struct UntilRelease {
    ended: CancellationToken,
    released: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl UntilRelease {
    /// Returns whether the rule has ended.
    pub fn is_released(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Polls for the end of the rule.
    pub fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.released.as_mut().poll(cx)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("is_released", &self.is_released())
            .finish_non_exhaustive()
    }
}

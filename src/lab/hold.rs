//! What holds something back at a site until its time has come, or until the rule that holds it ends.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::clock::{Ticks, beside};

/// Holds back what a rule has hit. It runs from the hit on: whoever has seen the hit can move the clock.
///
/// The end of the rule releases it at once: its removal by name, the drop of its guard, the removal of all rules, or a
/// reset. A rule whose `times` are used up or whose `for` is over does not end: what it has hit is held to its end.
pub struct Hold {
    /// None where no time has to pass, and after the release.
    timer: Option<Box<dyn Ticks>>,
    ended: CancellationToken,
}

impl Hold {
    pub(super) fn new(timer: Option<Box<dyn Ticks>>, ended: CancellationToken) -> Hold {
        Hold { timer, ended }
    }

    /// Waits for the next tick of the timer, or until the rule ends. From then on it does not wait any more.
    pub async fn wait(&mut self) {
        let Some(timer) = &mut self.timer else {
            return;
        };
        tokio::select! {
            biased;
            // Without the timer nobody who moves the clock waits for this any more.
            () = self.ended.cancelled() => self.timer = None,
            _ = timer.tick() => {}
        }
    }

    /// Does `work`, which is the work of no tick where it has to wait for a peer.
    pub async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        match &mut self.timer {
            Some(timer) => beside(timer.as_mut(), work).await,
            None => work.await,
        }
    }

    /// Whether the rule has ended, so that nothing is held any more.
    pub fn is_released(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// What is held until the rule ends, and no shorter: by no time.
    pub fn until_release(self) -> Held {
        Held {
            over: Box::pin(self.ended.clone().cancelled_owned()),
            ended: self.ended,
        }
    }
}

/// Held back until the rule ends: see [`Hold::until_release`].
pub struct Held {
    ended: CancellationToken,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Held {
    /// Whether the rule has ended.
    pub fn is_released(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Resolves when the rule ends.
    pub fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.over.as_mut().poll(cx)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("is_released", &self.is_released())
            .finish_non_exhaustive()
    }
}

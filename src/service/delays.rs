//! Cuts short the delays that faults at `store.*` and the quirk `notify_before_store` impose on requests.
//!
//! Serves the shutdown and the resets, which can't wait for such delays, and the operations that wait for one.

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Tells the requests of one `imd` whether they may be delayed.
#[derive(Debug, Default)]
pub(super) struct Delays {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Ends the delays in progress when it is cancelled, and every delay that begins while it is. It is replaced by a new
    /// token when requests may be delayed again.
    cancelled: CancellationToken,
    /// Whether delays were cancelled for good.
    has_ended: bool,
}

impl Delays {
    /// Resolves when a request must not be delayed any longer.
    pub async fn cancelled(&self) {
        let cancelled = self.state.lock().cancelled.clone();
        cancelled.cancelled().await;
    }

    /// Cancels every delay for good.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.has_ended = true;
        state.cancelled.cancel();
    }

    /// Cancels the delays in progress, and those that begin until the guard is dropped. There must be one guard at a time,
    /// since the end of a guard allows delays again: resets, which hold it, do not overlap.
    pub fn suspend(&self) -> Suspended<'_> {
        self.state.lock().cancelled.cancel();
        Suspended { delays: self }
    }
}

/// A guard that keeps requests from being delayed until it is dropped.
#[derive(Debug)]
pub struct Suspended<'a> {
    delays: &'a Delays,
}

impl Drop for Suspended<'_> {
    fn drop(&mut self) {
        let mut state = self.delays.state.lock();
        if !state.has_ended {
            state.cancelled = CancellationToken::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_cancelled(delays: &Delays) -> bool {
        delays.cancelled().now_or_never().is_some()
    }

    #[test]
    fn delays_are_cancelled_while_they_are_suspended_and_after_their_end() {
        let delays = Delays::default();
        assert!(!is_cancelled(&delays));
        let suspended = delays.suspend();
        assert!(is_cancelled(&delays) && is_cancelled(&delays));
        drop(suspended);
        assert!(!is_cancelled(&delays));
        // A shutdown may come in the middle of a reset.
        let suspended = delays.suspend();
        delays.end();
        drop(suspended);
        assert!(is_cancelled(&delays));
    }

    #[tokio::test]
    async fn a_request_that_is_delayed_already_is_let_go() {
        let delays = Delays::default();
        let mut delayed = Box::pin(delays.cancelled());
        assert!(futures_util::poll!(&mut delayed).is_pending());
        drop(delays.suspend());
        delayed.await;
    }
}

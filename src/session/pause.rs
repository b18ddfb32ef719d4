//! The pause of a server, which then accepts, reads and writes nothing while its sockets stay open.
//!
//! Serves the session manager, which begins and ends a pause, and the accept loop and the connections, which obey it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::lab;

/// Whether a server is paused, and the signal that this has changed.
#[derive(Debug, Default)]
pub struct Pause {
    on: AtomicBool,
    changed: Notify,
}

impl Pause {
    /// Begins or ends the pause, and wakes those who wait for that.
    pub(super) fn set(&self, on: bool) {
        self.on.store(on, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Returns whether the server is paused. Costs one relaxed load, since every session asks before each read and write.
    #[inline]
    pub fn is_on(&self) -> bool {
        !lab::IS_LEFT_OUT && self.on.load(Ordering::Relaxed)
    }

    /// Waits until the server is paused.
    pub async fn paused(&self) {
        self.until(true).await;
    }

    /// Waits until the server is not paused.
    pub async fn resumed(&self) {
        self.until(false).await;
    }

    async fn until(&self, on: bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Enabled before the check, so that a change right after the check is noticed.
            changed.as_mut().enable();
            if self.is_on() == on {
                return;
            }
            changed.await;
        }
    }
}

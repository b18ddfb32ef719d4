use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::lab;

/// Whether a server rests: then it accepts, reads and writes nothing, and its sockets stay open.
#[derive(Debug, Default)]
pub struct Pause {
    on: AtomicBool,
    changed: Notify,
}

impl Pause {
    pub(super) fn set(&self, on: bool) {
        self.on.store(on, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Whether it rests now. One relaxed load: every turn of every session asks.
    #[inline]
    pub fn is_on(&self) -> bool {
        !lab::IS_LEFT_OUT && self.on.load(Ordering::Relaxed)
    }

    /// Resolves while it rests.
    pub async fn paused(&self) {
        self.until(true).await;
    }

    /// Resolves while it does not.
    pub async fn resumed(&self) {
        self.until(false).await;
    }

    async fn until(&self, on: bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before the look: a change right after it is heard.
            changed.as_mut().enable();
            if self.is_on() == on {
                return;
            }
            changed.await;
        }
    }
}

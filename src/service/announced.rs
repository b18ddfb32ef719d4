//! The receivers whom the quirk `notify_before_store` has notified before their messages are stored.
//!
//! Serves `quirks`, which notifies them, and `commit`, which does not notify them again.

use crate::clock::{Ticks, await_outside_tick};
use crate::store::InboxState;

/// The inboxes whose users were notified of a batch before it was stored.
pub(super) struct Announced {
    pub inboxes: Vec<InboxState>,
    /// The timer of the gap between notify and store. It is kept until the store has answered: an advance of a manual clock
    /// waits for the work that follows a tick, and the commit is that work.
    pub gap: Option<Box<dyn Ticks>>,
}

impl Announced {
    /// Awaits `work` outside the work of the gap's timer. Work that itself waits for the clock needs this: an advance of a
    /// manual clock waits for the work of each timer, and would otherwise never reach the timer that `work` waits for.
    pub(super) async fn await_outside_tick<T>(&mut self, work: impl Future<Output = T>) -> T {
        match &mut self.gap {
            Some(gap) => await_outside_tick(gap.as_mut(), work).await,
            None => work.await,
        }
    }

    /// Removes the inboxes whose users were already notified of a version as high as the inbox's newest one.
    pub(super) fn remove_from(self, grown_inboxes: &mut Vec<InboxState>) {
        grown_inboxes.retain(|grown| {
            let is_covered =
                |notified: &InboxState| notified.uid == grown.uid && notified.total >= grown.total;
            !self.inboxes.iter().any(is_covered)
        });
    }
}

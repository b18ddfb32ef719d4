//! What the quirk `notify_before_store` has told receivers before their messages are stored. Serves `quirks`, which tells them,
//! and `commit`, which does not tell them again.

use crate::clock::{Ticks, beside};
use crate::store::InboxState;

/// The inboxes whose users were notified of a batch before it was stored.
pub(super) struct Announced {
    pub inboxes: Vec<InboxState>,
    /// The timer of the gap between notify and store. Kept until the store has answered: the commit is the work of its
    /// tick, and whoever moves a manual clock waits for the end of that work.
    pub gap: Option<Box<dyn Ticks>>,
}

impl Announced {
    /// Runs `work` while the timer of the gap is held. Work that waits for the clock itself needs this: whoever moves a
    /// manual clock waits for the work of each timer, and would otherwise never come to the next one.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        match &mut self.gap {
            Some(gap) => beside(gap.as_mut(), work).await,
            None => work.await,
        }
    }

    /// Removes the inboxes whose users were notified of this much already.
    pub(super) fn remove_from(self, grown_inboxes: &mut Vec<InboxState>) {
        grown_inboxes.retain(|grown| {
            let is_covered =
                |notified: &InboxState| notified.uid == grown.uid && notified.total >= grown.total;
            !self.inboxes.iter().any(is_covered)
        });
    }
}

//! What a session still has to write: its pending notify, how far its client has read, and how much its task has not written.
//!
//! Serves the [`Session`](super::Session), which holds it under a lock. It takes a constant amount of memory, whatever the
//! number of messages: pending notifies merge into one.

use std::task::{Context, Waker};

use bytes::BytesMut;

use super::reply_buffer;
use crate::codec::Framing;
use crate::id::Version;
use crate::proto::fields::Fields;
use crate::proto::{Cmd, Payload};

/// What a session still has to write, and the waker of the task that writes it.
#[derive(Default)]
pub(super) struct OutputState {
    /// How many bytes the socket has not taken yet. The session's task holds them.
    unwritten: usize,
    /// The pending notify, whatever the number of messages that it stands for.
    notify: Option<Pending>,
    /// The end of the last page that was sent on this session. Every later notify names it as the version up to which the
    /// client has read, since clients copy that number from each notify.
    page_end: Option<Version>,
    /// Wakes the session's task, if it sleeps: for a notify, and for every other change of the session's state.
    ///
    /// The lock of this struct orders each change with the task's sleep. The task checks the state and registers here under
    /// the lock, and whoever changes the state takes the lock afterwards to wake it. So the task sees the change or is woken.
    pub task: Option<Waker>,
}

/// A notify that is not written yet: there are messages after `current`, up to `total`.
#[derive(Debug, Clone, Copy)]
struct Pending {
    current: Version,
    total: Version,
}

impl OutputState {
    /// Returns how many bytes the socket has not taken yet.
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// Returns whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.unwritten == 0 && self.notify.is_none()
    }

    /// Returns whether the session's task has something new to write. That is never so while the socket takes nothing.
    pub fn has_work(&self) -> bool {
        self.unwritten == 0 && self.notify.is_some()
    }

    /// Registers the session's task to be woken by the next change. Called by the task before it sleeps.
    pub fn park(&mut self, cx: &Context<'_>) {
        match &mut self.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Adds a notify of messages after `current`, up to `total`. Returns whether it was merged with a pending one, in
    /// which case the greater of both values is kept for each number.
    pub fn notify(&mut self, current: Version, total: Version) -> bool {
        let is_merged = self.notify.is_some();
        self.notify = Some(match self.notify {
            None => Pending { current, total },
            Some(old) => Pending {
                current: old.current.max(current),
                total: old.total.max(total),
            },
        });
        is_merged
    }

    /// Notes that a page is written which ends at `end` of an inbox whose newest version is `total`. If it leaves something
    /// behind, a notify is pending.
    pub fn page_served(&mut self, end: Version, total: Version) {
        self.page_end = Some(end);
        // A notify that is pending already gets the newest version too, for the case that this page is lost.
        if end < total || self.notify.is_some() {
            self.notify(end, total);
        }
    }

    /// Notes that the page from `begin` to `end` does not reach the client, which has still read up to `begin`.
    pub fn page_lost(&mut self, begin: Version, end: Version) {
        // A later page has moved the client already.
        if self.page_end == Some(end) {
            self.page_end = Some(begin);
        }
    }

    /// Discards the pending notify. The client of a session that ends gets the farewell or the last reply instead.
    pub fn forget_notify(&mut self) {
        self.notify = None;
    }

    /// Sets how many bytes the socket has not taken.
    pub fn set_unwritten(&mut self, unwritten: usize) {
        self.unwritten = unwritten;
    }

    /// Takes the pending notify, and appends it as a frame unless a page has caught up with it meanwhile.
    pub fn take_notify(&mut self, framing: Framing, out: &mut BytesMut) {
        let Some(Pending { current, total }) = self.notify.take() else {
            return;
        };
        let current = self.page_end.unwrap_or(current);
        if current >= total {
            return;
        }
        reply_buffer::append(framing, &Pending { current, total }, out);
    }
}

/// Encodes the notify as a [`ResNotify`](crate::proto::ResNotify).
impl Payload for Pending {
    fn encode_payload(&self, dst: &mut BytesMut) {
        let mut fields = Fields::success(Cmd::Notify, dst);
        fields.number(5, self.current.0);
        fields.number(6, self.total.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::proto::{Base, ResNotify};
    use prost::Message;

    const FRAMING: Framing = Framing::LengthPrefix;

    /// Returns the frames that would be written: their commands, and of notifies (currentID, totalID).
    fn taken(output: &mut OutputState) -> Vec<(u32, Option<(i64, i64)>)> {
        let mut bytes = BytesMut::new();
        output.set_unwritten(0);
        output.take_notify(FRAMING, &mut bytes);
        frames(&bytes)
    }

    fn frames(bytes: &[u8]) -> Vec<(u32, Option<(i64, i64)>)> {
        let mut found = Vec::new();
        for (message, _) in codec::frames(bytes) {
            let cmd = Base::decode(message).unwrap().cmd;
            let notify = (cmd == 20007).then(|| ResNotify::decode(message).unwrap());
            found.push((cmd, notify.map(|n| (n.current_id, n.total_id))));
        }
        found
    }

    #[test]
    fn notifies_merge_into_the_newest_whatever_their_order() {
        let mut output = OutputState::default();
        for (current, total) in [(0, 1), (2, 5), (1, 3)] {
            output.notify(Version(current), Version(total));
        }
        assert_eq!(taken(&mut output), [(20007, Some((2, 5)))]);
        assert_eq!(taken(&mut output), [], "it is written once");
    }

    #[test]
    fn a_page_that_has_caught_up_leaves_no_notify() {
        let mut output = OutputState::default();
        output.notify(Version(0), Version(3));
        output.page_served(Version(3), Version(3));
        assert_eq!(taken(&mut output), []);
    }

    #[test]
    fn what_was_stored_while_a_page_was_made_is_notified_after_it() {
        let mut output = OutputState::default();
        output.notify(Version(0), Version(4));
        output.page_served(Version(3), Version(3));
        assert_eq!(taken(&mut output), [(20007, Some((3, 4)))]);
    }

    #[test]
    fn after_a_page_the_reader_is_where_it_ended_also_when_it_went_back() {
        let mut output = OutputState::default();
        output.page_served(Version(50), Version(120));
        output.page_served(Version(10), Version(120));
        output.notify(Version(50), Version(121));
        assert_eq!(taken(&mut output), [(20007, Some((10, 121)))]);
    }

    #[test]
    fn after_a_page_that_is_lost_the_reader_is_where_it_began() {
        let mut output = OutputState::default();
        output.page_served(Version(10), Version(12));
        output.page_lost(Version(4), Version(10));
        assert_eq!(taken(&mut output), [(20007, Some((4, 12)))]);
        // No notify was written for version 13 yet.
        output.notify(Version(4), Version(13));
        output.page_served(Version(13), Version(13));
        output.page_lost(Version(4), Version(13));
        assert_eq!(taken(&mut output), [(20007, Some((4, 13)))]);
        output.page_served(Version(13), Version(13));
        output.page_lost(Version(4), Version(13));
        assert_eq!(taken(&mut output), [], "of these, it was told already");
        output.page_served(Version(8), Version(13));
        output.page_served(Version(13), Version(13));
        output.page_lost(Version(4), Version(8));
        output.notify(Version(4), Version(14));
        assert_eq!(taken(&mut output), [(20007, Some((13, 14)))]);
    }
}

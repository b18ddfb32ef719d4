//! What a session still has to write: its pending notify, the messages to be pushed, how far its client has read, and how much
//! its task has not written.
//!
//! Serves the [`Session`](super::Session), which holds it under a lock. Whatever the number of messages, it takes a bounded
//! amount of memory: notifies merge into one, and a message for which there is no room is not pushed.

use std::task::{Context, Waker};

use bytes::BytesMut;

use super::pushes::Pushes;
use super::reply_buffer;
use crate::codec::Framing;
use crate::id::{Uid, Version};
use crate::proto::fields::Fields;
use crate::proto::{Cmd, Payload};
use crate::store::Entry;

/// In place of the end of a page while there was none. An `Option` would take 8 bytes more of every session.
const NO_PAGE: Version = Version(-1);

/// What a session still has to write, and the waker of the task that writes it.
pub(super) struct OutputState {
    /// How many bytes the socket has not taken yet. The session's task holds them.
    unwritten: usize,
    /// The notify that is not written yet, whatever the number of messages that it stands for.
    notify: NotifyState,
    /// The messages to be pushed. Boxed, since hardly any session has some.
    pushes: Option<Box<Pushes>>,
    /// The end of the last page that was sent on this session, or [`NO_PAGE`]. Every later notify names it as the version up to
    /// which the client has read, since clients copy that number from each notify.
    page_end: Version,
    /// The highest end of all pages so far. Nothing up to it is pushed any more.
    paged_through: Version,
    /// Wakes the session's task, if it sleeps: for a notify, and for every other change of the session's state.
    ///
    /// The lock of this struct orders each change with the task's sleep. The task checks the state and registers here under
    /// the lock, and whoever changes the state takes the lock afterwards to wake it. So the task sees the change or is woken.
    pub task: Option<Waker>,
}

impl Default for OutputState {
    fn default() -> Self {
        OutputState {
            unwritten: 0,
            notify: NotifyState::None,
            pushes: None,
            page_end: NO_PAGE,
            paged_through: Version::START,
            task: None,
        }
    }
}

/// The notify that is not written yet, if there is one.
#[derive(Debug, Clone, Copy, Default)]
enum NotifyState {
    /// There is none.
    #[default]
    None,
    /// The notify after a login, which is pending at the end of its wait.
    Waiting(Notify),
    /// The notify is written as soon as the socket takes it.
    Pending(Notify),
}

/// A notify: there are messages after `current`, up to `total`.
#[derive(Debug, Clone, Copy)]
struct Notify {
    current: Version,
    total: Version,
}

impl NotifyState {
    /// Returns the notify, whether it waits or is pending.
    fn notify(self) -> Option<Notify> {
        match self {
            NotifyState::None => None,
            NotifyState::Waiting(notify) | NotifyState::Pending(notify) => Some(notify),
        }
    }
}

impl Notify {
    /// Returns the notify that stands for both: the greater of both values is kept for each number.
    fn merged_with(self, other: Option<Notify>) -> Notify {
        let Some(other) = other else {
            return self;
        };
        Notify {
            current: self.current.max(other.current),
            total: self.total.max(other.total),
        }
    }
}

impl OutputState {
    /// Returns how many bytes wait to be written: those that the socket has not taken yet, and the messages to be pushed.
    pub fn queued(&self) -> usize {
        self.unwritten + self.pushes.as_ref().map_or(0, |pushes| pushes.size())
    }

    /// Returns whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        let has_notify = !matches!(self.notify, NotifyState::None);
        self.unwritten == 0 && !has_notify && self.pushes.is_none()
    }

    /// Returns whether the session's task has something new to write. That is never so while the socket takes nothing.
    pub fn has_work(&self) -> bool {
        let is_pending = matches!(self.notify, NotifyState::Pending(_));
        self.unwritten == 0 && (is_pending || self.pushes.is_some())
    }

    /// Registers the session's task to be woken by the next change. Called by the task before it sleeps.
    pub fn park(&mut self, cx: &Context<'_>) {
        match &mut self.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Adds a notify of messages after `current`, up to `total`, which is pending from now on. Returns whether it was merged
    /// with one that was not written yet; one that waited waits no longer.
    pub fn notify(&mut self, current: Version, total: Version) -> bool {
        let old = self.notify.notify();
        self.notify = NotifyState::Pending(Notify { current, total }.merged_with(old));
        old.is_some()
    }

    /// Adds a notify of messages after `current`, up to `total`, which waits until [`end_wait`](Self::end_wait). Returns
    /// whether its wait begins now: not if it was merged with a notify that is pending or waits already.
    pub fn notify_after_wait(&mut self, current: Version, total: Version) -> bool {
        let old = self.notify.notify();
        let notify = Notify { current, total }.merged_with(old);
        self.notify = match self.notify {
            NotifyState::Pending(_) => NotifyState::Pending(notify),
            NotifyState::None | NotifyState::Waiting(_) => NotifyState::Waiting(notify),
        };
        old.is_none()
    }

    /// Makes the notify that waits a pending one. Has no effect if none waits any more.
    pub fn end_wait(&mut self) {
        if let NotifyState::Waiting(notify) = self.notify {
            self.notify = NotifyState::Pending(notify);
        }
    }

    /// Adds a message that is pushed to `receiver`. Returns false, and adds nothing, if a page has brought the message already,
    /// or if more than `limit` bytes would wait to be written with it.
    pub fn push(&mut self, receiver: Uid, entry: &Entry, limit: usize) -> bool {
        let size = Pushes::frame_size(receiver, entry);
        if entry.version <= self.paged_through || self.queued() + size > limit {
            return false;
        }
        let pushes = self.pushes.get_or_insert_default();
        pushes.add(entry.clone(), size);
        true
    }

    /// Notes that a page is written which ends at `end` of an inbox whose newest version is `total`. If it leaves something
    /// behind, a notify is pending. What it brings is not pushed any more.
    pub fn page_served(&mut self, end: Version, total: Version) {
        self.page_end = end;
        self.paged_through = self.paged_through.max(end);
        if let Some(pushes) = &mut self.pushes {
            pushes.remove_through(end);
            if pushes.is_empty() {
                self.pushes = None;
            }
        }
        // A notify that is not written yet gets the newest version too, for the case that this page is lost. It also waits no
        // longer, since the page is what it was to wait for.
        if end < total || self.notify.notify().is_some() {
            self.notify(end, total);
        }
    }

    /// Notes that the page from `begin` to `end` does not reach the client, which has still read up to `begin`.
    pub fn page_lost(&mut self, begin: Version, end: Version) {
        // A later page has moved the client already.
        if self.page_end == end {
            self.page_end = begin;
        }
    }

    /// Discards the notify and the pushed messages that are not written yet. The client of a session that ends gets the
    /// farewell or the last reply instead.
    pub fn forget_unrequested(&mut self) {
        self.notify = NotifyState::None;
        self.pushes = None;
    }

    /// Sets how many bytes the socket has not taken.
    pub fn set_unwritten(&mut self, unwritten: usize) {
        self.unwritten = unwritten;
    }

    /// Takes the messages to be pushed, and appends them as frames to `receiver`, as long as `out` then has `limit` bytes at
    /// most. Returns how many were appended.
    pub fn take_pushes(
        &mut self,
        receiver: Uid,
        framing: Framing,
        limit: usize,
        out: &mut BytesMut,
    ) -> u64 {
        let pushes = self.pushes.take();
        pushes.map_or(0, |pushes| pushes.write(receiver, framing, limit, out))
    }

    /// Takes the pending notify, and appends it as a frame unless a page has caught up with it meanwhile.
    pub fn take_notify(&mut self, framing: Framing, out: &mut BytesMut) {
        let NotifyState::Pending(Notify { current, total }) = self.notify else {
            return;
        };
        self.notify = NotifyState::None;
        let current = match self.page_end {
            NO_PAGE => current,
            end => end,
        };
        if current >= total {
            return;
        }
        reply_buffer::append(framing, &Notify { current, total }, out);
    }
}

/// Encodes the notify as a [`ResNotify`](crate::proto::ResNotify).
impl Payload for Notify {
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
    use crate::id::MsgId;
    use crate::proto::{Base, ResNotify, ResSendP2pMsg};
    use crate::store::{Kind, Message as StoredMessage};
    use prost::Message;
    use std::sync::Arc;

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

    fn entry(version: i64) -> Entry {
        let msg_id = version.to_string();
        let message = StoredMessage::new(Kind::P2p, Uid(1), None, MsgId(&msg_id), "x", 7);
        Entry {
            version: Version(version),
            message: Arc::new(message),
        }
    }

    /// Returns the ids of the messages that would be pushed.
    fn pushed(output: &mut OutputState) -> Vec<String> {
        let mut bytes = BytesMut::new();
        output.take_pushes(Uid(2), FRAMING, 1_000, &mut bytes);
        codec::frames(&bytes)
            .map(|(message, _)| ResSendP2pMsg::decode(message).unwrap().msg_id)
            .collect()
    }

    #[test]
    fn what_a_page_has_brought_is_not_pushed_whichever_comes_first() {
        let mut output = OutputState::default();
        for version in 1..=4 {
            assert!(output.push(Uid(2), &entry(version), 1_000));
        }
        output.page_served(Version(3), Version(4));
        assert!(!output.push(Uid(2), &entry(3), 1_000), "it comes late");
        assert_eq!(pushed(&mut output), ["4"]);
        output.page_served(Version(4), Version(4));
        // A client that goes back has been brought the others all the same.
        output.page_served(Version(1), Version(4));
        assert!(!output.push(Uid(2), &entry(4), 1_000));
        assert!(output.push(Uid(2), &entry(5), 1_000));
        output.page_served(Version(5), Version(5));
        assert!(output.pushes.is_none(), "no memory is kept");
        assert_eq!(pushed(&mut output), [""; 0]);
    }

    #[test]
    fn a_message_for_which_there_is_no_room_is_not_pushed() {
        let size = Pushes::frame_size(Uid(2), &entry(1));
        let mut output = OutputState::default();
        output.set_unwritten(100);
        let limit = 100 + 2 * size;
        let accepted = (1..=3).filter(|&version| output.push(Uid(2), &entry(version), limit));
        assert_eq!(accepted.count(), 2);
        assert_eq!(output.queued(), limit);
        assert!(!output.has_work(), "the socket takes nothing");
        output.set_unwritten(0);
        assert!(output.has_work() && !output.is_empty());
        assert_eq!(pushed(&mut output), ["1", "2"]);
        assert!(output.is_empty());
    }

    #[test]
    fn the_notify_after_a_login_waits_until_its_time_or_another_reason() {
        let waiting = || {
            let mut output = OutputState::default();
            assert!(output.notify_after_wait(Version(0), Version(3)));
            assert!(!output.has_work() && !output.is_empty());
            assert_eq!(taken(&mut output), [], "it waits");
            output
        };
        let mut output = waiting();
        assert!(
            !output.notify_after_wait(Version(0), Version(4)),
            "one wait is enough"
        );
        output.end_wait();
        assert_eq!(taken(&mut output), [(20007, Some((0, 4)))]);
        output.end_wait();
        assert!(output.is_empty(), "nothing waits any more");

        let mut output = waiting();
        assert!(output.notify(Version(0), Version(4)), "it is merged");
        assert_eq!(taken(&mut output), [(20007, Some((0, 4)))]);

        let mut output = waiting();
        output.page_served(Version(2), Version(3));
        assert_eq!(taken(&mut output), [(20007, Some((2, 3)))]);

        let mut output = waiting();
        output.page_served(Version(3), Version(3));
        assert_eq!(taken(&mut output), []);
        assert!(output.is_empty(), "the page has caught up");

        let mut output = waiting();
        output.page_served(Version(3), Version(3));
        output.page_lost(Version(0), Version(3));
        assert_eq!(taken(&mut output), [(20007, Some((0, 3)))]);

        let mut output = OutputState::default();
        output.notify(Version(0), Version(3));
        assert!(!output.notify_after_wait(Version(0), Version(3)));
        assert!(output.has_work(), "what is pending does not begin to wait");
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

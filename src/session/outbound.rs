//! What is queued for a session's client: the pending notify, and how far the client has read.
//!
//! Serves the [`Session`](super::Session), which holds it under a lock. It takes a constant amount of memory, whatever the
//! number of messages: pending notifies merge into one.

use std::task::{Context, Waker};

use bytes::BytesMut;

use crate::codec::Framing;
use crate::id::Version;
use crate::proto::fields::Fields;
use crate::proto::{Cmd, Code, Payload, Reply};

/// What others have queued for a session, and how much its task has not written.
#[derive(Default)]
pub(super) struct Outbound {
    /// How many bytes the socket has not taken yet. The session's task holds them.
    unwritten: usize,
    /// The pending notify, whatever the number of messages that it stands for.
    notify: Option<Pending>,
    /// The end of the last page that was sent on this session. Every later notify names it as the version up to which the
    /// client has read, since clients copy that number from each notify.
    page_end: Option<Version>,
    /// Wakes the session's task, if it sleeps.
    pub task: Option<Waker>,
}

/// A notify that is not written yet: there are messages after `current`, up to `total`.
#[derive(Debug, Clone, Copy)]
struct Pending {
    current: Version,
    total: Version,
}

impl Outbound {
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

    /// Queues a notify of messages after `current`, up to `total`. Returns whether it was merged with a pending one, in
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
    /// behind, a notify is queued.
    pub fn page_served(&mut self, end: Version, total: Version) {
        self.page_end = Some(end);
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
        append(framing, &Pending { current, total }, out);
    }
}

/// Encodes the notify as a [`ResNotify`](crate::proto::ResNotify).
impl Payload for Pending {
    fn encode_payload(&self, dst: &mut BytesMut) {
        let mut fields = Fields::done(Cmd::Notify, dst);
        fields.number(5, self.current.0);
        fields.number(6, self.total.0);
    }
}

/// Appends a message as a frame. Returns whether the message itself was appended: one that is too long for a frame is a
/// mistake of this server, and a reply to the same command with the code 90001 is appended in its place.
pub(super) fn append(framing: Framing, message: &impl Payload, out: &mut BytesMut) -> bool {
    let Err(error) = framing.encode(message, out) else {
        return true;
    };
    tracing::error!(%error, "an answer fits no frame: it is refused instead");
    let (code, text) = (Code::ServerError, Code::ServerError.because(&error));
    let refused = refusal_of(message).map(|reply| reply.with(code, text));
    let refused = refused.is_some_and(|reply| framing.encode(&reply, out).is_ok());
    if !refused {
        let sorry = Reply::server(code, code.text());
        if let Err(error) = framing.encode(&sorry, out) {
            tracing::error!(%error, "nor was the error in its place");
        }
    }
    false
}

/// Returns the refusal of the command that a message replies to.
fn refusal_of(message: &impl Payload) -> Option<Reply> {
    let mut encoded = BytesMut::new();
    message.encode_payload(&mut encoded);
    let reply = Reply::decode(Cmd::of(&encoded)?, &encoded)?;
    Some(reply.refused(Code::ServerError))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, MAX_FRAME};

    const FRAMING: Framing = Framing::LengthPrefix;
    use crate::proto::{
        Base, OffsetMsg, ReqSyncMsg, ResNotify, ResSelectAccessServerForClient, ResSyncMsg,
    };
    use prost::Message;

    /// Returns the frames that would be written: their commands, and of notifies (currentID, totalID).
    fn taken(outbound: &mut Outbound) -> Vec<(u32, Option<(i64, i64)>)> {
        let mut bytes = BytesMut::new();
        outbound.set_unwritten(0);
        outbound.take_notify(FRAMING, &mut bytes);
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
        let mut outbound = Outbound::default();
        for (current, total) in [(0, 1), (2, 5), (1, 3)] {
            outbound.notify(Version(current), Version(total));
        }
        assert_eq!(taken(&mut outbound), [(20007, Some((2, 5)))]);
        assert_eq!(taken(&mut outbound), [], "it is written once");
    }

    #[test]
    fn a_page_that_has_caught_up_leaves_no_notify() {
        let mut outbound = Outbound::default();
        outbound.notify(Version(0), Version(3));
        outbound.page_served(Version(3), Version(3));
        assert_eq!(taken(&mut outbound), []);
    }

    #[test]
    fn what_was_stored_while_a_page_was_made_is_notified_after_it() {
        let mut outbound = Outbound::default();
        outbound.notify(Version(0), Version(4));
        outbound.page_served(Version(3), Version(3));
        assert_eq!(taken(&mut outbound), [(20007, Some((3, 4)))]);
    }

    #[test]
    fn after_a_page_the_reader_is_where_it_ended_also_when_it_went_back() {
        let mut outbound = Outbound::default();
        outbound.page_served(Version(50), Version(120));
        outbound.page_served(Version(10), Version(120));
        outbound.notify(Version(50), Version(121));
        assert_eq!(taken(&mut outbound), [(20007, Some((10, 121)))]);
    }

    #[test]
    fn after_a_page_that_is_lost_the_reader_is_where_it_began() {
        let mut outbound = Outbound::default();
        outbound.page_served(Version(10), Version(12));
        outbound.page_lost(Version(4), Version(10));
        assert_eq!(taken(&mut outbound), [(20007, Some((4, 12)))]);
        // No notify was written for version 13 yet.
        outbound.notify(Version(4), Version(13));
        outbound.page_served(Version(13), Version(13));
        outbound.page_lost(Version(4), Version(13));
        assert_eq!(taken(&mut outbound), [(20007, Some((4, 13)))]);
        outbound.page_served(Version(13), Version(13));
        outbound.page_lost(Version(4), Version(13));
        assert_eq!(taken(&mut outbound), [], "of these, it was told already");
        outbound.page_served(Version(8), Version(13));
        outbound.page_served(Version(13), Version(13));
        outbound.page_lost(Version(4), Version(8));
        outbound.notify(Version(4), Version(14));
        assert_eq!(taken(&mut outbound), [(20007, Some((13, 14)))]);
    }

    #[test]
    fn a_reply_that_fits_no_frame_is_refused_as_the_command_that_it_answers() {
        let long = || "x".repeat(MAX_FRAME);
        let request = ReqSyncMsg {
            current_id: 5,
            ..Default::default()
        };
        for reply in [
            Reply::login(),
            Reply::ping(),
            Reply::login().as_schema(),
            Reply::select_access(String::new()),
            Reply::p2p(1, 2, "an id"),
            Reply::group(3, "an id"),
            Reply::ack(),
            Reply::sync(&request),
            Reply::logout(),
            Reply::server(Code::Ok, "any"),
        ] {
            let mut bytes = BytesMut::new();
            assert!(!append(
                FRAMING,
                &reply.clone().with(Code::Ok, long()),
                &mut bytes
            ));
            let [(message, taken)] = codec::frames(&bytes).collect::<Vec<_>>()[..] else {
                panic!("not one frame for {:?}", reply.cmd());
            };
            assert_eq!(taken, bytes.len());
            let refused = Reply::decode(reply.cmd(), message).unwrap();
            let (code, text) = refused.verdict();
            assert_eq!(code, 90001, "{:?}", reply.cmd());
            assert!(text.starts_with("server error: "), "{text}");
            // The refusal has the same ids as the reply.
            assert_eq!(refused.with(Code::Ok, "ok"), reply.with(Code::Ok, "ok"));
        }
    }

    #[test]
    fn an_address_and_a_page_that_fit_no_frame_are_refused_without_them() {
        let mut bytes = BytesMut::new();
        append(
            FRAMING,
            &Reply::select_access("x".repeat(70_000)),
            &mut bytes,
        );
        let reply = ResSelectAccessServerForClient::decode(&bytes[2..]).unwrap();
        assert_eq!(
            (reply.cmd, reply.err_code, &*reply.addr),
            (10001, 90001, "")
        );
        let entry = |version| OffsetMsg {
            msg: "x".repeat(32_768),
            increment_id: version,
            ..Default::default()
        };
        let page = ResSyncMsg {
            cmd: 20006,
            current_id: 9,
            total_id: 9,
            msgs: (6..=9).map(entry).collect(),
            ..Default::default()
        };
        let mut bytes = BytesMut::new();
        append(FRAMING, &page, &mut bytes);
        let page = ResSyncMsg::decode(&bytes[2..]).unwrap();
        assert_eq!(
            (page.cmd, page.err_code, page.current_id),
            (20006, 90001, 5)
        );
        assert!(page.msgs.is_empty());
    }
}

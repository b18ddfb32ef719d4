//! Converts commands into requests to the services, and their results into messages of the wire contract.
//!
//! Serves the module `handler`. Only `access` knows both the services and the messages of the wire.
//!
//! Every request to an access server passes through here. For speed, the common replies are encoded directly from the
//! stored messages, without a message of the contract in between.

use bytes::BytesMut;

use crate::codec::MAX_FRAME;
use crate::command::{BadFrame, Command, Sending};
use crate::config::Quirks;
use crate::id::{MsgId, Uid, Version};
use crate::proto::fields::Fields;
use crate::proto::{Cmd, Payload, Reply, ReqSyncMsg};
use crate::service::{PendingWrite, Refusal, SendRequest, SyncRequest, Target, WriteBatch};
use crate::store::{EncodedPage, Kind, PageLimit};

/// An upper bound of the size of a `ResSyncMsg` without its entries, in bytes: cmd 4, errStr 4, currentID and totalID
/// 11 each.
const PAGE_HEADER: usize = 30;

/// Returns the user whom a command claims to come from. None if it names none, or names 0, which stands for none on the
/// wire.
pub(super) fn claimed_user(command: &Command<'_>) -> Option<Uid> {
    Uid::nonzero(match command {
        Command::Login(request) => request.uid,
        Command::Ping(request) => request.uid,
        Command::Sync(request) => request.uid,
        Command::Logout(request) => request.uid,
        Command::P2p(sending) | Command::Accept(sending) => sending.source.0,
        Command::Group(sending) => sending.source.0,
        Command::SelectAccess(_) => 0,
    })
}

/// Converts a command into the request to store a message or an acceptance.
pub(super) fn send_request<'a, T: Copy>(sending: &'a Sending<'_, T>) -> SendRequest<'a, T> {
    SendRequest {
        claimed: Uid::nonzero(sending.source.0),
        target: sending.target,
        msg_id: MsgId(&sending.msg_id),
        text: &sending.text,
    }
}

/// Converts a sync into the request for a page, which is limited to what fits into one frame.
pub(super) fn sync_request(request: &ReqSyncMsg) -> SyncRequest {
    SyncRequest {
        claimed: Uid::nonzero(request.uid),
        after: Version(request.current_id),
        limit: PageLimit {
            entries: usize::try_from(request.limit).unwrap_or(usize::MAX),
            bytes: MAX_FRAME - PAGE_HEADER,
        },
    }
}

/// The replies to requests of one batch that are not complete yet, in the order of the requests.
#[derive(Debug, Default)]
pub(super) struct PendingReplies {
    /// The writes that have to be stored first. Each is replied to when it has been committed.
    pub writes: WriteBatch,
    /// The replies that depend on no write, in the order of their requests.
    ready: Vec<ReadyReply>,
}

/// A reply that depends on no write, and its place among the replies to writes.
#[derive(Debug)]
pub(super) struct ReadyReply {
    /// How many writes of the batch are to be replied to before this reply is sent.
    pub writes_before: usize,
    pub reply: Reply,
}

impl PendingReplies {
    /// Adds a reply that depends on no write.
    pub fn push(&mut self, reply: Reply) {
        self.ready.push(ReadyReply {
            writes_before: self.writes.len(),
            reply,
        });
    }

    /// Returns the number of replies.
    pub fn len(&self) -> usize {
        self.writes.len() + self.ready.len()
    }

    /// Returns whether there are no replies.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.ready.is_empty()
    }

    /// Splits the writes from the replies that depend on none.
    pub fn into_parts(self) -> (WriteBatch, Vec<ReadyReply>) {
        (self.writes, self.ready)
    }
}

/// The form of the replies: that of the contract, or that of the original stack if a quirk asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplyForm {
    /// Whether ids are left out, by the quirk `no_msg_id_in_replies`.
    without_ids: bool,
    /// Whether the reply to a login or a ping is a `ResLogin`, by the quirk `replies_as_schema`.
    as_schema: bool,
}

impl ReplyForm {
    /// Returns the form that the quirks ask for.
    pub fn new(quirks: &Quirks) -> Self {
        ReplyForm {
            without_ids: quirks.no_msg_id_in_replies,
            as_schema: quirks.replies_as_schema,
        }
    }

    /// Returns whether all replies have the form of the contract.
    pub fn is_plain(self) -> bool {
        !self.without_ids && !self.as_schema
    }

    /// Converts a reply of the contract into this form.
    pub fn apply(self, mut reply: Reply) -> Reply {
        if self.without_ids {
            reply = reply.without_ids();
        }
        if self.as_schema {
            reply = reply.as_schema();
        }
        reply
    }
}

/// Returns the reply that acknowledges a command, with its ids. An error is written into it by [`refusal`].
pub(super) fn success_reply(command: &Command<'_>) -> Reply {
    match command {
        Command::SelectAccess(_) => Reply::select_access(String::new()),
        Command::Login(_) => Reply::login(),
        Command::Ping(_) => Reply::ping(),
        Command::P2p(sending) => Reply::p2p(sending.source.0, sending.target.0, &sending.msg_id),
        Command::Accept(_) => Reply::ack(),
        Command::Group(sending) => Reply::group(sending.target.0, &sending.msg_id),
        Command::Sync(request) => Reply::sync(request),
        Command::Logout(_) => Reply::logout(),
    }
}

/// Returns the reply to a frame that is no command.
pub(super) fn bad_frame(bad: &BadFrame) -> Reply {
    Reply::server(bad.code(), bad.code().because(bad))
}

/// Returns `success` with the code and text of a refusal. `success` has the ids of the request and no contents, like every
/// [`success_reply`]. A reply that may have contents is refused by [`Reply::into_refusal`], which takes them out.
pub(super) fn refusal(success: Reply, refusal: Refusal) -> Reply {
    success.with_code(refusal.code, refusal.text)
}

/// Returns the reply to a write that was stored. [`StoredReply`] encodes the same reply faster.
pub(super) fn stored_reply(write: &PendingWrite) -> Reply {
    reply_with_id(write, write.message.msg_id().as_str())
}

/// Returns the reply that refuses a write. It leaves out an id that the server made for the message, since no message
/// has it.
pub(super) fn write_refusal(write: &PendingWrite, why: Refusal) -> Reply {
    let msg_id = match write.has_generated_id {
        true => "",
        false => write.message.msg_id().as_str(),
    };
    refusal(reply_with_id(write, msg_id), why)
}

fn reply_with_id(write: &PendingWrite, msg_id: &str) -> Reply {
    match write.target {
        Target::Group(group) => Reply::group(group.0, msg_id),
        Target::User(_) if write.message.kind == Kind::Ack => Reply::ack(),
        Target::User(target) => Reply::p2p(write.message.source.0, target.0, msg_id),
    }
}

/// The reply to a write that was stored, encoded directly from the stored message.
pub(super) struct StoredReply<'a>(pub &'a PendingWrite);

impl Payload for StoredReply<'_> {
    fn encode_payload(&self, dst: &mut BytesMut) {
        let StoredReply(PendingWrite {
            target, message, ..
        }) = self;
        // The numbers of the fields are those of the replies in proto/external/access.proto.
        match target {
            Target::Group(group) => {
                let mut fields = Fields::success(Cmd::SendGroupMsg, dst);
                fields.number(5, group.0);
                fields.text(6, message.msg_id().as_str());
            }
            Target::User(_) if message.kind == Kind::Ack => {
                // This reply has no further field; dropping `Fields` writes what is staged.
                drop(Fields::success(Cmd::AcceptP2PMsgAck, dst));
            }
            Target::User(target) => {
                let mut fields = Fields::success(Cmd::SendP2PMsg, dst);
                fields.number(5, message.source.0);
                fields.number(6, target.0);
                fields.text(7, message.msg_id().as_str());
            }
        }
    }
}

/// A page as a `ResSyncMsg`.
pub(super) struct PageReply<'a>(pub &'a EncodedPage);

impl Payload for PageReply<'_> {
    fn encode_payload(&self, dst: &mut BytesMut) {
        let PageReply(page) = self;
        let mut fields = Fields::success(Cmd::SyncMsg, dst);
        fields.number(5, page.current.0);
        fields.encoded(&page.entries);
        fields.number(7, page.total.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::GroupId;
    use crate::proto::{OffsetMsg, ResSyncMsg};
    use crate::store::{Entry, Message, Page};
    use proptest::prelude::*;
    use prost::Message as _;
    use std::sync::Arc;

    fn stored(kind: Kind, msg_id: &str) -> Arc<Message> {
        let group = (kind == Kind::Group).then_some(GroupId(50));
        Arc::new(Message::new(
            kind,
            Uid(1),
            group,
            MsgId(msg_id),
            "a text",
            7,
        ))
    }

    #[test]
    fn the_reply_to_a_stored_write_is_written_byte_for_byte_as_the_contract_has_it() {
        let user = Target::User(Uid(50));
        let group = Target::Group(GroupId(50));
        let all = [(Kind::P2p, user), (Kind::Group, group), (Kind::Ack, user)];
        let all = all.map(|(kind, target)| PendingWrite {
            target,
            message: stored(kind, "an id"),
            has_generated_id: false,
        });
        for write in all {
            let (mut straight, mut as_message) = (BytesMut::new(), BytesMut::new());
            StoredReply(&write).encode_payload(&mut straight);
            stored_reply(&write).encode_payload(&mut as_message);
            assert_eq!(straight, as_message);
        }
    }

    #[test]
    fn an_id_that_the_server_made_is_told_only_where_the_message_is_stored() {
        let write = |has_generated_id| PendingWrite {
            target: Target::User(Uid(2)),
            message: stored(Kind::P2p, "77"),
            has_generated_id,
        };
        let refused_id = |has_generated_id| {
            let refusal = Refusal::plain(crate::proto::Code::ServerError);
            match write_refusal(&write(has_generated_id), refusal) {
                Reply::P2p(reply) => reply.msg_id,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused_id(true), "");
        assert_eq!(refused_id(false), "77");
        let Reply::P2p(reply) = stored_reply(&write(true)) else {
            panic!("not the reply to a message to one user");
        };
        assert_eq!(reply.msg_id, "77");
    }

    /// Returns a page as the message that prost generates.
    fn message(uid: Uid, page: &Page) -> ResSyncMsg {
        let entry = |entry: &Entry| OffsetMsg {
            source_uid: entry.message.source.0,
            target_uid: uid.0,
            group_id: GroupId::or_zero(entry.message.group()),
            msg_type: entry.message.kind.msg_type().into(),
            msg_id: entry.message.msg_id().to_string(),
            msg: entry.message.text().into(),
            increment_id: entry.version.0,
            send_time: entry.message.sent_at,
        };
        ResSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            err_str: "ok".into(),
            current_id: page.current.0,
            total_id: page.total.0,
            msgs: page.entries.iter().map(entry).collect(),
            ..Default::default()
        }
    }

    prop_compose! {
        fn entry()(
            source in any::<i64>(), group in any::<i64>(), version in any::<i64>(), sent_at in any::<i64>(),
            msg_id in ".{0,40}", text in ".{0,400}",
        ) -> Entry {
            let group = GroupId::nonzero(group);
            let message = Message::new(Kind::Group, Uid(source), group, MsgId(&msg_id), &text, sent_at);
            Entry { version: Version(version), message: Arc::new(message) }
        }
    }

    proptest! {
        #[test]
        fn a_page_is_written_byte_for_byte_as_the_contract_has_it(
            uid in any::<i64>(), current in any::<i64>(), total in any::<i64>(),
            entries in prop::collection::vec(entry(), 0..4),
        ) {
            let (uid, current, total) = (Uid(uid), Version(current), Version(total));
            let page = Page { entries, current, total };
            let expected = message(uid, &page).encode_to_vec();
            // Stores limit a page by this size: if that were too small, a page might not fit into its frame.
            let len: usize = page.entries.iter().map(|entry| entry.in_page(uid).size()).sum();
            let empty = Page { entries: Vec::new(), current, total };
            prop_assert_eq!(len, expected.len() - message(uid, &empty).encoded_len());
            let mut written = BytesMut::new();
            PageReply(&EncodedPage::new(uid, &page)).encode_payload(&mut written);
            prop_assert_eq!(&written[..], &expected[..]);
        }
    }
}

//! The messages that are pushed to the client of a session and not written yet.
//!
//! Serves the session's `output_state`, which holds a [`Pushes`] only while there are any. A pushed message is the original
//! stack's frame for an incoming message: a `ResSendP2PMsg` with a text, which no reply has.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::reply_buffer;
use crate::codec::Framing;
use crate::id::{Uid, Version};
use crate::proto::fields::{Fields, number_len, text_len};
use crate::proto::{Cmd, Payload};
use crate::store::{Entry, Message};

/// An upper bound of the size of a pushed message without its ids and its text, in bytes: cmd 4, errStr 4, and what its frame
/// begins with, which is 2 bytes of length, or 4 bytes for a WebSocket.
const HEADER: usize = 12;

/// The messages to be pushed, in the order in which they are written.
#[derive(Default)]
pub(super) struct Pushes {
    queue: VecDeque<Push>,
    /// An upper bound of the size of all frames of the queue, in bytes.
    size: usize,
}

struct Push {
    entry: Entry,
    /// An upper bound of the size of the frame, in bytes.
    size: usize,
}

/// A message as a frame that is pushed to its receiver.
struct PushedMessage<'a> {
    receiver: Uid,
    message: &'a Message,
}

impl Pushes {
    /// Returns an upper bound of the size of the frame in which an entry is pushed to `receiver`, in bytes: with a length prefix
    /// the frame is 2 bytes shorter.
    pub fn frame_size(receiver: Uid, entry: &Entry) -> usize {
        let message = &*entry.message;
        HEADER
            + number_len(5, message.source.0)
            + number_len(6, receiver.0)
            + text_len(7, message.msg_id().as_str())
            + text_len(8, message.text())
    }

    /// Returns an upper bound of the size of all frames, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns whether there is nothing to be pushed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds an entry whose frame has this [size](Self::frame_size).
    pub fn add(&mut self, entry: Entry, size: usize) {
        self.size += size;
        self.queue.push_back(Push { entry, size });
    }

    /// Removes the entries up to version `end`.
    pub fn remove_through(&mut self, end: Version) {
        self.queue.retain(|push| push.entry.version > end);
        self.size = self.queue.iter().map(|push| push.size).sum();
    }

    /// Appends the frames to `out`, as long as that then has `limit` bytes at most. The entries after that are not pushed.
    /// Returns how many were.
    pub fn write(self, receiver: Uid, framing: Framing, limit: usize, out: &mut BytesMut) -> u64 {
        let mut written = 0;
        for Push { entry, size } in self.queue {
            if out.len() + size > limit {
                break;
            }
            let message = &*entry.message;
            reply_buffer::append(framing, &PushedMessage { receiver, message }, out);
            written += 1;
        }
        written
    }
}

/// Encodes the message as a [`ResSendP2pMsg`](crate::proto::ResSendP2pMsg).
impl Payload for PushedMessage<'_> {
    fn encode_payload(&self, dst: &mut BytesMut) {
        let mut fields = Fields::success(Cmd::SendP2PMsg, dst);
        fields.number(5, self.message.source.0);
        fields.number(6, self.receiver.0);
        fields.text(7, self.message.msg_id().as_str());
        fields.text(8, self.message.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::id::MsgId;
    use crate::proto::ResSendP2pMsg;
    use crate::store::Kind;
    use prost::Message as _;
    use std::sync::Arc;

    fn entry(version: i64, msg_id: &str, text: &str) -> Entry {
        let message = Message::new(Kind::P2p, Uid(1), None, MsgId(msg_id), text, 7);
        Entry {
            version: Version(version),
            message: Arc::new(message),
        }
    }

    fn written(pushes: Pushes, limit: usize) -> Vec<ResSendP2pMsg> {
        let mut out = BytesMut::new();
        let count = pushes.write(Uid(2), Framing::LengthPrefix, limit, &mut out);
        let frames: Vec<_> = codec::frames(&out)
            .map(|(message, _)| ResSendP2pMsg::decode(message).unwrap())
            .collect();
        assert_eq!(count, frames.len() as u64);
        frames
    }

    #[test]
    fn a_pushed_message_has_the_fields_of_the_contract_and_no_more_than_the_size_that_is_counted() {
        for (msg_id, text) in [("", "x"), ("an id", &*"y".repeat(40_000))] {
            let mut pushes = Pushes::default();
            let entry = entry(1, msg_id, text);
            let size = Pushes::frame_size(Uid(2), &entry);
            pushes.add(entry, size);
            assert_eq!(pushes.size(), size);
            let expected = ResSendP2pMsg {
                cmd: 20003,
                err_str: "ok".into(),
                source_uid: 1,
                target_uid: 2,
                msg_id: msg_id.into(),
                msg: text.into(),
                ..Default::default()
            };
            // The largest header of a WebSocket frame that a message fits.
            assert_eq!(expected.encoded_len() + 4, size);
            assert_eq!(written(pushes, size), [expected]);
        }
    }

    #[test]
    fn what_does_not_fit_any_more_is_not_pushed() {
        let mut pushes = Pushes::default();
        let size = Pushes::frame_size(Uid(2), &entry(1, "a", "x"));
        for version in 1..=3 {
            pushes.add(entry(version, "a", "x"), size);
        }
        assert_eq!(written(pushes, 2 * size).len(), 2);
    }

    #[test]
    fn entries_of_a_page_are_removed_whatever_their_order() {
        let mut pushes = Pushes::default();
        for version in [4, 2, 5, 3] {
            pushes.add(entry(version, &version.to_string(), "x"), 10);
        }
        pushes.remove_through(Version(3));
        assert_eq!(pushes.size(), 20);
        let left: Vec<String> = written(pushes, 1_000)
            .into_iter()
            .map(|push| push.msg_id)
            .collect();
        assert_eq!(left, ["4", "5"]);
    }
}

//! The pages of an inbox, as the client returns them.
//!
//! Serves [`Client::sync`](super::Client::sync). Whichever stack serves a page, it comes out as the contract describes it:
//! without blank entries, and without messages that the page before had already.

use std::collections::HashSet;

use crate::id::Version;
use crate::proto::{OffsetMsg, ResSendP2pMsg, ResSyncMsg};

/// A message in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Position in the receiver's inbox, from 1; 0 if the server does not say it.
    pub version: i64,
    /// The user who sent the message, or who accepted one in the case of an ack.
    pub source: i64,
    /// The group that the message was sent to, or 0.
    pub group: i64,
    /// Whether the message is to a user, to a group, or an ack.
    pub kind: MessageKind,
    /// Id that the sender gave the message; in an ack, the id of the accepted message.
    pub msg_id: String,
    /// The text; empty in an ack.
    pub text: String,
    /// When the message was sent, as Unix time in milliseconds; 0 if the server does not say it.
    pub sent_at: i64,
}

/// The kind of a message: `msgType` on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageKind {
    /// A message from one user to another.
    P2p,
    /// A message to a group.
    Group,
    /// The receiver of a message has accepted it.
    Ack,
    /// A kind that this client does not know: its name on the wire.
    Other(String),
}

impl MessageKind {
    /// Returns the name of the kind on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            MessageKind::P2p => "p2p",
            MessageKind::Group => "group",
            MessageKind::Ack => "ack",
            MessageKind::Other(name) => name,
        }
    }
}

/// Consecutive messages of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The version to continue from: pass it to the next [`sync`](super::Client::sync).
    pub current: i64,
    /// The newest version of the inbox; 0 if the server does not say it.
    pub total: i64,
}

impl From<OffsetMsg> for Message {
    fn from(entry: OffsetMsg) -> Self {
        let kind = match entry.msg_type.as_str() {
            "p2p" => MessageKind::P2p,
            "group" => MessageKind::Group,
            "ack" => MessageKind::Ack,
            // The original stack leaves the kind out.
            "" if entry.group_id != 0 => MessageKind::Group,
            "" => MessageKind::P2p,
            _ => MessageKind::Other(entry.msg_type),
        };
        Message {
            version: entry.increment_id,
            source: entry.source_uid,
            group: entry.group_id,
            kind,
            msg_id: entry.msg_id,
            text: entry.msg,
            sent_at: entry.send_time,
        }
    }
}

impl From<ResSendP2pMsg> for Message {
    fn from(message: ResSendP2pMsg) -> Self {
        Message {
            version: 0,
            source: message.source_uid,
            group: 0,
            kind: MessageKind::P2p,
            msg_id: message.msg_id,
            text: message.msg,
            sent_at: 0,
        }
    }
}

/// The messages of the last page. The pages of the original stack begin with the last message of the page before.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Source, group and message id of each message that has no version.
    last: HashSet<(i64, i64, String)>,
}

impl Seen {
    /// Converts a reply to the page that the contract describes: without blank entries, and without messages of the page
    /// before.
    pub fn page(&mut self, after: Version, reply: ResSyncMsg) -> Page {
        let (current, total) = (reply.current_id, reply.total_id);
        // A server that was reset may know only lower versions than the reader, and starts again from the first one.
        let restarted = current < after.0;
        let mut messages: Vec<Message> = Vec::new();
        let mut last = HashSet::new();
        for entry in reply.msgs {
            if entry == OffsetMsg::default() {
                continue;
            }
            let message = Message::from(entry);
            let known = if message.version > 0 {
                message.version <= after.0 && !restarted
            } else {
                let id = (message.source, message.group, message.msg_id.clone());
                let known = !message.msg_id.is_empty() && self.last.contains(&id);
                last.insert(id);
                known
            };
            if !known {
                messages.push(message);
            }
        }
        if !last.is_empty() {
            self.last = last;
        }
        Page {
            messages,
            current,
            total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, version: i64) -> OffsetMsg {
        OffsetMsg {
            source_uid: 1,
            msg_id: id.into(),
            increment_id: version,
            ..Default::default()
        }
    }

    fn ids(page: &Page) -> Vec<&str> {
        page.messages
            .iter()
            .map(|message| message.msg_id.as_str())
            .collect()
    }

    fn reply(current_id: i64, msgs: Vec<OffsetMsg>) -> ResSyncMsg {
        ResSyncMsg {
            current_id,
            msgs,
            ..Default::default()
        }
    }

    #[test]
    fn pages_of_the_original_stack_show_each_message_once() {
        let mut seen = Seen::default();
        let first = seen.page(Version(0), reply(2, vec![entry("a", 0), entry("b", 0)]));
        let second = seen.page(Version(2), reply(3, vec![entry("b", 0), entry("c", 0)]));
        assert_eq!(ids(&first), ["a", "b"]);
        assert_eq!(ids(&second), ["c"]);
    }

    #[test]
    fn blank_entries_and_earlier_versions_are_left_out() {
        let mut seen = Seen::default();
        let page = seen.page(
            Version(4),
            reply(6, vec![OffsetMsg::default(), entry("d", 4), entry("e", 5)]),
        );
        assert_eq!(ids(&page), ["e"]);
    }

    #[test]
    fn the_page_of_a_server_that_starts_again_is_kept() {
        let mut seen = Seen::default();
        let page = seen.page(Version(40), reply(1, vec![entry("new", 1)]));
        assert_eq!(ids(&page), ["new"]);
        assert_eq!(page.current, 1);
    }
}

use std::collections::HashSet;

use crate::proto::{OffsetMsg, ResSendP2pMsg, ResSyncMsg};

/// A message as its receiver gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place in the receiver's inbox; 0 from a server that does not say.
    pub version: i64,
    /// Who sent it; of an ack, who accepted.
    pub source: i64,
    /// The group it was sent to, or 0.
    pub group: i64,
    /// What it is.
    pub kind: MessageKind,
    /// The sender's id for it; of an ack, the id of what was accepted.
    pub msg_id: String,
    /// Its text.
    pub text: String,
    /// When it was sent, as Unix time in milliseconds; 0 from a server that does not say.
    pub sent_at: i64,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageKind {
    /// From one user to another.
    P2p,
    /// To a group.
    Group,
    /// A receiver has accepted a message.
    Ack,
    /// Something that this client does not know.
    Other(String),
}

impl MessageKind {
    /// The msgType on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            MessageKind::P2p => "p2p",
            MessageKind::Group => "group",
            MessageKind::Ack => "ack",
            MessageKind::Other(name) => name,
        }
    }
}

/// A piece of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its messages, oldest first.
    pub messages: Vec<Message>,
    /// How far the reader is after it: what to ask from next.
    pub current: i64,
    /// The newest version; 0 from a server that does not say.
    pub total: i64,
}

impl From<OffsetMsg> for Message {
    fn from(entry: OffsetMsg) -> Self {
        let kind = match entry.msg_type.as_str() {
            "p2p" => MessageKind::P2p,
            "group" => MessageKind::Group,
            "ack" => MessageKind::Ack,
            // The original leaves it out.
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

/// What the last page held, for a server whose pages begin with the message that was asked from.
#[derive(Debug, Default)]
pub(super) struct Seen {
    last: HashSet<(i64, i64, String)>,
}

impl Seen {
    /// The page as the contract means it: without blank entries, and without what the reader had already.
    pub fn page(&mut self, after: i64, reply: ResSyncMsg) -> Page {
        let (current, total) = (reply.current_id, reply.total_id);
        // A server that does not know the reader's version starts again from the first one.
        let restarted = current < after;
        let mut messages: Vec<Message> = Vec::new();
        let mut last = HashSet::new();
        for entry in reply.msgs {
            if entry == OffsetMsg::default() {
                continue;
            }
            let message = Message::from(entry);
            let known = if message.version > 0 {
                message.version <= after && !restarted
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
    fn an_inclusive_page_of_the_original_shows_each_message_once() {
        let mut seen = Seen::default();
        let first = seen.page(0, reply(2, vec![entry("a", 0), entry("b", 0)]));
        let second = seen.page(2, reply(3, vec![entry("b", 0), entry("c", 0)]));
        assert_eq!(ids(&first), ["a", "b"]);
        assert_eq!(ids(&second), ["c"]);
    }

    #[test]
    fn blank_entries_and_versions_already_read_are_left_out() {
        let mut seen = Seen::default();
        let page = seen.page(
            4,
            reply(6, vec![OffsetMsg::default(), entry("d", 4), entry("e", 5)]),
        );
        assert_eq!(ids(&page), ["e"]);
    }

    #[test]
    fn a_server_that_starts_again_is_believed() {
        let mut seen = Seen::default();
        let page = seen.page(40, reply(1, vec![entry("new", 1)]));
        assert_eq!(ids(&page), ["new"]);
        assert_eq!(page.current, 1);
    }
}

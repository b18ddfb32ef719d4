//! Messages: the contents of the entries of inboxes.
//!
//! Serves the services, which make them, and the stores, which keep the newest messages of a folder and all messages to groups
//! in this form in memory. So a message is as small as possible: 0 stands for an absent group, and id and text share one allocation.

use std::fmt;

use crate::id::{GroupId, MsgId, Uid, Version};
use crate::proto::PageEntry;

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A message from one user to another.
    P2p,
    /// A message from a member of a group to all its members.
    Group,
    /// The notice to a sender that a receiver has accepted a message.
    Ack,
}

impl Kind {
    /// All kinds.
    const ALL: [Kind; 3] = [Kind::P2p, Kind::Group, Kind::Ack];

    /// Returns the kind as the field `msgType` of the wire contract has it.
    pub const fn msg_type(self) -> &'static str {
        match self {
            Kind::P2p => "p2p",
            Kind::Group => "group",
            Kind::Ack => "ack",
        }
    }
}

/// The inbox or the group in which a sender's message id can be used once for each kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Scope {
    /// The inbox of a user, for messages and acks to that user alone.
    Inbox(Uid),
    /// A group, for the messages to it.
    Group(GroupId),
}

impl Scope {
    /// Returns the number of the user or of the group.
    pub(super) fn number(self) -> i64 {
        match self {
            Scope::Inbox(Uid(number)) | Scope::Group(GroupId(number)) => number,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// A message as it is stored: once, however many inboxes it is in.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The kind, which decides where the message id is unique.
    pub kind: Kind,
    /// The user who sent the message. Of an ack, the user who accepted a message.
    pub source: Uid,
    /// The number of the group, or 0 for none. An `Option` would take 8 bytes more for each message in memory.
    pub(super) group: i64,
    /// When the server took the message in, in Unix milliseconds.
    pub sent_at: i64,
    /// The message id, followed by the text. Two allocations would take more memory than one.
    id_and_text: Box<str>,
    /// The index in `id_and_text` at which the text begins.
    text_start: u32,
}

impl Message {
    /// Creates a message. The arguments are described at the fields and methods of these names.
    pub fn new(
        kind: Kind,
        source: Uid,
        group: Option<GroupId>,
        msg_id: MsgId<'_>,
        text: &str,
        sent_at: i64,
    ) -> Self {
        let mut id_and_text = String::with_capacity(msg_id.0.len() + text.len());
        id_and_text.push_str(msg_id.0);
        id_and_text.push_str(text);
        Message {
            kind,
            source,
            group: GroupId::or_zero(group),
            sent_at,
            id_and_text: id_and_text.into_boxed_str(),
            text_start: u32::try_from(msg_id.0.len()).unwrap_or(u32::MAX),
        }
    }

    /// Returns the message as an entry in a page of the inbox of `uid`.
    pub fn in_page(&self, uid: Uid, version: Version) -> PageEntry<'_> {
        let (msg_id, msg) = self.split();
        PageEntry {
            source_uid: self.source.0,
            target_uid: uid.0,
            group_id: self.group,
            msg_type: self.kind.msg_type(),
            msg_id,
            msg,
            increment_id: version.0,
            send_time: self.sent_at,
        }
    }

    /// Returns the message of an entry in a page.
    pub(super) fn from_page(entry: &PageEntry<'_>) -> Self {
        let kind = Kind::ALL
            .into_iter()
            .find(|k| k.msg_type() == entry.msg_type);
        Message::new(
            kind.unwrap_or(Kind::P2p),
            Uid(entry.source_uid),
            GroupId::nonzero(entry.group_id),
            MsgId(entry.msg_id),
            entry.msg,
            entry.send_time,
        )
    }

    /// Returns the group that the message was sent to; none for a message to one user.
    pub fn group(&self) -> Option<GroupId> {
        GroupId::nonzero(self.group)
    }

    /// Removes the group from the message.
    pub fn clear_group(&mut self) {
        self.group = 0;
    }

    /// Returns the id by which the message is recognised when it is sent again: given by the sender, or by the server
    /// to a message that came without one.
    pub fn msg_id(&self) -> MsgId<'_> {
        MsgId(self.split().0)
    }

    /// Returns the text. An ack has none.
    pub fn text(&self) -> &str {
        self.split().1
    }

    /// Returns a copy of the message with another text.
    #[must_use]
    pub fn with_text(&self, text: &str) -> Self {
        let Message {
            kind,
            source,
            sent_at,
            ..
        } = *self;
        Message::new(kind, source, self.group(), self.msg_id(), text, sent_at)
    }

    fn split(&self) -> (&str, &str) {
        let text_start = usize::try_from(self.text_start).unwrap_or(usize::MAX);
        self.id_and_text
            .split_at_checked(text_start)
            .unwrap_or((&self.id_and_text, ""))
    }
}

/// Leaves out the text, which must not reach a log.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("source", &self.source)
            .field("group", &self.group)
            .field("msg_id", &self.msg_id())
            .field("bytes", &self.text().len())
            .finish_non_exhaustive()
    }
}

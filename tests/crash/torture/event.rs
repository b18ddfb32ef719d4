//! What clients did and saw, recorded as it happened.
//!
//! Serves the [checker](super::checker), which knows nothing else of a run. The users under load and the readers of
//! inboxes record events while they work, and return them when their connections have ended.

use std::time::Instant;

use super::message_key::{EntryKind, MessageKey};

/// One thing that a client did or saw. The events of one connection are in the order in which they happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A group was created by the first of `members`. The others have not joined yet.
    GroupCreated { group: i64, members: Vec<i64> },
    /// All of `members` have joined the group.
    GroupCompleted { group: i64, members: Vec<i64> },
    /// The server has issued a token for the user `uid`.
    TokenIssued { uid: i64, token: String },
    /// A message or an ack was sent on the connection with this number, not before `at`.
    Sent {
        key: MessageKey,
        connection: u64,
        at: Instant,
    },
    /// The message or ack was answered with this code. Code 0 acknowledges it.
    Answered { key: MessageKey, code: u32 },
    /// A sync was sent, which tells the server that `uid` has read up to version `after`.
    SyncRequested { uid: i64, after: i64 },
    /// A sync was answered with a page, which was received by `at`.
    PageReceived { page: Page, at: Instant },
    /// A notify has told `uid` that its inbox goes up to version `total`.
    Notified { uid: i64, total: i64 },
    /// The server has refused something other than a message or an ack.
    Refused { request: String, code: u32 },
    /// The server has sent a frame that answers no request, or has not answered a request in time.
    UnexpectedReply { found: String },
}

/// A page of an inbox, and the request that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub uid: i64,
    /// The version after which the page was asked to begin.
    pub after: i64,
    pub entries: Vec<Entry>,
    /// The version of the last entry, as the server reports it.
    pub current: i64,
    /// The newest version of the inbox, as the server reports it.
    pub total: i64,
}

/// An entry of an inbox, with the fields that the server has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub version: i64,
    pub msg_type: String,
    pub source: i64,
    pub target: i64,
    /// The group of a group message, and 0 for all other entries.
    pub group: i64,
    pub msg_id: String,
    pub text: String,
    /// Unix milliseconds.
    pub sent_at: i64,
}

impl Entry {
    /// Returns the key of the message that this entry of the inbox of `uid` holds, or `None` when the fields of the entry
    /// contradict each other.
    pub fn key(&self, uid: i64) -> Option<MessageKey> {
        let (kind, scope) = match (self.msg_type.as_str(), self.group) {
            ("p2p", 0) => (EntryKind::P2p, uid),
            ("ack", 0) => (EntryKind::Ack, uid),
            ("group", 1..) => (EntryKind::Group, self.group),
            _ => return None,
        };
        (self.target == uid).then(|| MessageKey {
            kind,
            source: self.source,
            scope,
            msg_id: self.msg_id.clone(),
        })
    }
}

/// A whole inbox, read while no user was sending.
#[derive(Debug, Clone)]
pub struct InboxContents {
    pub uid: i64,
    /// The currentID and totalID of the notify that followed the login, if there was one.
    pub notified: Option<(i64, i64)>,
    /// The pages in the order of their versions. Together they hold every entry.
    pub pages: Vec<Page>,
}

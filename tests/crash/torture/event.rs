//! What clients did and saw, as they wrote it down: all that the checker knows.

use super::key::{Key, Kind};

/// One thing that a client did or saw. The events of one connection stand in their order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A group was created for these members, the first of which has created it; the others are still to join.
    Created { group: i64, members: Vec<i64> },
    /// All of them have joined.
    Founded { group: i64, members: Vec<i64> },
    /// The server has issued a token to this user.
    Issued { uid: i64, token: String },
    /// Something to be stored has left, on the connection of this number.
    Sent { key: Key, connection: u64 },
    /// It was answered with this code.
    Answered { key: Key, code: u32 },
    /// A sync has left, and says that `uid` has read up to `after`.
    Asked { uid: i64, after: i64 },
    /// A sync was answered.
    Paged(Page),
    /// There is something up to version `total`.
    Notified { uid: i64, total: i64 },
    /// A request other than a send was refused.
    Refused { what: String, code: u32 },
    /// A frame that answers nothing.
    Strange { what: String },
}

/// A page, and what it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub uid: i64,
    pub after: i64,
    pub entries: Vec<Entry>,
    pub current: i64,
    pub total: i64,
}

/// An entry of an inbox, as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub version: i64,
    pub msg_type: String,
    pub source: i64,
    pub target: i64,
    pub group: i64,
    pub msg_id: String,
    pub text: String,
    pub sent_at: i64,
}

impl Entry {
    /// What it claims to be, in the inbox of `uid`. None when its fields contradict each other.
    pub fn key(&self, uid: i64) -> Option<Key> {
        let (kind, scope) = match (self.msg_type.as_str(), self.group) {
            ("p2p", 0) => (Kind::P2p, uid),
            ("ack", 0) => (Kind::Ack, uid),
            ("group", 1..) => (Kind::Group, self.group),
            _ => return None,
        };
        (self.target == uid).then(|| Key {
            kind,
            source: self.source,
            scope,
            msg_id: self.msg_id.clone(),
        })
    }
}

/// A whole inbox, read while nobody else was there.
#[derive(Debug, Clone)]
pub struct Inbox {
    pub uid: i64,
    /// The notify that followed the login: (currentID, totalID).
    pub notified: Option<(i64, i64)>,
    /// From the first entry to the last.
    pub pages: Vec<Page>,
}

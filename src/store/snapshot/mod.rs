//! Everything that a store holds, apart from any store: what one gives out, another takes in.
//!
//! | file | what it does |
//! |---|---|
//! | `lines` | the file's lines |
//! | `file` | a file of them |
//! | `check` | whether what stands in a file fits together |

mod check;
mod file;
mod lines;
#[cfg(test)]
mod tests;

pub use file::FileError;

use std::fmt;
use std::sync::Arc;

use super::{Group, Kind, Message, StoreFailed, User};
use crate::id::{MsgId, Uid, Version};
use crate::store::Scope;

/// How large a snapshot may be, in bytes of its file: it is in memory as a whole.
pub const SNAPSHOT_LIMIT: usize = 256 << 20;

/// What a line takes beside its texts, in bytes, roughly; what an item of a list does.
const LINE: usize = 160;
const ITEM: usize = 24;

/// Everything that a store holds, as of one moment, in an order that does not depend on the store: users, groups, inboxes
/// with their read marks, messages, and the ids by which a message that is sent again is known. The signing key is not
/// among it.
///
/// The default is what a new store holds: nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// As [`Store::newest`](super::Store::newest) says it.
    pub(super) newest: i64,
    /// By uid.
    pub(super) users: Vec<(Uid, User)>,
    /// By gid.
    pub(super) groups: Vec<Group>,
    /// By uid.
    pub(super) inboxes: Vec<Ends>,
    pub(super) messages: Vec<Stored>,
    /// What it takes as a file, in bytes, roughly.
    bytes: usize,
}

/// The ends of an inbox: its entries have the versions from `removed` + 1 to `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub uid: Uid,
    /// The read mark.
    pub read: Version,
    /// The last version that was removed.
    pub removed: Version,
    pub total: Version,
}

/// A message whose id is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Without its text where no inbox holds it any more.
    pub message: Arc<Message>,
    /// Into whose inboxes it was put, by uid: one, unless it is a group's.
    pub receivers: Vec<Uid>,
    /// Where it still is: uid and version, by uid.
    pub places: Vec<(Uid, Version)>,
}

impl Stored {
    /// What makes it the same message when it is sent again: kind, sender, receiver or group, id.
    pub fn id(&self) -> (Kind, Uid, Scope, MsgId<'_>) {
        let message = &self.message;
        let scope = match message.kind {
            Kind::Group => Scope::Group(message.group().unwrap_or_default()),
            Kind::P2p | Kind::Ack => {
                Scope::Inbox(self.receivers.first().copied().unwrap_or_default())
            }
        };
        (message.kind, message.source, scope, message.msg_id())
    }
}

impl Snapshot {
    /// The same of a stack whose ids have come so far: Unix time in milliseconds.
    #[must_use]
    pub fn reaching(mut self, newest: i64) -> Self {
        self.newest = self.newest.max(newest);
        self
    }
}

/// Without what it holds.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("users", &self.users.len())
            .field("groups", &self.groups.len())
            .field("inboxes", &self.inboxes.len())
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It would be too large.
    #[error("the store holds more than a snapshot may have, {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// What is wrong with a snapshot's file. Nothing of it is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct LoadError {
    /// In which line, from 1.
    pub line: usize,
    /// What.
    pub why: String,
}

/// A snapshot in the making, that may not take more than so many bytes.
pub(super) struct Draft {
    snapshot: Snapshot,
    limit: usize,
}

impl Draft {
    pub fn new(limit: usize, newest: i64) -> Self {
        let snapshot = Snapshot {
            newest,
            ..Snapshot::default()
        };
        Draft { snapshot, limit }
    }

    fn take(&mut self, bytes: usize) -> Result<(), SaveError> {
        self.snapshot.bytes += bytes;
        if self.snapshot.bytes > self.limit {
            return Err(SaveError::TooLarge { limit: self.limit });
        }
        Ok(())
    }

    pub fn user(&mut self, uid: Uid, user: User) -> Result<(), SaveError> {
        self.take(LINE + user.name.len() + user.password_hash.len())?;
        self.snapshot.users.push((uid, user));
        Ok(())
    }

    pub fn group(&mut self, group: Group) -> Result<(), SaveError> {
        self.take(LINE + group.name.len() + ITEM * group.members.len())?;
        self.snapshot.groups.push(group);
        Ok(())
    }

    pub fn inbox(&mut self, ends: Ends) -> Result<(), SaveError> {
        self.take(LINE)?;
        self.snapshot.inboxes.push(ends);
        Ok(())
    }

    /// Answers its place, for [`place`](Self::place).
    pub fn message(
        &mut self,
        message: Arc<Message>,
        receivers: Vec<Uid>,
    ) -> Result<usize, SaveError> {
        self.take(LINE + message.msg_id().0.len() + message.text().len() + ITEM * receivers.len())?;
        self.snapshot.messages.push(Stored {
            message,
            receivers,
            places: Vec::new(),
        });
        Ok(self.snapshot.messages.len() - 1)
    }

    /// The message is in this inbox, under this version.
    pub fn place(&mut self, message: usize, uid: Uid, version: Version) -> Result<(), SaveError> {
        self.take(ITEM)?;
        if let Some(stored) = self.snapshot.messages.get_mut(message) {
            stored.places.push((uid, version));
        }
        Ok(())
    }

    /// The snapshot, in its order.
    pub fn finish(mut self) -> Snapshot {
        let Snapshot {
            users,
            groups,
            inboxes,
            messages,
            ..
        } = &mut self.snapshot;
        users.sort_unstable_by_key(|(uid, _)| *uid);
        groups.sort_unstable_by_key(|group| group.gid);
        for group in groups {
            group.members.sort_unstable();
        }
        inboxes.sort_unstable_by_key(|ends| ends.uid);
        for stored in messages.iter_mut() {
            stored.receivers.sort_unstable();
            stored.places.sort_unstable();
        }
        messages.sort_unstable_by(|a, b| {
            let by_time = a.message.sent_at.cmp(&b.message.sent_at);
            by_time.then_with(|| a.id().cmp(&b.id()))
        });
        self.snapshot
    }
}

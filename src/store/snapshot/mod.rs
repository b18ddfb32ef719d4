//! Snapshots: the contents of a store in a form that does not depend on the kind of store.
//!
//! Serves both stores, which make a snapshot of their contents and replace their contents by a snapshot, and the admin
//! API and the program, which save snapshots as files. A snapshot that was read from a file is complete and consistent:
//! a store need not check it again.
//!
//! | module | contents |
//! |---|---|
//! | `check` | checks that the contents of a file are consistent |
//! | `file` | writes and reads files |
//! | `lines` | the format of a file: one JSON object per line |

mod check;
mod file;
mod lines;
#[cfg(test)]
mod tests;

pub use file::FileError;

use std::fmt;
use std::sync::Arc;

use super::{Group, Kind, Message, StoreError, User};
use crate::id::{MsgId, Uid, Version};
use crate::store::Scope;

/// The largest snapshot, in bytes of its file. A snapshot is in memory as a whole.
pub const SNAPSHOT_LIMIT: usize = 256 << 20;

/// The estimated size of a line without its texts and lists, in bytes.
const LINE: usize = 160;
/// The estimated size of an item of a list, in bytes.
const ITEM: usize = 24;

/// The contents of a store at one moment: users, groups, inboxes with their read marks, messages, and the ids by which
/// a message that is sent again is recognised. The store's signing key is not included.
///
/// Everything is sorted, so two stores with the same contents have equal snapshots. The default is the snapshot of an
/// empty store.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The newest time that the store has seen, in Unix milliseconds: see
    /// [`AccountStore::latest_time_ms`](super::AccountStore::latest_time_ms).
    pub(super) latest_time_ms: i64,
    /// The registered users, in the order of their ids.
    pub(super) users: Vec<(Uid, User)>,
    /// The groups, in the order of their ids. The members of each are sorted.
    pub(super) groups: Vec<Group>,
    /// The bounds of the inboxes, in the order of their users' ids.
    pub(super) inboxes: Vec<InboxSummary>,
    /// The messages, in the order of the times at which they were sent.
    pub(super) messages: Vec<StoredMessage>,
    /// The estimated size of the snapshot's file, in bytes.
    bytes: usize,
}

/// The bounds of an inbox. The versions of its entries are `trimmed_through` + 1 to `total`, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InboxSummary {
    /// The user to whom the inbox belongs.
    pub uid: Uid,
    /// The read mark: the newest version that the user has read, or that was removed. From `trimmed_through` to
    /// `total`.
    pub read: Version,
    /// The newest version that was removed, or 0 if none was.
    pub trimmed_through: Version,
    /// The newest version of the inbox, or 0 if it has never had an entry.
    pub total: Version,
}

/// A message of a snapshot. It is kept for as long as its id is remembered, even when no inbox holds it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredMessage {
    /// The message. Its text is empty if no inbox holds it any more.
    pub message: Arc<Message>,
    /// The users into whose inboxes the message was put, sorted. Exactly one, unless it was sent to a group.
    pub receivers: Vec<Uid>,
    /// The inboxes that still hold the message, with its version in each, sorted by user.
    pub places: Vec<(Uid, Version)>,
}

impl StoredMessage {
    /// Returns the identity of the message: a message with the same kind, sender, receiver or group, and id is the same
    /// message sent again.
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
    /// Raises the newest time of the snapshot to that of the ids which the stack has given out, in Unix milliseconds.
    #[must_use]
    pub fn with_latest_time(mut self, latest_time_ms: i64) -> Self {
        self.latest_time_ms = self.latest_time_ms.max(latest_time_ms);
        self
    }
}

/// Shows only the numbers of items, since the contents are confidential.
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

/// Why no snapshot was made.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The snapshot would be too large. Old messages have to be removed from the store first.
    #[error("the store holds more than a snapshot may have, {limit} bytes")]
    TooLarge {
        /// The limit, in bytes of the snapshot's file.
        limit: usize,
    },
    /// The store failed while it was read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The first mistake in a snapshot's file. Nothing was taken from the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct LoadError {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong with the line, in words. It does not quote the line, which is confidential.
    pub why: String,
}

/// Builds a snapshot item by item, and stops when its size exceeds a limit.
pub(super) struct SnapshotBuilder {
    /// The items so far, in the order in which they were added.
    snapshot: Snapshot,
    /// The limit of the snapshot's estimated size, in bytes.
    limit: usize,
}

impl SnapshotBuilder {
    /// Creates an empty snapshot. `latest_time_ms` is the newest time that the store has seen, in Unix milliseconds.
    pub fn new(limit: usize, latest_time_ms: i64) -> Self {
        let snapshot = Snapshot {
            latest_time_ms,
            ..Snapshot::default()
        };
        SnapshotBuilder { snapshot, limit }
    }

    /// Adds to the estimated size.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`], when the size exceeds the limit. The builder is of no further use then.
    fn take(&mut self, bytes: usize) -> Result<(), SaveError> {
        self.snapshot.bytes += bytes;
        if self.snapshot.bytes > self.limit {
            return Err(SaveError::TooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// Adds a user.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`], when the snapshot exceeds its limit.
    pub fn user(&mut self, uid: Uid, user: User) -> Result<(), SaveError> {
        self.take(LINE + user.name.len() + user.password_hash.len())?;
        self.snapshot.users.push((uid, user));
        Ok(())
    }

    /// Adds a group.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`], when the snapshot exceeds its limit.
    pub fn group(&mut self, group: Group) -> Result<(), SaveError> {
        self.take(LINE + group.name.len() + ITEM * group.members.len())?;
        self.snapshot.groups.push(group);
        Ok(())
    }

    /// Adds an inbox, without its entries.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`], when the snapshot exceeds its limit.
    pub fn inbox(&mut self, summary: InboxSummary) -> Result<(), SaveError> {
        self.take(LINE)?;
        self.snapshot.inboxes.push(summary);
        Ok(())
    }

    /// Adds a message, and returns its index for [`place`](Self::place).
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`], when the snapshot exceeds its limit.
    pub fn message(
        &mut self,
        message: Arc<Message>,
        receivers: Vec<Uid>,
    ) -> Result<usize, SaveError> {
        self.take(LINE + message.msg_id().0.len() + message.text().len() + ITEM * receivers.len())?;
        self.snapshot.messages.push(StoredMessage {
            message,
            receivers,
            places: Vec::new(),
        });
        Ok(self.snapshot.messages.len() - 1)
    }

    /// Adds the entry of an inbox that holds a message. `message` is the index that [`message`](Self::message)
    /// returned; one that it did not return has no effect.
    ///
    /// # Errors
    ///
    /// [`SaveError::TooLarge`], when the snapshot exceeds its limit.
    pub fn place(&mut self, message: usize, uid: Uid, version: Version) -> Result<(), SaveError> {
        self.take(ITEM)?;
        if let Some(stored) = self.snapshot.messages.get_mut(message) {
            stored.places.push((uid, version));
        }
        Ok(())
    }

    /// Sorts the items, and returns the snapshot.
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
        inboxes.sort_unstable_by_key(|summary| summary.uid);
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

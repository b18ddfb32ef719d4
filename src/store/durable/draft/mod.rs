//! The draft of a group commit: the writer does the writes of a commit in it, and then writes the draft as one batch of
//! the engine.
//!
//! Serves the writer. A draft reads the state of the last commit and its own changes so far. Nobody else sees these
//! changes before the writer has written and published them, so a draft that is dropped has no effect.
//!
//! | module | what it does |
//! |---|---|
//! | `deliver` | puts messages and acks into inboxes |
//! | `ids` | finds out whether a message was stored before, by its id |
//! | `membership` | changes the members of groups |
//! | `trim` | removes old entries and expired ids |

mod deliver;
mod ids;
mod membership;
mod trim;

pub use membership::MembersCache;

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry::{Occupied, Vacant};
use parking_lot::Mutex;

use super::bounds::{InboxChange, KnownInbox};
use super::engine::{Change, EngineError, Key, Value, View};
use super::recent::{CachedMessage, Recent};
use super::record::{self, GroupRecord, NumberRecord, Record, StateRecord, UserRecord};
use crate::id::{GroupId, Uid, Version};
use crate::store::members::{Members, members_of};
use crate::store::{InboxState, Rejected, Write, WriteOutcome};

/// The next group commit, before it is written.
pub struct Draft<'a> {
    /// The state that the last commit has left.
    view: View<'a>,
    /// The cache of inboxes. Its lock is held for single look-ups, since readers wait for it.
    recent: &'a Mutex<Recent>,
    members_cache: &'a mut MembersCache,
    /// The state of the store with this draft, except for the number of its commit.
    state: StateRecord,
    /// `state` as the last commit has left it.
    before: StateRecord,
    /// The changed records that may be looked up again while the draft is made, by key.
    changes: BTreeMap<Key, Option<Value>>,
    /// The new entries of inboxes. They are not looked up while the draft is made, so they need no order.
    entries: Vec<Change>,
    /// The messages of `entries`, for [`Recent`].
    new_messages: Vec<CachedMessage>,
    /// The inboxes that the draft has read or changed.
    inboxes: HashMap<Uid, InboxChange>,
    /// The members of the groups that the draft has changed.
    members: HashMap<GroupId, Members>,
    /// Values are encoded here, so that each needs only one allocation of its own size.
    scratch: Vec<u8>,
    /// The size of the changed keys and values, in bytes.
    bytes: usize,
    /// The size of the removed values, in bytes, where the values were read.
    freed: usize,
    /// What the search for stored messages by their ids has cost since [`take_lookup_cost`](Draft::take_lookup_cost): an
    /// entry of an inbox that is read costs as much as one that is stored.
    lookup_cost: usize,
}

/// The result of a write. The inner error is told to the client; the outer one says that the store could not do the
/// write.
type Applied = Result<Result<WriteOutcome, Rejected>, EngineError>;

impl<'a> Draft<'a> {
    /// Creates an empty draft on top of `view`, whose last commit has left `state`.
    pub fn new(
        view: View<'a>,
        recent: &'a Mutex<Recent>,
        members_cache: &'a mut MembersCache,
        state: StateRecord,
    ) -> Self {
        Draft {
            view,
            recent,
            members_cache,
            state,
            before: state,
            changes: BTreeMap::new(),
            entries: Vec::new(),
            new_messages: Vec::new(),
            inboxes: HashMap::new(),
            members: HashMap::new(),
            scratch: Vec::new(),
            bytes: 0,
            freed: 0,
            lookup_cost: 0,
        }
    }

    /// Returns the size of the changed keys and values, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns what the search for stored messages by their ids has cost since the last call.
    pub fn take_lookup_cost(&mut self) -> usize {
        mem::take(&mut self.lookup_cost)
    }

    /// Returns whether the draft changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.entries.is_empty() && self.state == self.before
    }

    /// Returns the state of an inbox, as clients are told once the draft is stored.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when the bounds of the inbox can't be read.
    pub fn inbox_state(&mut self, uid: Uid) -> Result<InboxState, EngineError> {
        Ok(self.inbox(uid)?.new.bounds.inbox_state(uid))
    }

    /// Does one write, as a whole or not at all, and adds the users whose inboxes grow by it to `grown_uids`.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when a record that the write depends on can't be read.
    pub fn apply(&mut self, write: Write, grown_uids: &mut Vec<Uid>) -> Applied {
        match write {
            Write::P2p { target, message } => self.put_into_inbox(target, message, grown_uids),
            Write::Ack { target, message } => {
                if !self.has_received(message.source, target, message.msg_id())? {
                    return Ok(Err(Rejected::NoSuchMessage));
                }
                self.put_into_inbox(target, message, grown_uids)
            }
            Write::Group { message } => self.put_into_inboxes(message, grown_uids),
            Write::Register { uid, user } => {
                let key = record::user_key(uid);
                if self.has::<UserRecord>(&key)? {
                    return Ok(Err(Rejected::UserExists));
                }
                self.put(key, &UserRecord::from(user));
                Ok(Ok(WriteOutcome::Done))
            }
            Write::CreateGroup {
                group,
                name,
                owner,
                members,
                made_at,
            } => {
                if self.members(group)?.is_some() {
                    return Ok(Err(Rejected::GroupExists));
                }
                self.state.latest_time_ms = self.state.latest_time_ms.max(made_at);
                self.put(
                    record::group_key(group),
                    &GroupRecord {
                        name,
                        owner: owner.0,
                    },
                );
                self.add_members(group, members_of(owner, &members), &[]);
                Ok(Ok(WriteOutcome::Done))
            }
            Write::Join {
                group,
                uids,
                max_members,
            } => self.join(group, &uids, max_members),
            Write::Quit { group, uid } => self.quit(group, uid),
            Write::MarkRead { uid, read } => {
                self.mark_read(uid, read)?;
                Ok(Ok(WriteOutcome::Done))
            }
            Write::IssuedIds { up_to_ms } => {
                self.state.latest_time_ms = self.state.latest_time_ms.max(up_to_ms);
                Ok(Ok(WriteOutcome::Done))
            }
        }
    }

    /// Moves a read mark forward. A mark beyond the inbox has no effect.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when the bounds of the inbox can't be read.
    pub fn mark_read(&mut self, uid: Uid, read: Version) -> Result<(), EngineError> {
        let bounds = &mut self.inbox(uid)?.new.bounds;
        if read > bounds.read && read <= bounds.total {
            bounds.read = read;
            self.put(record::read_key(uid), &NumberRecord { value: read.0 });
        }
        Ok(())
    }

    /// Returns the commit, with its number, for the engine and the caches.
    pub fn finish(self) -> PreparedGroupCommit {
        let state = self.state.next();
        let mut changes = self.entries;
        changes.extend(self.changes);
        changes.push(state.change());
        PreparedGroupCommit {
            state,
            changes,
            new_messages: self.new_messages,
            inboxes: self.inboxes,
            members: self.members,
            freed: self.freed,
            is_all_new: false,
        }
    }

    fn remove(&mut self, key: Key) {
        self.bytes += key.len();
        self.changes.insert(key, None);
    }

    /// Returns an inbox as the last commit has left it, and as this draft changes it.
    fn inbox(&mut self, uid: Uid) -> Result<&mut InboxChange, EngineError> {
        match self.inboxes.entry(uid) {
            Occupied(change) => Ok(change.into_mut()),
            Vacant(vacant) => {
                let cached = self.recent.lock().known(uid);
                let old = match cached {
                    Some(known) => known,
                    None => {
                        let known = KnownInbox::read(&self.view, uid)?;
                        self.recent.lock().learn(uid, known);
                        known
                    }
                };
                Ok(vacant.insert(InboxChange { old, new: old }))
            }
        }
    }

    fn put<R: Record>(&mut self, key: Key, record: &R) {
        let value = record.seal(&key, &mut self.scratch);
        self.bytes += key.len() + value.len();
        self.changes.insert(key, Some(value));
    }

    fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, EngineError> {
        match self.changes.get(key) {
            Some(Some(value)) => Ok(Some(R::decode_checked(key, value)?)),
            Some(None) => Ok(None),
            None => self.view.get(key),
        }
    }

    fn has<R: Record>(&self, key: &[u8]) -> Result<bool, EngineError> {
        Ok(self.get::<R>(key)?.is_some())
    }

    /// Returns the records whose keys begin with `prefix`, as they are with this draft.
    fn prefix(&self, prefix: &[u8]) -> Result<BTreeMap<Key, Value>, EngineError> {
        let mut found = BTreeMap::new();
        for stored in self.view.prefix(prefix) {
            let (key, value) = stored?;
            found.insert(key, value);
        }
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let changed = self.changes.range::<[u8], _>(from);
        for (key, value) in changed.take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found)
    }
}

/// A group commit that is ready to be written.
pub struct PreparedGroupCommit {
    /// The state that the commit leaves.
    pub state: StateRecord,
    /// The changes for the engine.
    pub changes: Vec<Change>,
    /// The messages for [`Recent::publish`].
    pub new_messages: Vec<CachedMessage>,
    /// The inboxes that were read or changed.
    pub inboxes: HashMap<Uid, InboxChange>,
    /// The members of changed groups, for [`MembersCache::adopt`].
    pub members: HashMap<GroupId, Members>,
    /// The size of the removed values, in bytes, where they were read: it tells how much a compaction can give back.
    pub freed: usize,
    /// Whether the commit replaces everything that was stored before.
    pub is_all_new: bool,
}

//! The contents of a memory store, behind its lock, and the account of the memory that they take. Serves all other modules
//! of the store: each does one kind of work on the contents.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::entries::FIRST_BYTES;
use super::groups::Group;
use super::inbox::Inbox;
use super::table::UidMap;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{InboxState, Ledger, Message, Rejected, Retention, Scope, User};

/// The approximate memory that a map entry or a shared allocation takes besides its contents, in bytes.
pub(super) const ALLOCATION: usize = 64;

/// The memory that the first entry of an inbox takes in addition to that of a later one, in bytes. The table of inboxes
/// may have room for twice the inboxes that it holds.
pub(super) const NEW_INBOX: usize = 2 * size_of::<(Uid, Inbox)>() + FIRST_BYTES;

/// The memory that an entry takes in an inbox in addition to its bytes, in bytes: its place in the lists of a chunk, which may
/// have room for twice their entries.
pub(super) const ENTRY: usize = 2 * (size_of::<Arc<Message>>() + size_of::<u32>());

/// The limit of work that is done before others get the lock, also inside a batch or a list. One unit is the time to append
/// an entry; a write that stores nothing counts one unit too.
pub(super) const WORK_AT_ONCE: usize = 2_048;

/// How many members of a group are searched or copied in the time that an entry takes, approximately.
pub(super) const MEMBERS_PER_WORK: usize = 256;

#[derive(Default)]
pub(super) struct State {
    /// The greatest number that a commit has got. The first commit gets 1.
    pub last_commit_number: u64,
    /// The number of the commit to which the piece of work belongs that is done under the lock.
    pub current_commit: u64,
    /// Counts how often the contents were replaced.
    pub generation: u64,
    /// The approximate limit of the memory that the contents take, in bytes.
    pub limit: usize,
    /// The approximate memory that the contents take, in bytes.
    pub used: usize,
    /// All work so far, in the unit of [`WORK_AT_ONCE`].
    pub work: usize,
    /// The counts of all inboxes together.
    pub ledger: Ledger,
    /// The newest time that was seen, in Unix milliseconds: see
    /// [`AccountStore::latest_time_ms`](crate::store::AccountStore::latest_time_ms).
    pub latest_time_ms: i64,
    /// The registered users, shared with a snapshot that is being made.
    pub users: BTreeMap<Uid, Arc<User>>,
    pub groups: BTreeMap<GroupId, Group>,
    /// For each user, the sorted ids of the groups of which the user is or was a member. An ack is looked for among the
    /// messages of these groups.
    pub groups_of: UidMap<Vec<GroupId>>,
    pub inboxes: UidMap<Inbox>,
    /// The keys of `inboxes`, in order: lists and cleanings walk them in steps, and let others have the lock in
    /// between.
    pub inbox_uids: BTreeSet<Uid>,
    pub retention: Retention,
    /// The messages that no inbox holds any more and whose ids are still known, without their texts. Each has the scope in
    /// which its id is known: an inbox or a group. The key is the send time, with a number that makes it unique. Ordered
    /// ids are not here: see [`inbox`](super::inbox).
    pub expiring_ids: BTreeMap<(i64, u64), (Scope, Arc<Message>)>,
    /// How many messages were ever added to `expiring_ids`.
    pub expiring_count: u64,
}

impl State {
    /// Counts `bytes` as used, if there is room for them.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Rejected> {
        self.used = with_room(self.used, bytes, self.limit)?;
        Ok(())
    }

    /// Returns how far an inbox goes, and how far it was read.
    pub fn inbox_state(&self, uid: Uid) -> InboxState {
        let nothing = InboxState {
            uid,
            read: Version::START,
            total: Version::START,
        };
        let inbox = self.inboxes.get(uid);
        inbox.map_or(nothing, |inbox| inbox.inbox_state(uid))
    }

    /// Adds the counts of inboxes above uid `last` of which something was counted, up to `limit` of them in all, and
    /// moves `last` to the last inbox that was examined. Examines [`WORK_AT_ONCE`] inboxes at most, and returns how
    /// many they were.
    pub fn ledgers(&self, last: &mut Uid, limit: usize, ledgers: &mut Vec<(Uid, Ledger)>) -> usize {
        let mut seen = 0;
        for &uid in self.inbox_uids.range(above(*last)).take(WORK_AT_ONCE) {
            if ledgers.len() >= limit {
                break;
            }
            (*last, seen) = (uid, seen + 1);
            let ledger = self.inboxes.get(uid).map(|inbox| inbox.ledger);
            ledgers.extend(ledger.filter(|l| l.stored > 0).map(|ledger| (uid, ledger)));
        }
        seen
    }
}

/// Returns the range of the keys above `after`.
pub(super) fn above<K>(after: K) -> (Bound<K>, Bound<K>) {
    (Bound::Excluded(after), Bound::Unbounded)
}

/// Returns how many bytes are used with `bytes` more.
///
/// # Errors
///
/// [`Rejected::Full`] when they are more than `limit`.
pub(super) fn with_room(used: usize, bytes: usize, limit: usize) -> Result<usize, Rejected> {
    let used = used.saturating_add(bytes);
    if used > limit {
        return Err(Rejected::Full);
    }
    Ok(used)
}

/// Returns the memory of a message to a group that is freed with its last entry, in bytes.
pub(super) fn body_size(message: &Message) -> usize {
    size_of::<Message>() + message.text().len()
}

/// Returns the memory that is freed when an id in a table is forgotten, in bytes: that of the id and of its place. It is counted
/// from the storing of the message on, so that the removal of an entry never needs memory.
pub(super) fn id_size(msg_id: MsgId<'_>) -> usize {
    msg_id.0.len() + 3 * ALLOCATION
}

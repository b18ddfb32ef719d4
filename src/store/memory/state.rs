//! The contents of a memory store, behind its lock: does the writes, and accounts for the memory that they take.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::hash_map::Entry as Slot;
use hashbrown::{HashMap, HashSet};

use super::groups::{Group, NewGroup, Receivers};
use super::inbox::Inbox;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{
    InboxState, Kind, Ledger, Message, Rejected, Retention, Scope, User, Write, WriteOutcome,
};

/// The approximate memory that a map entry or a shared allocation takes besides its contents, in bytes.
pub(super) const ALLOCATION: usize = 64;

/// The memory that the first entry of an inbox takes in addition to that of a later one, in bytes.
pub(super) const NEW_INBOX: usize = 192;

/// The memory that an entry takes in an inbox, in bytes. A deque may have room for twice its entries.
pub(super) const ENTRY: usize = 2 * size_of::<Arc<Message>>();

/// The most work that is done before others get the lock, also in the middle of a batch or of a list. Its unit is an
/// entry of an inbox, or what takes about as long: a request that stores nothing works too.
pub(super) const WORK_AT_ONCE: usize = 2_048;

/// How many members of a group are searched or copied in the time that an entry takes, approximately.
pub(super) const MEMBERS_PER_WORK: usize = 256;

#[derive(Default)]
pub(super) struct State {
    /// The number of commits so far.
    pub commits: u64,
    /// The number of the commit that is being made.
    pub commit: u64,
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
    pub users: BTreeMap<Uid, User>,
    pub groups: BTreeMap<GroupId, Group>,
    /// The groups that each user is or was a member of, in which a message may be that the user accepts.
    pub groups_of: HashMap<Uid, HashSet<GroupId>>,
    pub inboxes: HashMap<Uid, Inbox>,
    /// The keys of `inboxes`, in order: lists and cleanings walk them in steps, and let others have the lock in
    /// between.
    pub inbox_uids: BTreeSet<Uid>,
    pub retention: Retention,
    /// The messages that no inbox holds any more and whose ids are still remembered, without their texts, with where
    /// their ids are. The key is the send time, with a number that makes it unique.
    pub expiring_ids: BTreeMap<(i64, u64), (Scope, Arc<Message>)>,
    /// How many messages were ever added to `expiring_ids`.
    pub expiring_count: u64,
}

impl State {
    /// Does one write, as a whole or not at all. `grown` has the inboxes that the present commit has grown.
    pub fn apply(
        &mut self,
        write: Write,
        grown: &mut Vec<InboxState>,
    ) -> Result<WriteOutcome, Rejected> {
        self.work += 1;
        match write {
            Write::P2p { target, message } => self.put_into_inbox(target, message, grown),
            Write::Ack { target, message } => {
                if !self.has_received(message.source, target, message.msg_id()) {
                    return Err(Rejected::NoSuchMessage);
                }
                self.put_into_inbox(target, message, grown)
            }
            Write::Group { message } => self.put_into_inboxes(message, grown),
            Write::Register { uid, user } => {
                if self.users.contains_key(&uid) {
                    return Err(Rejected::UserExists);
                }
                self.reserve(ALLOCATION + user.name.len() + user.password_hash.len())?;
                self.users.insert(uid, user);
                Ok(WriteOutcome::Done)
            }
            Write::CreateGroup {
                group,
                name,
                owner,
                members,
                made_at,
            } => {
                let group = NewGroup {
                    gid: group,
                    name,
                    owner,
                    members: &members,
                    made_at,
                };
                self.create_group(group)
            }
            Write::Join {
                group,
                uids,
                max_members,
            } => self.join(group, &uids, max_members),
            Write::Quit { group, uid } => self.quit(group, uid),
            Write::Read { uid, after } => {
                if let Some(inbox) = self.inboxes.get_mut(&uid)
                    && after <= inbox.total()
                {
                    inbox.read = inbox.read.max(after);
                }
                Ok(WriteOutcome::Done)
            }
            Write::IssuedIds { reached } => {
                self.latest_time_ms = self.latest_time_ms.max(reached);
                Ok(WriteOutcome::Done)
            }
        }
    }

    /// Counts `bytes` as used, if there is room for them.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Rejected> {
        self.used = with_room(self.used, bytes, self.limit)?;
        Ok(())
    }

    /// Puts a message or an ack into one inbox.
    fn put_into_inbox(
        &mut self,
        target: Uid,
        message: Arc<Message>,
        grown: &mut Vec<InboxState>,
    ) -> Result<WriteOutcome, Rejected> {
        let size = body_size(&message) + id_size(message.msg_id()) + ENTRY;
        let inbox = match self.inboxes.entry(target) {
            Slot::Occupied(inbox) => inbox.into_mut(),
            Slot::Vacant(slot) => {
                // A write that is refused must not leave an inbox behind.
                with_room(self.used, size + NEW_INBOX, self.limit)?;
                self.used += NEW_INBOX;
                self.inbox_uids.insert(target);
                slot.insert(Inbox::default())
            }
        };
        let Some(vacant) = inbox.ids.vacancy(&message) else {
            return Ok(WriteOutcome::Duplicate);
        };
        self.used = with_room(self.used, size, self.limit)?;
        self.latest_time_ms = self.latest_time_ms.max(message.sent_at);
        vacant.insert(Arc::clone(&message), ());
        self.ledger.stored += 1;
        let version = inbox.append(target, message, self.commit, grown);
        Ok(WriteOutcome::Stored {
            uid: target,
            version,
        })
    }

    /// Puts a message into the inboxes of all members of its group.
    fn put_into_inboxes(
        &mut self,
        message: Arc<Message>,
        grown: &mut Vec<InboxState>,
    ) -> Result<WriteOutcome, Rejected> {
        let State {
            groups,
            inboxes,
            inbox_uids,
            work,
            ..
        } = self;
        let group = groups
            .get_mut(&message.group().unwrap_or_default())
            .ok_or(Rejected::NoSuchGroup)?;
        *work += group.members.len() / MEMBERS_PER_WORK;
        if !group.members.contains(&message.source) {
            return Err(Rejected::NotAMember);
        }
        let Some(vacant) = group.ids.vacancy(&message) else {
            return Ok(WriteOutcome::Duplicate);
        };
        let new = if group.all_have_inboxes {
            0
        } else {
            let members = group.members.iter();
            members.filter(|uid| !inboxes.contains_key(*uid)).count()
        };
        let entries = group.members.len() * ENTRY + new * NEW_INBOX;
        let size = body_size(&message) + id_size(message.msg_id()) + entries;
        self.used = with_room(self.used, size, self.limit)?;
        self.latest_time_ms = self.latest_time_ms.max(message.sent_at);
        group.all_have_inboxes = true;
        let members = Arc::clone(&group.members);
        let left = u32::try_from(members.len()).unwrap_or(u32::MAX);
        self.ledger.stored += members.len() as u64;
        *work += members.len();
        for &uid in members.iter() {
            let inbox = inboxes.entry(uid).or_insert_with(|| {
                inbox_uids.insert(uid);
                Inbox::default()
            });
            inbox.append(uid, Arc::clone(&message), self.commit, grown);
        }
        let receivers = Arc::clone(&members);
        vacant.insert(message, Receivers { members, left });
        Ok(WriteOutcome::StoredForGroup { receivers })
    }

    /// Returns how far an inbox goes, and how far it was read.
    pub fn inbox_state(&self, uid: Uid) -> InboxState {
        let nothing = InboxState {
            uid,
            read: Version::START,
            total: Version::START,
        };
        let inbox = self.inboxes.get(&uid);
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
            let ledger = self.inboxes.get(&uid).map(|inbox| inbox.ledger);
            ledgers.extend(ledger.filter(|l| l.stored > 0).map(|ledger| (uid, ledger)));
        }
        seen
    }

    /// Returns whether `uid` has received a message with this id from `source`, alone or as a member of a group.
    fn has_received(&mut self, uid: Uid, source: Uid, msg_id: MsgId<'_>) -> bool {
        let inbox = self.inboxes.get(&uid);
        if inbox.is_some_and(|inbox| inbox.ids.get(Kind::P2p, source, msg_id).is_some()) {
            return true;
        }
        let groups = self.groups_of.get(&uid).into_iter().flatten();
        let (mut work, mut searched) = (0, 0);
        let has_received = groups
            .filter_map(|group| {
                work += 1;
                self.groups.get(group)?.ids.get(Kind::Group, source, msg_id)
            })
            .map(|known| &known.detail.members)
            .inspect(|members| searched += members.len())
            .any(|members| members.contains(&uid));
        self.work += work + searched / MEMBERS_PER_WORK;
        has_received
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

/// Returns the memory of a message that is freed with its last entry, in bytes.
pub(super) fn body_size(message: &Message) -> usize {
    size_of::<Message>() + message.text().len()
}

/// Returns the memory of a message that is freed when its id is forgotten, in bytes: that of the id and of its place in
/// a table.
pub(super) fn id_size(msg_id: MsgId<'_>) -> usize {
    msg_id.0.len() + 3 * ALLOCATION
}

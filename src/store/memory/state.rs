//! The contents of a memory store, behind its lock: does the writes, and accounts for the memory that they take. Serves
//! `batch`, which does the writes of a batch in pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::groups::{Group, Receivers};
use super::inbox::Inbox;
use super::membership::NewMembers;
use super::table::{Slot, UidMap};
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::members::Members;
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
    /// The registered users, shared with a snapshot that is being made.
    pub users: BTreeMap<Uid, Arc<User>>,
    pub groups: BTreeMap<GroupId, Group>,
    /// The groups that each user is or was a member of, in which a message may be that the user accepts. Sorted.
    pub groups_of: UidMap<Vec<GroupId>>,
    pub inboxes: UidMap<Inbox>,
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
    /// Returns whether a write concerns so many users that others have to get the lock before it is done.
    pub fn is_long(&self, write: &Write) -> bool {
        let users = match write {
            Write::Group { message } => {
                let group = self.groups.get(&message.group().unwrap_or_default());
                group.map_or(0, |group| group.members.len())
            }
            Write::CreateGroup { members, .. } => members.len(),
            Write::Join { uids, .. } => uids.len(),
            _ => 1,
        };
        users > WORK_AT_ONCE
    }

    /// Does one write, as a whole or not at all. `grown` has the inboxes that the present commit has grown.
    ///
    /// # Errors
    ///
    /// The reason for which the write is refused. Nothing has changed then.
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
            Write::Register { uid, user } => {
                if self.users.contains_key(&uid) {
                    return Err(Rejected::UserExists);
                }
                self.reserve(ALLOCATION + user.name.len() + user.password_hash.len())?;
                self.users.insert(uid, Arc::new(user));
                Ok(WriteOutcome::Done)
            }
            Write::Quit { group, uid } => self.quit(group, uid),
            Write::Read { uid, after } => {
                if let Some(inbox) = self.inboxes.get_mut(uid)
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
            Write::Group { .. } | Write::CreateGroup { .. } | Write::Join { .. } => {
                let mut long = match self.begin(write)? {
                    Begun::Done(outcome) => return Ok(outcome),
                    Begun::Long(long) => long,
                };
                loop {
                    if let Some(result) = self.continue_long(&mut long, usize::MAX, grown) {
                        return result;
                    }
                }
            }
        }
    }

    /// Begins a write that concerns all members of a group, or all its new ones.
    ///
    /// # Errors
    ///
    /// The reason for which the write is refused. Nothing has changed then.
    pub fn begin(&mut self, write: Write) -> Result<Begun, Rejected> {
        let long = match write {
            Write::Group { message } => match self.begin_fan_out(message)? {
                Some(fan_out) => LongWrite::FanOut(fan_out),
                None => return Ok(Begun::Done(WriteOutcome::Duplicate)),
            },
            Write::CreateGroup {
                group,
                name,
                owner,
                members,
                made_at,
            } => {
                let new = self.begin_creation(group, name, owner, &members, made_at)?;
                LongWrite::NewMembers(new)
            }
            Write::Join {
                group,
                uids,
                max_members,
            } => match self.begin_joining(group, &uids, max_members)? {
                Some(new) => LongWrite::NewMembers(new),
                None => return Ok(Begun::Done(WriteOutcome::Done)),
            },
            short => return Ok(Begun::Done(self.apply(short, &mut Vec::new())?)),
        };
        Ok(Begun::Long(long))
    }

    /// Does up to `steps` steps of a write that has begun, and returns its result when it is done.
    pub fn continue_long(
        &mut self,
        long: &mut LongWrite,
        steps: usize,
        grown: &mut Vec<InboxState>,
    ) -> Option<Result<WriteOutcome, Rejected>> {
        match long {
            LongWrite::FanOut(fan_out) => self.continue_fan_out(fan_out, steps, grown).map(Ok),
            LongWrite::NewMembers(new) => self.continue_members(new, steps),
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
        let inbox = match self.inboxes.slot(target) {
            Slot::Occupied((_, inbox)) => inbox,
            Slot::Vacant(slot) => {
                // A write that is refused must not leave an inbox behind.
                with_room(self.used, size + NEW_INBOX, self.limit)?;
                self.used += NEW_INBOX;
                self.inbox_uids.insert(target);
                &mut slot.insert((target, Inbox::default())).1
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

    /// Begins to put a message into the inboxes of all members of its group. Returns none if the message was sent before.
    ///
    /// # Errors
    ///
    /// [`Rejected::NoSuchGroup`], [`Rejected::NotAMember`], and [`Rejected::Full`] when there is no room for all entries.
    fn begin_fan_out(&mut self, message: Arc<Message>) -> Result<Option<FanOut>, Rejected> {
        let group = message.group().unwrap_or_default();
        let group = self.groups.get_mut(&group).ok_or(Rejected::NoSuchGroup)?;
        self.work += group.members.len() / MEMBERS_PER_WORK;
        if !group.members.contains(&message.source) {
            return Err(Rejected::NotAMember);
        }
        let Some(vacant) = group.ids.vacancy(&message) else {
            return Ok(None);
        };
        let new = if group.all_have_inboxes {
            0
        } else {
            let members = group.members.iter();
            members.filter(|uid| !self.inboxes.contains(**uid)).count()
        };
        let entries = group.members.len() * ENTRY + new * NEW_INBOX;
        let size = body_size(&message) + id_size(message.msg_id()) + entries;
        self.used = with_room(self.used, size, self.limit)?;
        self.latest_time_ms = self.latest_time_ms.max(message.sent_at);
        group.all_have_inboxes = true;
        let members = Arc::clone(&group.members);
        let left = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let receivers = Receivers {
            members: Arc::clone(&members),
            left,
        };
        vacant.insert(Arc::clone(&message), receivers);
        Ok(Some(FanOut {
            message,
            members,
            done: 0,
        }))
    }

    /// Puts a message into up to `steps` of the inboxes that do not have it yet, and returns the outcome when all have it.
    fn continue_fan_out(
        &mut self,
        fan_out: &mut FanOut,
        steps: usize,
        grown: &mut Vec<InboxState>,
    ) -> Option<WriteOutcome> {
        let before = fan_out.done;
        for &uid in fan_out.members.iter().skip(before).take(steps) {
            fan_out.done += 1;
            let inbox = match self.inboxes.slot(uid) {
                Slot::Occupied((_, inbox)) => inbox,
                Slot::Vacant(slot) => {
                    self.inbox_uids.insert(uid);
                    &mut slot.insert((uid, Inbox::default())).1
                }
            };
            inbox.append(uid, Arc::clone(&fan_out.message), self.commit, grown);
        }
        let steps = fan_out.done - before;
        self.work += steps;
        self.ledger.stored += steps as u64;
        (fan_out.done == fan_out.members.len()).then(|| WriteOutcome::StoredForGroup {
            receivers: Arc::clone(&fan_out.members),
        })
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

    /// Returns whether `uid` has received a message with this id from `source`, alone or as a member of a group.
    fn has_received(&mut self, uid: Uid, source: Uid, msg_id: MsgId<'_>) -> bool {
        let inbox = self.inboxes.get(uid);
        if inbox.is_some_and(|inbox| inbox.ids.get(Kind::P2p, source, msg_id).is_some()) {
            return true;
        }
        let groups = self.groups_of.get(uid).into_iter().flatten();
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

/// What came of the beginning of a write.
pub(super) enum Begun {
    Done(WriteOutcome),
    Long(LongWrite),
}

/// A write that concerns many users, of which a part is done. Its conditions are met and its memory is reserved, so it is
/// done as a whole, in steps between which others may get the lock.
pub(super) enum LongWrite {
    FanOut(FanOut),
    NewMembers(NewMembers),
}

/// A message to a group that is being put into the inboxes of the members.
pub(super) struct FanOut {
    message: Arc<Message>,
    /// The members of the group when the message came.
    members: Members,
    /// How many of the members have the message.
    done: usize,
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

//! The writes that create groups and add or remove members. Serves `state`, which does all writes.
//!
//! Before somebody becomes a member of a group, the group is added to that user's groups. So the groups of a user contain
//! at least those whose messages the user may accept by an ack.

use std::sync::Arc;

use super::groups::Group;
use super::ids::Ids;
use super::state::{ALLOCATION, MEMBERS_PER_WORK, State};
use super::table::Slot;
use crate::id::{GroupId, Uid};
use crate::store::members::{joining, members_of};
use crate::store::{Rejected, WriteOutcome};

/// The memory that a user's first group takes in addition to that of a later one, in bytes.
const NEW_MEMBER: usize = 192;

/// The memory that a group takes among the groups of a user, in bytes. A vector may have room for twice its items.
const MEMBERSHIP: usize = 2 * size_of::<GroupId>();

/// A group that is being created, or that others are joining. The group is added to the groups of its new members in
/// steps. The group itself is created, or gets the members, in the last step.
pub(super) struct NewMembers {
    gid: GroupId,
    change: GroupChange,
    /// The new members, without repetitions.
    uids: Vec<Uid>,
    /// How many of `uids` have the group among their groups.
    done: usize,
    /// The memory that is reserved and not used yet, in bytes.
    reserved: usize,
}

/// What happens to the group when all its new members have it among their groups.
enum GroupChange {
    Create { name: Arc<str>, owner: Uid },
    Join { max_members: usize },
}

impl State {
    /// Begins the creation of a group by `owner`, at the time `made_at` in Unix milliseconds. In `members`, repetitions and
    /// the owner are ignored.
    ///
    /// # Errors
    ///
    /// [`Rejected::GroupExists`], and [`Rejected::Full`] when there is no room.
    pub fn begin_creation(
        &mut self,
        gid: GroupId,
        name: String,
        owner: Uid,
        members: &[Uid],
        made_at: i64,
    ) -> Result<NewMembers, Rejected> {
        if self.groups.contains_key(&gid) {
            return Err(Rejected::GroupExists);
        }
        let uids = members_of(owner, members);
        self.work += uids.len() / MEMBERS_PER_WORK;
        let own = 2 * ALLOCATION + name.len();
        let reserved = uids.len() * (MEMBERSHIP + NEW_MEMBER);
        self.reserve(own + reserved)?;
        self.latest_time_ms = self.latest_time_ms.max(made_at);
        let name = name.into();
        Ok(NewMembers {
            gid,
            change: GroupChange::Create { name, owner },
            uids,
            done: 0,
            reserved,
        })
    }

    /// Begins to add members to a group: all of them, or none. Returns none if all are members.
    ///
    /// # Errors
    ///
    /// [`Rejected::NoSuchGroup`], [`Rejected::GroupFull`], and [`Rejected::Full`] when there is no room.
    pub fn begin_joining(
        &mut self,
        gid: GroupId,
        uids: &[Uid],
        max_members: usize,
    ) -> Result<Option<NewMembers>, Rejected> {
        let members = &self.groups.get(&gid).ok_or(Rejected::NoSuchGroup)?.members;
        self.work += (uids.len() + members.len()) / MEMBERS_PER_WORK;
        let uids = joining(members, uids, max_members)?;
        if uids.is_empty() {
            return Ok(None);
        }
        let reserved = uids.len() * (MEMBERSHIP + NEW_MEMBER);
        self.reserve(reserved)?;
        Ok(Some(NewMembers {
            gid,
            change: GroupChange::Join { max_members },
            uids,
            done: 0,
            reserved,
        }))
    }

    /// Does up to `steps` steps of a creation or of a joining, and returns its result when it is done.
    ///
    /// # Errors
    ///
    /// Those of the beginning, when the groups have changed since. Then nobody has become a member.
    pub fn continue_members(
        &mut self,
        new: &mut NewMembers,
        steps: usize,
    ) -> Option<Result<WriteOutcome, Rejected>> {
        for &uid in new.uids.iter().skip(new.done).take(steps) {
            new.done += 1;
            self.work += 1;
            new.reserved = new.reserved.saturating_sub(self.add_group_of(uid, new.gid));
        }
        if new.done < new.uids.len() {
            return None;
        }
        self.used = self.used.saturating_sub(std::mem::take(&mut new.reserved));
        Some(self.change_group(new))
    }

    /// Creates the group, or adds the new members to it. Each of them must have the group among their groups.
    fn change_group(&mut self, new: &mut NewMembers) -> Result<WriteOutcome, Rejected> {
        let uids = std::mem::take(&mut new.uids);
        match &new.change {
            GroupChange::Create { name, owner } => {
                if self.groups.contains_key(&new.gid) {
                    return Err(Rejected::GroupExists);
                }
                let group = Group {
                    name: Arc::clone(name),
                    owner: Some(*owner),
                    members: Arc::new(uids),
                    all_have_inboxes: false,
                    ids: Ids::default(),
                };
                self.groups.insert(new.gid, group);
            }
            GroupChange::Join { max_members } => {
                let group = self.groups.get_mut(&new.gid);
                let group = group.ok_or(Rejected::NoSuchGroup)?;
                // Others may have joined since the beginning.
                let uids = joining(&group.members, &uids, *max_members)?;
                group.members = Arc::new(group.members.iter().chain(&uids).copied().collect());
                group.all_have_inboxes = false;
            }
        }
        Ok(WriteOutcome::Done)
    }

    /// Removes a member from a group, if the user is one.
    ///
    /// # Errors
    ///
    /// [`Rejected::NoSuchGroup`].
    pub fn quit(&mut self, gid: GroupId, uid: Uid) -> Result<WriteOutcome, Rejected> {
        let group = self.groups.get_mut(&gid).ok_or(Rejected::NoSuchGroup)?;
        self.work += group.members.len() / MEMBERS_PER_WORK;
        if group.members.contains(&uid) {
            let others = group.members.iter().copied().filter(|&m| m != uid);
            group.members = Arc::new(others.collect());
        }
        Ok(WriteOutcome::Done)
    }

    /// Adds a group to the groups of a user, and returns the memory that it takes there, in bytes: nothing if the user is
    /// or was a member.
    pub fn add_group_of(&mut self, uid: Uid, gid: GroupId) -> usize {
        match self.groups_of.slot(uid) {
            Slot::Occupied((_, groups)) => match groups.binary_search(&gid) {
                Ok(_) => 0,
                Err(index) => {
                    groups.insert(index, gid);
                    MEMBERSHIP
                }
            },
            Slot::Vacant(slot) => {
                slot.insert((uid, vec![gid]));
                MEMBERSHIP + NEW_MEMBER
            }
        }
    }
}

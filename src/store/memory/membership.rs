//! The writes that create groups and change their members.

use std::sync::Arc;

use super::groups::{Group, NewGroup};
use super::ids::Ids;
use super::state::{ALLOCATION, MEMBERS_PER_WORK, State};
use crate::id::{GroupId, Uid};
use crate::store::members::{joining, members_of};
use crate::store::{Rejected, WriteOutcome};

/// The memory that a user's first group takes in addition to that of a later one, in bytes.
const NEW_MEMBER: usize = 192;

impl State {
    /// Creates a group with all its members, or not at all.
    pub fn create_group(&mut self, new: NewGroup<'_>) -> Result<WriteOutcome, Rejected> {
        let NewGroup {
            gid,
            name,
            owner,
            members,
            made_at,
        } = new;
        if self.groups.contains_key(&gid) {
            return Err(Rejected::GroupExists);
        }
        let members = members_of(owner, members);
        self.work += members.len();
        self.reserve(2 * ALLOCATION + name.len() + self.memberships_size(gid, &members))?;
        self.latest_time_ms = self.latest_time_ms.max(made_at);
        for &uid in &members {
            self.groups_of.entry(uid).or_default().insert(gid);
        }
        let group = Group {
            name,
            owner: Some(owner),
            members: Arc::new(members),
            all_have_inboxes: false,
            ids: Ids::default(),
        };
        self.groups.insert(gid, group);
        Ok(WriteOutcome::Done)
    }

    /// Adds members to a group: all of them, or none.
    pub fn join(
        &mut self,
        gid: GroupId,
        uids: &[Uid],
        max_members: usize,
    ) -> Result<WriteOutcome, Rejected> {
        let members = &self.groups.get(&gid).ok_or(Rejected::NoSuchGroup)?.members;
        self.work += uids.len() + members.len() / MEMBERS_PER_WORK;
        let new = joining(members, uids, max_members)?;
        if new.is_empty() {
            return Ok(WriteOutcome::Done);
        }
        let members = Arc::new(members.iter().chain(&new).copied().collect());
        self.reserve(self.memberships_size(gid, &new))?;
        if let Some(group) = self.groups.get_mut(&gid) {
            group.members = members;
            group.all_have_inboxes = false;
        }
        for uid in new {
            self.groups_of.entry(uid).or_default().insert(gid);
        }
        Ok(WriteOutcome::Done)
    }

    /// Removes a member from a group, if the user is one.
    pub fn quit(&mut self, gid: GroupId, uid: Uid) -> Result<WriteOutcome, Rejected> {
        let group = self.groups.get_mut(&gid).ok_or(Rejected::NoSuchGroup)?;
        self.work += group.members.len() / MEMBERS_PER_WORK;
        if group.members.contains(&uid) {
            let others = group.members.iter().copied().filter(|&m| m != uid);
            group.members = Arc::new(others.collect());
        }
        Ok(WriteOutcome::Done)
    }

    /// Returns the memory that one more group takes for a user, in bytes.
    pub fn membership_size(&self, uid: Uid) -> usize {
        ALLOCATION
            + if self.groups_of.contains_key(&uid) {
                0
            } else {
                NEW_MEMBER
            }
    }

    /// Returns the memory that it takes to make users members of a group, in bytes. Former members take nothing new.
    fn memberships_size(&self, gid: GroupId, uids: &[Uid]) -> usize {
        let belongs = |uid: &Uid| {
            self.groups_of
                .get(uid)
                .is_some_and(|groups| groups.contains(&gid))
        };
        let new = uids.iter().filter(|uid| !belongs(uid));
        new.map(|&uid| self.membership_size(uid)).sum()
    }
}

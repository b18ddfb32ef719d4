//! Changes the members of groups, and caches them for the messages that follow.
//!
//! Serves [`Draft::apply`], and `batch`, which asks how many users receive a message. The cache holds the members as of
//! the last commit that was written; the changes of a draft are added to it when the draft was written.

use std::sync::Arc;

use hashbrown::HashMap;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::super::engine::EngineError;
use super::super::record::{self, GroupRecord, MemberRecord};
use super::{Applied, Draft};
use crate::id::{GroupId, Uid};
use crate::store::members::{Members, joining};
use crate::store::{Rejected, WriteOutcome};

/// The estimated number of groups in the cache.
const CACHED_GROUPS: usize = 65_536;

/// The most members of all groups in the cache together.
const MAX_CACHED_MEMBERS: u64 = 1 << 20;

/// A cache of the members of groups, as the last commit has left them. The writer owns it.
#[derive(Debug)]
pub struct MembersCache {
    members: Cache<GroupId, Members, ByMembers>,
}

/// Weighs a group by the number of its members.
#[derive(Debug, Clone)]
struct ByMembers;

impl Weighter<GroupId, Members> for ByMembers {
    fn weight(&self, _: &GroupId, members: &Members) -> u64 {
        1 + members.len() as u64
    }
}

impl Default for MembersCache {
    fn default() -> Self {
        MembersCache {
            members: Cache::with_weighter(CACHED_GROUPS, MAX_CACHED_MEMBERS, ByMembers),
        }
    }
}

impl MembersCache {
    /// Adds the members of groups that a commit has changed. The commit must have been written.
    pub fn adopt(&mut self, members: HashMap<GroupId, Members>) {
        for (group, list) in members {
            self.members.insert(group, list);
        }
    }
}

impl Draft<'_> {
    /// Adds members to a group: all of them, or none.
    pub(super) fn join(&mut self, group: GroupId, uids: &[Uid], max_members: usize) -> Applied {
        let Some(members) = self.members(group)? else {
            return Ok(Err(Rejected::NoSuchGroup));
        };
        Ok(match joining(&members, uids, max_members) {
            Ok(new) if new.is_empty() => Ok(WriteOutcome::Done),
            Ok(new) => {
                self.add_members(group, new, &members);
                Ok(WriteOutcome::Done)
            }
            Err(rejected) => Err(rejected),
        })
    }

    /// Adds the users `new` to a group whose members are `members`.
    pub(super) fn add_members(&mut self, group: GroupId, new: Vec<Uid>, members: &[Uid]) {
        for &uid in &new {
            self.put(record::member_key(group, uid), &self.member_from_now());
        }
        let members = members.iter().copied().chain(new).collect();
        self.members.insert(group, Arc::new(members));
    }

    /// Removes a member from a group, and notes the membership, which acks of former members depend on.
    pub(super) fn quit(&mut self, group: GroupId, uid: Uid) -> Applied {
        let Some(members) = self.members(group)? else {
            return Ok(Err(Rejected::NoSuchGroup));
        };
        let key = record::member_key(group, uid);
        let Some(member) = self.get::<MemberRecord>(&key)? else {
            return Ok(Ok(WriteOutcome::Done));
        };
        let until = self.state.last_shared + 1;
        if member.since < until {
            self.put(record::former_key(uid, group, until), &member);
        }
        self.remove(key);
        let members = members.iter().copied().filter(|&m| m != uid).collect();
        self.members.insert(group, Arc::new(members));
        Ok(Ok(WriteOutcome::Done))
    }

    /// Returns the record of a member who joins now: the first message that the member receives is the next one.
    fn member_from_now(&self) -> MemberRecord {
        MemberRecord {
            since: self.state.last_shared + 1,
        }
    }

    /// Returns how many users receive a message to a group; 0 if there is no such group or it can't be read.
    pub fn receiver_count(&mut self, group: GroupId) -> usize {
        let members = self.members(group).ok().flatten();
        members.map_or(0, |members| members.len())
    }

    /// Returns the members of a group; none if there is no such group.
    pub(super) fn members(&mut self, group: GroupId) -> Result<Option<Members>, EngineError> {
        if let Some(members) = self.members.get(&group) {
            return Ok(Some(Arc::clone(members)));
        }
        if let Some(members) = self.members_cache.members.get(&group) {
            return Ok(Some(Arc::clone(members)));
        }
        if !self.has::<GroupRecord>(&record::group_key(group))? {
            return Ok(None);
        }
        let members: Members = Arc::new(self.view.members(group)?);
        self.members_cache
            .members
            .insert(group, Arc::clone(&members));
        Ok(Some(members))
    }
}

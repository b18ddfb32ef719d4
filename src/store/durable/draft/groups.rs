//! Who is in a group, was, and will be.

use std::sync::Arc;

use super::super::engine::EngineError;
use super::super::record::{self, GroupRecord, MemberRecord};
use super::{Applied, Draft};
use crate::id::{GroupId, Uid};
use crate::store::members::{Members, joining};
use crate::store::{Rejected, WriteOutcome};

impl Draft<'_> {
    pub(super) fn join(&mut self, group: GroupId, uids: &[Uid], most: usize) -> Applied {
        let Some(members) = self.members(group)? else {
            return Ok(Err(Rejected::NoSuchGroup));
        };
        Ok(match joining(&members, uids, most) {
            Ok(new) if new.is_empty() => Ok(WriteOutcome::Done),
            Ok(new) => {
                self.enter(group, new, &members);
                Ok(WriteOutcome::Done)
            }
            Err(rejected) => Err(rejected),
        })
    }

    /// Makes these members of a group, beside those who are.
    pub(super) fn enter(&mut self, group: GroupId, new: Vec<Uid>, members: &[Uid]) {
        for &uid in &new {
            self.put(record::member_key(group, uid), &self.member_from_now());
        }
        let members = members.iter().copied().chain(new).collect();
        self.members.insert(group, Arc::new(members));
    }

    pub(super) fn quit(&mut self, group: GroupId, uid: Uid) -> Applied {
        let Some(members) = self.members(group)? else {
            return Ok(Err(Rejected::NoSuchGroup));
        };
        let key = record::member_key(group, uid);
        let Some(member) = self.get::<MemberRecord>(&key)? else {
            return Ok(Ok(WriteOutcome::Done));
        };
        let until = self.state.texts + 1;
        if member.since < until {
            self.put(record::former_key(uid, group, until), &member);
        }
        self.remove(key);
        let members = members.iter().copied().filter(|&m| m != uid).collect();
        self.members.insert(group, Arc::new(members));
        Ok(Ok(WriteOutcome::Done))
    }

    fn member_from_now(&self) -> MemberRecord {
        MemberRecord {
            since: self.state.texts + 1,
        }
    }

    /// How many get a message to a group; none where that can't be known.
    pub fn receivers(&mut self, group: GroupId) -> usize {
        let members = self.members(group).ok().flatten();
        members.map_or(0, |members| members.len())
    }

    /// The members of a group, if there is one.
    pub(super) fn members(&mut self, group: GroupId) -> Result<Option<Members>, EngineError> {
        if let Some(members) = self.members.get(&group) {
            return Ok(Some(Arc::clone(members)));
        }
        if let Some(members) = self.remembered.members.get(&group) {
            return Ok(Some(Arc::clone(members)));
        }
        if !self.has::<GroupRecord>(&record::group_key(group))? {
            return Ok(None);
        }
        let members = self.view.prefix(&record::members_prefix(group));
        let members = members.map(|found| Ok(record::last_number(&found?.0)));
        let members: Members = Arc::new(members.collect::<Result<_, EngineError>>()?);
        self.remembered.members.insert(group, Arc::clone(&members));
        Ok(Some(members))
    }
}

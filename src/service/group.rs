//! The operations on groups: creation, joining and quitting.
//!
//! Serves the group API and the methods of [`Imd`](crate::Imd). Each change is a write of its own: no notify follows it.

use std::collections::BTreeSet;

use super::account::WriteError;
use super::{IssuedId, Services, TextTooLong};
use crate::id::{GroupId, Uid};
use crate::store::{Rejected, StoreError, Write};

/// Why a group was not changed.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// UIDs are positive.
    #[error("uid {0} is not positive")]
    BadUid(i64),
    /// Group ids are positive.
    #[error("gid {0} is not positive")]
    BadGid(i64),
    /// The name is longer than the HTTP API could take.
    #[error(transparent)]
    TooLong(#[from] TextTooLong),
    /// Only registered users may be members, and this one is not registered.
    #[error("{0} is not registered")]
    NoSuchUser(i64),
    /// The store has rejected the change: there is no such group, it is full, or there is no room.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The change was not committed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store could not be asked for a user.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// `/x/group/create`: creates a group whose members are `owner` and `members`, and returns its id, a snowflake.
    ///
    /// # Errors
    ///
    /// [`GroupError`] when one of the members may not take part, when they are too many, when the store has no room for all
    /// of them, or when an injected fault has repeated the id of another group. No group is created then, and the other
    /// group stays as it is.
    pub async fn create_group(
        &self,
        owner: Uid,
        name: String,
        members: &[Uid],
    ) -> Result<GroupId, GroupError> {
        self.check_text("name", &name)?;
        let all: BTreeSet<Uid> = members.iter().copied().chain([owner]).collect();
        if all.len() > self.limits.group_members {
            return Err(Rejected::GroupFull.into());
        }
        for &uid in &all {
            self.check_member(uid).await?;
        }
        let members: Vec<Uid> = all.into_iter().collect();
        loop {
            let IssuedId { id, is_injected } = self.issue_id(owner, self.clock.unix_ms());
            let id = GroupId(id);
            let made = Write::CreateGroup {
                group: id,
                name: name.clone(),
                owner,
                members: members.clone(),
                made_at: self.clock.unix_ms().max(self.ids.last_issued_ms()),
            };
            match self.store_for(owner, made).await? {
                Ok(()) => return Ok(id),
                // A group of the config or of a snapshot has this id. One of the next ids is free.
                Err(Rejected::GroupExists) if !is_injected => {}
                Err(rejected) => return Err(rejected.into()),
            }
        }
    }

    /// `/x/group/join`: makes a user a member of a group. Joining twice is no error.
    ///
    /// # Errors
    ///
    /// [`GroupError`]; the user has not become a member then, unless the store has failed.
    pub async fn join_group(&self, uid: Uid, group: GroupId) -> Result<(), GroupError> {
        self.check_member(uid).await?;
        check_gid(group)?;
        let write = Write::Join {
            group,
            uids: vec![uid],
            max_members: self.limits.group_members,
        };
        Ok(self.store_for(uid, write).await??)
    }

    /// `/x/group/quit`: ends the membership of a user. Quitting twice is no error.
    ///
    /// # Errors
    ///
    /// [`GroupError`]; the user has not left the group then, unless the store has failed.
    pub async fn quit_group(&self, uid: Uid, group: GroupId) -> Result<(), GroupError> {
        self.check_member(uid).await?;
        check_gid(group)?;
        let write = Write::Quit { group, uid };
        Ok(self.store_for(uid, write).await??)
    }

    /// Checks that a user may be a member of groups.
    ///
    /// # Errors
    ///
    /// [`GroupError`], when the uid is not positive, or the user has to be registered and is not.
    pub(super) async fn check_member(&self, uid: Uid) -> Result<(), GroupError> {
        if !uid.is_positive() {
            return Err(GroupError::BadUid(uid.0));
        }
        if !self.may_participate(uid).await? {
            return Err(GroupError::NoSuchUser(uid.0));
        }
        Ok(())
    }
}

fn check_gid(group: GroupId) -> Result<(), GroupError> {
    if group.is_positive() {
        Ok(())
    } else {
        Err(GroupError::BadGid(group.0))
    }
}

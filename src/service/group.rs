use std::collections::BTreeSet;

use super::account::WriteError;
use super::{Drawn, Services, TextTooLong};
use crate::id::{GroupId, Uid};
use crate::store::{Rejected, StoreFailed, Write};

/// Why a group was not changed.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// UIDs are positive.
    #[error("uid {0} is not positive")]
    BadUid(i64),
    /// Group ids are positive.
    #[error("gid {0} is not positive")]
    BadGid(i64),
    /// The name is too long.
    #[error(transparent)]
    TooLong(#[from] TextTooLong),
    /// Only registered users may, and this one is none.
    #[error("{0} is not registered")]
    NoSuchUser(i64),
    /// The store knows why not.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The change was not stored.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Services {
    /// `/x/group/create`: a new group whose first member is `owner`, with `members` beside it. Returns its id, a
    /// snowflake.
    ///
    /// # Errors
    ///
    /// [`GroupError`]; when one of them may not take part, or they are too many, or there is no room for all of them, there
    /// is no group. So it is too where a fault has repeated the id of another group, which stays as it is.
    pub async fn create_group(
        &self,
        owner: Uid,
        name: String,
        members: &[Uid],
    ) -> Result<GroupId, GroupError> {
        self.check_text("name", &name)?;
        let all: BTreeSet<Uid> = members.iter().copied().chain([owner]).collect();
        let most = self.limits.group_members;
        if all.len() > most {
            return Err(Rejected::GroupFull.into());
        }
        for &uid in &all {
            self.check_member(uid).await?;
        }
        let members: Vec<Uid> = all.into_iter().collect();
        loop {
            let Drawn { id, is_bent } = self.draw_id(owner);
            let id = GroupId(id);
            let made = Write::CreateGroup {
                group: id,
                name: name.clone(),
                owner,
                members: members.clone(),
                made_at: self.clock.unix_ms().max(self.ids.reached()),
            };
            match self.store_for(owner, made).await? {
                Ok(()) => return Ok(id),
                // A group of the config or of a snapshot has the id: the next one is free, sooner or later.
                Err(Rejected::GroupExists) if !is_bent => {}
                Err(rejected) => return Err(rejected.into()),
            }
        }
    }

    /// `/x/group/join`: a new member. Joining twice is no error.
    ///
    /// # Errors
    ///
    /// [`GroupError`]
    pub async fn join_group(&self, uid: Uid, group: GroupId) -> Result<(), GroupError> {
        self.check_member(uid).await?;
        check_gid(group)?;
        let write = Write::Join {
            group,
            uids: vec![uid],
            most: self.limits.group_members,
        };
        Ok(self.store_for(uid, write).await??)
    }

    /// `/x/group/quit`: one member fewer. Quitting twice is no error.
    ///
    /// # Errors
    ///
    /// [`GroupError`]
    pub async fn quit_group(&self, uid: Uid, group: GroupId) -> Result<(), GroupError> {
        self.check_member(uid).await?;
        check_gid(group)?;
        let write = Write::Quit { group, uid };
        Ok(self.store_for(uid, write).await??)
    }

    pub(super) async fn check_member(&self, uid: Uid) -> Result<(), GroupError> {
        if !uid.is_positive() {
            return Err(GroupError::BadUid(uid.0));
        }
        if !self.is_admitted(uid).await? {
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

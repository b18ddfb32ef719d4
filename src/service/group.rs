use std::collections::BTreeSet;

use super::Services;
use super::account::WriteError;
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
    /// [`GroupError`]; when one of them may not take part, or they are too many, there is no group.
    pub async fn create_group(
        &self,
        owner: i64,
        name: String,
        members: &[i64],
    ) -> Result<i64, GroupError> {
        let all: BTreeSet<i64> = members.iter().copied().chain([owner]).collect();
        let most = self.limits.group_members;
        if all.len() > most {
            return Err(Rejected::GroupFull.into());
        }
        for &uid in &all {
            self.check_member(uid).await?;
        }
        let group = self.next_id(owner);
        let made_at = self.clock.unix_ms();
        let made = Write::CreateGroup {
            group,
            name,
            owner,
            made_at,
        };
        let others = all.into_iter().filter(|uid| *uid != owner);
        let joins = others.map(|uid| Write::Join { group, uid, most });
        let writes = [made].into_iter().chain(joins).collect();
        self.store_for(owner, writes).await??;
        Ok(group)
    }

    /// `/x/group/join`: a new member. Joining twice is no error.
    ///
    /// # Errors
    ///
    /// [`GroupError`]
    pub async fn join_group(&self, uid: i64, group: i64) -> Result<(), GroupError> {
        let write = self.joining(uid, group).await?;
        Ok(self.store_for(uid, vec![write]).await??)
    }

    /// What has to be stored for a new member.
    pub(super) async fn joining(&self, uid: i64, group: i64) -> Result<Write, GroupError> {
        self.check_member(uid).await?;
        check_gid(group)?;
        let most = self.limits.group_members;
        Ok(Write::Join { group, uid, most })
    }

    /// `/x/group/quit`: one member fewer. Quitting twice is no error.
    ///
    /// # Errors
    ///
    /// [`GroupError`]
    pub async fn quit_group(&self, uid: i64, group: i64) -> Result<(), GroupError> {
        self.check_member(uid).await?;
        check_gid(group)?;
        let write = Write::Quit { group, uid };
        Ok(self.store_for(uid, vec![write]).await??)
    }

    async fn check_member(&self, uid: i64) -> Result<(), GroupError> {
        if uid <= 0 {
            return Err(GroupError::BadUid(uid));
        }
        if !self.is_admitted(uid).await? {
            return Err(GroupError::NoSuchUser(uid));
        }
        Ok(())
    }
}

fn check_gid(group: i64) -> Result<(), GroupError> {
    if group > 0 {
        Ok(())
    } else {
        Err(GroupError::BadGid(group))
    }
}

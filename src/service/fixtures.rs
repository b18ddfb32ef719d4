//! Creates the users and groups of the config: `[[user]]` and `[[group]]`.
//!
//! Serves the start of a stack and the resets. Users and groups that the store has already are left as they are, except
//! that missing members join a group.

use super::{GroupError, RegisterError, Services};
use crate::config::{Group, User};
use crate::id::{GroupId, Uid};
use crate::store::{Rejected, Write};

/// Why a user or a group of the config could not be provided.
#[derive(Debug, thiserror::Error)]
#[error("[[{kind}]] {id}: {why}")]
pub struct FixtureError {
    /// The section of the config: `user` or `group`.
    kind: &'static str,
    /// The uid or gid in that section.
    id: i64,
    why: String,
}

impl FixtureError {
    fn new(kind: &'static str, id: i64, why: impl ToString) -> Self {
        let why = why.to_string();
        FixtureError { kind, id, why }
    }
}

impl Services {
    /// Creates the users and groups of the config that the store does not have yet. No faults are injected into the writes,
    /// since no client asks for them.
    ///
    /// # Errors
    ///
    /// [`FixtureError`] for the first user or group that could not be created. Those before it were created.
    pub async fn provide(&self, users: &[User], groups: &[Group]) -> Result<(), FixtureError> {
        for user in users {
            let provided = self.provide_user(user).await;
            provided.map_err(|error| FixtureError::new("user", user.uid, error))?;
        }
        for group in groups {
            let provided = self.provide_group(group).await;
            provided.map_err(|error| FixtureError::new("group", group.gid, error))?;
        }
        Ok(())
    }

    /// `[[user]]`: registers a user who is not registered already.
    async fn provide_user(&self, user: &User) -> Result<(), RegisterError> {
        let (name, password) = (user.name.clone(), user.pw.expose().to_owned());
        let write = match self.registration(Uid(user.uid), name, password).await {
            Err(RegisterError::Rejected(Rejected::UserExists)) => return Ok(()),
            write => write?,
        };
        Ok(self.store_one(write).await??)
    }

    /// `[[group]]`: creates a group with all its members. If the group exists, the missing members join it, all of them or
    /// none.
    async fn provide_group(&self, group: &Group) -> Result<(), GroupError> {
        let members: Vec<Uid> = group.members.iter().copied().map(Uid).collect();
        let Some(&owner) = members.first() else {
            return Ok(());
        };
        for &uid in &members {
            self.check_member(uid).await?;
        }
        let made = self.store_one(Write::CreateGroup {
            group: GroupId(group.gid),
            name: group.name.clone(),
            owner,
            members: members.clone(),
            made_at: self.clock.unix_ms(),
        });
        match made.await? {
            Err(Rejected::GroupExists) => {}
            made => return Ok(made?),
        }
        let join = self.store_one(Write::Join {
            group: GroupId(group.gid),
            uids: members,
            max_members: self.limits.group_members,
        });
        Ok(join.await??)
    }
}

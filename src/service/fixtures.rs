use super::{GroupError, RegisterError, Services};
use crate::config::{Group, User};
use crate::store::{Rejected, Write};

impl Services {
    /// `[[user]]`: registers someone, unless they are registered already.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]
    pub async fn provide_user(&self, user: &User) -> Result<(), RegisterError> {
        let (name, password) = (user.name.clone(), user.pw.expose().to_owned());
        match self.register(user.uid, name, password).await {
            Err(RegisterError::Rejected(Rejected::UserExists)) => Ok(()),
            registered => registered,
        }
    }

    /// `[[group]]`: makes a group, unless it is there already, and has its members join.
    ///
    /// # Errors
    ///
    /// [`GroupError`]
    pub async fn provide_group(&self, group: &Group) -> Result<(), GroupError> {
        let Some(&owner) = group.members.first() else {
            return Ok(());
        };
        let made = self.store_one(Write::CreateGroup {
            group: group.gid,
            name: group.name.clone(),
            owner,
            made_at: self.clock.unix_ms(),
        });
        match made.await? {
            Ok(()) | Err(Rejected::GroupExists) => {}
            Err(rejected) => return Err(rejected.into()),
        }
        for &uid in &group.members {
            self.join_group(uid, group.gid).await?;
        }
        Ok(())
    }
}

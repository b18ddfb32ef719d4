//! The methods of [`Imd`] that create users and groups: what the user API and the group API do, without HTTP.
//!
//! Serves tests in Rust. The methods call the same services as the HTTP APIs, so the same checks and injected faults apply.

use super::Imd;
use crate::id::{GroupId, Uid};
use crate::service::{GroupError, RegisterError};

impl Imd {
    /// Registers a user, as `/x/user/register` does. Name and password may be empty.
    ///
    /// With `auth.auto_register`, the default, users who never registered can log in too. Only a registered user has a
    /// password.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use imd::{Config, Imd, RegisterError, Rejected};
    ///
    /// let imd = Imd::start(Config::ephemeral()).await?;
    /// imd.register(7, "ann", "a secret").await?;
    /// let again = imd.register(7, "ann", "another").await;
    /// assert!(matches!(again, Err(RegisterError::Rejected(Rejected::UserExists))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RegisterError`]. The user is not registered then, unless the store has failed: in that case it is not known.
    pub async fn register(
        &self,
        uid: impl Into<Uid>,
        name: &str,
        password: &str,
    ) -> Result<(), RegisterError> {
        let _blocked = self.services().block_replacement().await;
        let (name, password) = (name.to_owned(), password.to_owned());
        self.services().register(uid.into(), name, password).await
    }

    /// Creates a group whose members are `owner` and `members`, and returns its id. `owner` may be among `members`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use imd::{Client, Config, Imd};
    ///
    /// let imd = Imd::start(Config::ephemeral()).await?;
    /// let team = imd.create_group(7, "team", &[8, 9]).await?;
    /// imd.quit_group(9, team).await?;
    ///
    /// let mut ann = Client::connect(imd.gateway_addr()).await?;
    /// ann.login(7, &imd.token(7)).await?;
    /// ann.send_group(team, "hello all").await?;
    /// assert_eq!(imd.report().stored, 2); // in the inboxes of 7 and 8
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`GroupError`]. No group was created then, unless the store has failed: in that case it is not known.
    pub async fn create_group(
        &self,
        owner: impl Into<Uid>,
        name: &str,
        members: &[i64],
    ) -> Result<i64, GroupError> {
        let _blocked = self.services().block_replacement().await;
        let name = name.to_owned();
        let members: Vec<Uid> = members.iter().copied().map(Uid).collect();
        let created = self.services().create_group(owner.into(), name, &members);
        created.await.map(i64::from)
    }

    /// Makes a user a member of a group, as `/x/group/join` does. Joining twice is no error.
    ///
    /// # Errors
    ///
    /// [`GroupError`]; then nothing has changed.
    pub async fn join_group(
        &self,
        uid: impl Into<Uid>,
        group: impl Into<GroupId>,
    ) -> Result<(), GroupError> {
        let _blocked = self.services().block_replacement().await;
        self.services().join_group(uid.into(), group.into()).await
    }

    /// Ends the membership of a user in a group, as `/x/group/quit` does. Quitting twice is no error.
    ///
    /// # Errors
    ///
    /// [`GroupError`]; then nothing has changed.
    pub async fn quit_group(
        &self,
        uid: impl Into<Uid>,
        group: impl Into<GroupId>,
    ) -> Result<(), GroupError> {
        let _blocked = self.services().block_replacement().await;
        self.services().quit_group(uid.into(), group.into()).await
    }
}

//! The operations on registered users: registration, and a token in exchange for a password.
//!
//! Serves the user API and [`Imd::register`](crate::Imd::register), and with its single writes the modules `group` and
//! `fixtures`. A password is stored as a hash only.

use super::password::HashingFailed;
use super::{Caller, Services, TextTooLong};
use crate::id::Uid;
use crate::lab::{Action, Site};
use crate::proto::Code;
use crate::store::{Rejected, StoreError, User, Write};

/// Why a user could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// UIDs are positive.
    #[error("uid {0} is not positive")]
    BadUid(i64),
    /// The name or the password is longer than a request to the HTTP API may be.
    #[error(transparent)]
    TooLong(#[from] TextTooLong),
    /// The uid is taken, or the store has no room.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The password could not be hashed.
    #[error(transparent)]
    Hashing(#[from] HashingFailed),
    /// The registration was not committed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store could not be asked for the user.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a write was not committed, other than by a rejection of the store.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An injected fault refuses the write with this code.
    #[error("{}", .0.text())]
    Injected(Code),
    /// The store has failed; it is not known whether the write is stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why no token was issued for a password.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// UIDs are positive.
    #[error("uid {0} is not positive")]
    BadUid(i64),
    /// Only registered users get a token, and nobody is registered under this uid.
    #[error("no such user")]
    NoSuchUser,
    /// The password is not that of the user.
    #[error("wrong password")]
    WrongPassword,
    /// The password could not be hashed.
    #[error(transparent)]
    Hashing(#[from] HashingFailed),
    /// The store could not be asked for the user.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// `/x/user/register`: registers a user with a password. Name and password may be empty.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; the user is not registered then, unless the store has failed.
    pub async fn register(
        &self,
        uid: Uid,
        name: String,
        password: String,
    ) -> Result<(), RegisterError> {
        let write = self.registration(uid, name, password).await?;
        Ok(self.store_for(uid, write).await??)
    }

    /// Returns the write that registers a user, with the password hashed.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], when the values can't be those of a new user, or the password can't be hashed.
    pub(super) async fn registration(
        &self,
        uid: Uid,
        name: String,
        password: String,
    ) -> Result<Write, RegisterError> {
        if !uid.is_positive() {
            return Err(RegisterError::BadUid(uid.0));
        }
        self.check_text("name", &name)?;
        self.check_text("pw", &password)?;
        // Saves hashing the password for a uid that is taken. The commit checks it again.
        if self.accounts.user(uid).await?.is_some() {
            return Err(Rejected::UserExists.into());
        }
        let password_hash = self.passwords.hash(password).await?;
        let user = User {
            name,
            password_hash,
        };
        Ok(Write::Register { uid, user })
    }

    /// `/x/user/auth`: issues a token to a registered user with the right password. Where users need not register, a user
    /// who has not registered gets a token with any password.
    ///
    /// # Errors
    ///
    /// - [`AuthError::BadUid`], when the uid is not positive.
    /// - [`AuthError::NoSuchUser`], when users have to register and this one has not.
    /// - [`AuthError::WrongPassword`], when the password is not that of the user.
    /// - [`AuthError::Hashing`] and [`AuthError::Store`], when the password could not be verified.
    ///
    /// In no case is anything changed, and the caller may try again.
    pub async fn authenticate(&self, uid: Uid, password: String) -> Result<String, AuthError> {
        if !uid.is_positive() {
            return Err(AuthError::BadUid(uid.0));
        }
        let Some(user) = self.accounts.user(uid).await? else {
            return if self.auto_register {
                Ok(self.tokens.issue(uid))
            } else {
                Err(AuthError::NoSuchUser)
            };
        };
        let matched = self.passwords.matches(uid, password, &user.password_hash);
        if matched.await? {
            Ok(self.tokens.issue(uid))
        } else {
            Err(AuthError::WrongPassword)
        }
    }

    /// Commits a write by itself on behalf of a user. Faults of the store are injected into it. The inner result is that of
    /// the store.
    ///
    /// # Errors
    ///
    /// [`WriteError`], when an injected fault refuses the write, or the store has failed.
    pub(super) async fn store_for(
        &self,
        uid: Uid,
        write: Write,
    ) -> Result<Result<(), Rejected>, WriteError> {
        let caller = Caller { uid, session: None };
        match self
            .hit_after_delay(Site::StoreWrite, caller, |_| true)
            .await
        {
            Some(Action::Error(code)) => Err(WriteError::Injected(code)),
            // The fault loses the write: the caller gets a success, and nothing is stored.
            Some(Action::Drop) => Ok(Ok(())),
            _ => Ok(self.store_one(write).await?),
        }
    }

    /// Commits a write by itself, without injected faults. The inner result is that of the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when the store has failed; it is not known then whether the write is stored.
    pub(super) async fn store_one(&self, write: Write) -> Result<Result<(), Rejected>, StoreError> {
        let result = self.messages.commit(vec![write]).await?.results.pop();
        let result = result.ok_or(StoreError::Unanswered)?;
        Ok(result.map(drop))
    }
}

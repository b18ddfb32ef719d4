use super::password::HashingFailed;
use super::{Services, TextTooLong};
use crate::id::Uid;
use crate::lab::{Action, Site};
use crate::proto::Code;
use crate::store::{Rejected, StoreFailed, User, Write};

/// Why a user could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// UIDs are positive.
    #[error("uid {0} is not positive")]
    BadUid(i64),
    /// The name or the password is too long.
    #[error(transparent)]
    TooLong(#[from] TextTooLong),
    /// The uid is taken, or there is no room.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The password could not be hashed.
    #[error(transparent)]
    Hashing(#[from] HashingFailed),
    /// The user was not stored.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// Why something was not stored that the store did not reject.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A fault wants this code.
    #[error("{text}", text = .0.text())]
    Fault(Code),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// Why a password got no token.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// UIDs are positive.
    #[error("uid {0} is not positive")]
    BadUid(i64),
    /// Nobody has registered under this uid, and only registered users get a token.
    #[error("no such user")]
    NoSuchUser,
    /// The password is another one.
    #[error("wrong password")]
    WrongPassword,
    /// The password could not be hashed.
    #[error(transparent)]
    Hashing(#[from] HashingFailed),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Services {
    /// `/x/user/register`: a new user with a password. Name and password may be empty.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]
    pub async fn register(
        &self,
        uid: Uid,
        name: String,
        password: String,
    ) -> Result<(), RegisterError> {
        let write = self.registration(uid, name, password).await?;
        Ok(self.store_for(uid, write).await??)
    }

    /// What has to be stored for a new user.
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
        // A hash is dear: none for a uid that is taken. The commit looks again.
        if self.store.user(uid).await?.is_some() {
            return Err(Rejected::UserExists.into());
        }
        let password_hash = self.passwords.hash(password).await?;
        let user = User {
            name,
            password_hash,
        };
        Ok(Write::Register { uid, user })
    }

    /// `/x/user/auth`: a token for a registered user with the right password. Where users need not register, one who has
    /// not gets a token too, with any password.
    ///
    /// # Errors
    ///
    /// [`AuthError`]
    pub async fn authenticate(&self, uid: Uid, password: String) -> Result<String, AuthError> {
        if !uid.is_positive() {
            return Err(AuthError::BadUid(uid.0));
        }
        let Some(user) = self.store.user(uid).await? else {
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

    /// Commits what the HTTP API or the admin API has brought for a user. It meets the faults of the store.
    pub(super) async fn store_for(
        &self,
        uid: Uid,
        write: Write,
    ) -> Result<Result<(), Rejected>, WriteError> {
        match self
            .meet(Site::StoreWrite, (Some(uid), None), |_| true)
            .await
        {
            Some(Action::Error(code)) => Err(WriteError::Fault(code)),
            Some(Action::Drop) => Ok(Ok(())),
            _ => Ok(self.store_one(write).await?),
        }
    }

    /// Commits a write by itself.
    pub(super) async fn store_one(
        &self,
        write: Write,
    ) -> Result<Result<(), Rejected>, StoreFailed> {
        let result = self.store.commit(vec![write]).await?.results.pop();
        result.ok_or_else(|| StoreFailed("a write was left unanswered".into()))
    }
}

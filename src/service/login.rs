//! Logins, pings and logouts, and the user for whom a command is carried out.
//!
//! Serves the access servers. A login enters the session in the directory and binds it to the user; from the close of the
//! session on, the directory no longer has it. A login that fails changes neither the directory nor the session.

use std::future::poll_fn;
use std::sync::Arc;

use super::Services;
use crate::directory::{Entered, SessionHandle};
use crate::id::Uid;
use crate::proto::Cmd;
use crate::store::{InboxState, StoreError};

/// Why a login was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The token is empty.
    #[error("no token")]
    NoToken,
    /// UIDs are positive.
    #[error("uid {0} is not positive")]
    BadUid(Uid),
    /// The token is that of another user, or has expired.
    #[error("wrong token")]
    WrongToken,
    /// Another user is logged in on this session.
    #[error("the session belongs to another user")]
    OtherUser,
    /// The user has another session, which stays: `session.second_login` of the config says so, or it has displaced this
    /// one.
    #[error("logged in elsewhere")]
    Elsewhere,
    /// The session was closed during its login.
    #[error("the session is closed")]
    Closed,
    /// Only registered users may log in, and this one is not registered.
    #[error("no such user")]
    NoSuchUser,
    /// The store could not be asked for the user or the inbox.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A request names another user than the one who is logged in on its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("uid does not match the login")]
pub struct UidMismatch;

/// Why a command that came before a login is carried out for no user.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A login is required, or the request names no user.
    #[error("not logged in")]
    NotLoggedIn,
    /// Only registered users may take part, and this one is not registered.
    #[error("no such user")]
    NoSuchUser,
    /// The store could not be asked for the user.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A successful login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginOutcome {
    /// The newest version in the user's inbox, and how far the user has read. The session is notified of messages that are
    /// stored later.
    pub inbox: InboxState,
}

impl Services {
    /// 20001: binds a user to a session, which receives the user's notifies from then on.
    ///
    /// `claimed` is the user whom the request names. Without one, the user who is logged in on the session already logs in
    /// again.
    ///
    /// # Errors
    ///
    /// [`LoginError`]. An older session of the user is left as it is then.
    pub async fn login(
        &self,
        session: &Arc<dyn SessionHandle>,
        claimed: Option<Uid>,
        token: &str,
    ) -> Result<LoginOutcome, LoginError> {
        let outcome = self.try_login(session, claimed, token).await;
        outcome.map_err(|error| {
            tracing::debug!(uid = claimed.map(i64::from), %error, "login refused");
            self.counted(Cmd::Login, error)
        })
    }

    async fn try_login(
        &self,
        session: &Arc<dyn SessionHandle>,
        claimed: Option<Uid>,
        token: &str,
    ) -> Result<LoginOutcome, LoginError> {
        let bound = session.uid();
        let uid = match (bound, claimed) {
            (Some(bound), Some(claimed)) if claimed != bound => return Err(LoginError::OtherUser),
            (bound, claimed) => claimed.or(bound).unwrap_or_default(),
        };
        let _blocked = tokio::select! {
            biased;
            blocked = self.block_replacement() => blocked,
            () = poll_fn(|cx| session.poll_unserved(cx)) => return Err(LoginError::Closed),
        };
        self.check_login(uid, token).await?;
        // Read before anything changes, so that a login which fails because of the store displaces no session.
        let before = self.messages.inbox_state(uid).await?;
        let older = match self.directory.enter(uid, session).await {
            Entered::Accepted => None,
            Entered::Displaces(older) => Some(older),
            Entered::Refused => return Err(LoginError::Elsewhere),
            Entered::Closed => return Err(LoginError::Closed),
        };
        if bound.is_none() {
            session.log_in(uid, &self.directory);
            tracing::debug!(uid = uid.0, "logged in");
        }
        if let Some(older) = older {
            older.displace();
        }
        // Read again, since this session was not notified of messages that were stored before it entered the directory.
        let inbox = self.messages.inbox_state(uid).await.unwrap_or(before);
        Ok(LoginOutcome { inbox })
    }

    async fn check_login(&self, uid: Uid, token: &str) -> Result<(), LoginError> {
        if token.is_empty() {
            return Err(LoginError::NoToken);
        }
        if !uid.is_positive() {
            return Err(LoginError::BadUid(uid));
        }
        if !self.tokens.is_valid(uid, token) {
            return Err(LoginError::WrongToken);
        }
        if !self.may_participate(uid).await? {
            return Err(LoginError::NoSuchUser);
        }
        Ok(())
    }

    /// 20002: renews the presence of `uid`, who is logged in on this session. `claimed` is the user whom the request names.
    ///
    /// # Errors
    ///
    /// [`UidMismatch`]; nothing is renewed then.
    pub fn ping(
        &self,
        session: &Arc<dyn SessionHandle>,
        uid: Uid,
        claimed: Option<Uid>,
    ) -> Result<(), UidMismatch> {
        check_claimed(uid, claimed).map_err(|error| self.counted(Cmd::Ping, error))?;
        self.directory.renew(uid, session);
        Ok(())
    }

    /// 20008: checks that `uid` may be logged out by a request that names `claimed`. The front then has to close the
    /// session, which takes the user offline.
    ///
    /// # Errors
    ///
    /// [`UidMismatch`]. The front must not close the session then.
    pub fn logout(&self, uid: Uid, claimed: Option<Uid>) -> Result<(), UidMismatch> {
        check_claimed(uid, claimed).map_err(|error| self.counted(Cmd::Logout, error))
    }

    /// Returns the user for whom to carry out a command that came before the login and claims to come from `claimed`.
    /// Only with the quirk `login_not_required` there is one: `claimed`, if that user may log in.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], counted as a refusal of `cmd`.
    pub async fn identify(&self, cmd: Cmd, claimed: Option<Uid>) -> Result<Uid, IdentityError> {
        let identified = match claimed.filter(|uid| uid.is_positive()) {
            Some(uid) if self.quirks.login_not_required => {
                self.check_participant(uid).await.map(|()| uid)
            }
            _ => Err(IdentityError::NotLoggedIn),
        };
        identified.map_err(|error| self.counted(cmd, error))
    }

    async fn check_participant(&self, uid: Uid) -> Result<(), IdentityError> {
        if !self.may_participate(uid).await? {
            return Err(IdentityError::NoSuchUser);
        }
        Ok(())
    }
}

/// Checks that a request names the user who is logged in, or nobody.
///
/// # Errors
///
/// [`UidMismatch`], when it names another user.
pub(super) fn check_claimed(uid: Uid, claimed: Option<Uid>) -> Result<(), UidMismatch> {
    match claimed {
        Some(claimed) if claimed != uid => Err(UidMismatch),
        _ => Ok(()),
    }
}

use std::sync::Arc;

use super::Services;
use super::message::check_uid;
use crate::id::Uid;
use crate::notify::Entered;
use crate::proto::{Reply, ReqLogin, ReqLogout};
use crate::session::{CloseReason, Session};
use crate::store::StoreFailed;

/// Why a login was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no token.
    #[error("no token")]
    NoToken,
    /// UIDs are positive.
    #[error("uid {0} is not positive")]
    BadUid(i64),
    /// The token is not this user's, or has expired.
    #[error("wrong token")]
    WrongToken,
    /// This session belongs to another user.
    #[error("the session belongs to another user")]
    OtherUser,
    /// The user has a session already, and `session.second_login` says that it stays.
    #[error("logged in elsewhere")]
    Elsewhere,
    /// The session was closed while its login waited for the store.
    #[error("the session is closed")]
    Closed,
    /// Only registered users may log in.
    #[error("no such user")]
    NoSuchUser,
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Services {
    /// 20001: binds the user to this session.
    pub async fn login(&self, session: &Arc<Session>, request: ReqLogin) -> Reply {
        let reply = match self.try_login(session, &request).await {
            Ok(()) => Reply::login(),
            Err(error) => {
                tracing::debug!(uid = request.uid, %error, "login refused");
                self.refuse(Reply::login(), error)
            }
        };
        self.reworded(reply)
    }

    async fn try_login(
        &self,
        session: &Arc<Session>,
        request: &ReqLogin,
    ) -> Result<(), LoginError> {
        let bound = session.uid();
        let uid = match (bound, Uid(request.uid)) {
            (Some(bound), Uid(0)) => bound,
            (Some(bound), uid) if uid != bound => return Err(LoginError::OtherUser),
            (_, uid) => uid,
        };
        let _door = tokio::select! {
            biased;
            door = self.enter() => door,
            () = session.over() => return Err(LoginError::Closed),
        };
        if request.token.is_empty() {
            return Err(LoginError::NoToken);
        }
        if !uid.is_positive() {
            return Err(LoginError::BadUid(uid.0));
        }
        if !self.tokens.is_valid(uid, &request.token) {
            return Err(LoginError::WrongToken);
        }
        if !self.is_admitted(uid).await? {
            return Err(LoginError::NoSuchUser);
        }
        // Before anything changes: a login that fails takes nobody over.
        let before = self.store.level(uid).await?;
        let older = match self.presence.enter(uid, session) {
            Entered::Alone => None,
            Entered::InPlaceOf(older) => Some(older),
            Entered::Refused => return Err(LoginError::Elsewhere),
            Entered::Closed => return Err(LoginError::Closed),
        };
        if bound.is_none() {
            session.log_in(uid);
            let presence = Arc::clone(&self.presence);
            session.on_close(move |session| presence.leave(uid, session.id()));
            tracing::debug!(uid = uid.0, "logged in");
        }
        if let Some(older) = older {
            older.close(CloseReason::LoggedInElsewhere);
        }
        // And again: what is stored from now on is notified, but not what was stored since the first look.
        let level = self.store.level(uid).await.unwrap_or(before);
        if level.total > level.read {
            session.notify(level.read, level.total);
        }
        Ok(())
    }

    /// 20008: the session is to end after the reply, which takes its user offline.
    ///
    /// # Errors
    ///
    /// The refusal; then the session goes on.
    pub fn logout(&self, uid: Uid, request: &ReqLogout) -> Result<Reply, Reply> {
        match check_uid(uid, request.uid) {
            Ok(()) => Ok(Reply::logout()),
            Err(error) => Err(self.refuse(Reply::logout(), error)),
        }
    }
}

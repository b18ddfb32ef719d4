//! Where users are logged in: which session receives the notifies of each user, and whether the user counts as online.
//!
//! Serves the services, which ask a [`SessionDirectory`] and see a connection only as a [`SessionHandle`], so that they
//! know neither sockets nor frames. [`LocalDirectory`] holds the sessions of one process. A directory that several
//! processes share can take its place: what has to be agreed on with the others is async, and what happens for every
//! message or ping returns at once and is passed on in the background.
//!
//! Invariants: a user has at most one session that is notified; a session that was displaced can't remove or replace
//! its successor; a closed session never enters.

mod local;

pub use local::LocalDirectory;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;

use crate::id::Uid;
use crate::store::{Entry, InboxState};

/// Identifies a session; never used for another session during the life of an `imd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A client's session, as far as services and directories need it. None of its methods waits.
pub trait SessionHandle: fmt::Debug + Send + Sync {
    /// Returns the id that tells this session from all others.
    fn id(&self) -> SessionId;

    /// Returns the user who is logged in on this session, if any.
    fn uid(&self) -> Option<Uid>;

    /// Returns whether the session has not been closed.
    fn is_open(&self) -> bool;

    /// Binds the user who has just entered `directory` with this session, and has the session leave the directory when
    /// it is closed; at once, if it is closed already.
    fn log_in(&self, uid: Uid, directory: &Arc<dyn SessionDirectory>);

    /// Tells the client that its inbox holds something newer than what its user has read.
    ///
    /// A notify that was not written yet absorbs this one. Returns whether that happened.
    fn notify(&self, inbox: &InboxState) -> bool;

    /// Pushes a new entry of the user's inbox to the client, and returns whether that is done. It is not if a page has brought
    /// the entry already, if too much waits to be written, or if the session is no longer served; nor by a session that can't
    /// push. The client learns of the entry by a [`notify`](Self::notify) in any case.
    fn push(&self, _entry: &Entry) -> bool {
        false
    }

    /// Closes the session because its user has logged in on another one. The client is told so.
    fn displace(&self);

    /// Resolves when no request of the session is served any more: it is closed, or half-open, so that nothing which is
    /// written to it arrives.
    ///
    /// Only the task that serves the session may poll this: no other task is woken.
    fn poll_unserved(&self, cx: &Context<'_>) -> Poll<()>;

    /// Resolves when no injected delay needs to be waited for any more: when the session is
    /// [no longer served](Self::poll_unserved), or its peer has closed the writing side of the connection.
    ///
    /// Only the task that serves the session may poll this: no other task is woken.
    fn poll_abandoned(&self, cx: &Context<'_>) -> Poll<()>;
}

/// The outcome of [`SessionDirectory::enter`].
#[derive(Debug)]
pub enum Entered {
    /// The session receives the user's notifies. An older session of the user, if there is one, stays open without them.
    Accepted,
    /// The session receives the user's notifies in place of this older one, which the caller has to
    /// [displace](SessionHandle::displace).
    Displaces(Arc<dyn SessionHandle>),
    /// Another session of the user stays, so this login has to be refused. Nothing has changed.
    Refused,
    /// The session was closed before it could enter. Nothing has changed.
    Closed,
}

/// A user who has a session.
#[derive(Debug)]
pub struct Present {
    /// The session that receives the user's notifies.
    pub session: Arc<dyn SessionHandle>,
    /// How long the user still counts as online without another ping; zero for a user who has not pinged in time.
    pub expires_in: Duration,
}

/// Maps each user who is logged in to the session that receives their notifies.
#[async_trait]
pub trait SessionDirectory: fmt::Debug + Send + Sync {
    /// Makes `session` the one that is notified for `uid`, from the login until it [leaves](Self::leave).
    ///
    /// What happens to an older session of the same user is up to `session.second_login` of the config. If the future
    /// is dropped before it resolves, the session may have entered; the entry then lasts until the session leaves or
    /// another one replaces it.
    async fn enter(&self, uid: Uid, session: &Arc<dyn SessionHandle>) -> Entered;

    /// Removes the user's entry, if it is that of `session`: a session that was displaced can't remove its successor.
    fn leave(&self, uid: Uid, session: SessionId);

    /// Counts the user as online anew, from this moment.
    ///
    /// If the user's entry is gone, because a newer session that had taken the notifies over without closing this one
    /// (`second_login = "demote"`) has left, this session takes its place.
    fn renew(&self, uid: Uid, session: &Arc<dyn SessionHandle>);

    /// Returns whether the user counts as online: logged in, and heard of in time. A directory that several processes
    /// share answers what this process was told last.
    fn is_online(&self, uid: Uid) -> bool;

    /// Returns the session that receives the user's notifies.
    async fn look_up(&self, uid: Uid) -> Option<Present>;

    /// Returns the users above uid `after` who have a session, in no order.
    async fn users(&self, after: Uid) -> Vec<Uid>;

    /// Pushes a new entry of the user's inbox to the session that receives the user's notifies, if there is one and it
    /// [can take it](SessionHandle::push). The caller notifies the user as well.
    fn push(&self, uid: Uid, entry: &Entry);

    /// Notifies the users of these inboxes. A user without a session learns at the next login what has been stored
    /// meanwhile.
    fn notify(&self, grown_inboxes: &[InboxState]);
}

//! Implements [`SessionHandle`], the view of a session that services and directories have.
//!
//! Serves the services, which log users in, and the directory, which notifies and displaces sessions. A session that has
//! logged in leaves the directory when it is closed, whatever closes it.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::{CloseReason, Session};
use crate::directory::{SessionDirectory, SessionHandle, SessionId};
use crate::id::Uid;
use crate::store::{Entry, InboxState};

impl SessionHandle for Session {
    fn id(&self) -> SessionId {
        self.id
    }

    fn uid(&self) -> Option<Uid> {
        Session::uid(self)
    }

    fn is_open(&self) -> bool {
        self.close_reason().is_none()
    }

    fn log_in(&self, uid: Uid, directory: &Arc<dyn SessionDirectory>) {
        Session::log_in(self, uid);
        let directory = Arc::clone(directory);
        // It is `uid` that leaves: the callback holds no copy, since every session would pay for it.
        self.on_close(move |session| {
            if let Some(uid) = session.uid() {
                directory.leave(uid, session.id());
            }
        });
    }

    fn notify(&self, inbox: &InboxState) -> bool {
        Session::notify(self, inbox.read, inbox.total)
    }

    fn push(&self, entry: &Entry) -> bool {
        Session::push(self, entry)
    }

    fn displace(&self) {
        self.close(CloseReason::LoggedInElsewhere);
    }

    // Both call the inherent methods of the same name.
    fn poll_unserved(&self, cx: &Context<'_>) -> Poll<()> {
        Session::poll_unserved(self, cx)
    }

    fn poll_abandoned(&self, cx: &Context<'_>) -> Poll<()> {
        Session::poll_abandoned(self, cx)
    }
}

use std::sync::Arc;

use super::Services;
use super::message::check_uid;
use crate::id::Uid;
use crate::proto::{Reply, ReqPing};
use crate::session::Session;

impl Services {
    /// 20002: the user is still there.
    pub fn ping(&self, session: &Arc<Session>, uid: Uid, request: &ReqPing) -> Reply {
        match check_uid(uid, request.uid) {
            Ok(()) => {
                self.presence.renew(uid, session);
                Reply::ping()
            }
            Err(error) => self.refuse(Reply::ping(), error),
        }
    }
}

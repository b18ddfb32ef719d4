use super::message::check_uid;
use super::{Refusal, Services};
use crate::proto::{Reply, ReqPing};

impl Services {
    /// 20002: the user is still there.
    pub fn ping(&self, uid: i64, request: &ReqPing) -> Reply {
        match check_uid(uid, request.uid) {
            Ok(()) => {
                self.presence.renew(uid);
                Reply::ping()
            }
            Err(error) => Refusal::from(error).into_reply(Reply::ping()),
        }
    }
}

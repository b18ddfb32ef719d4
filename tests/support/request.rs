//! Short forms of the requests in the wire contract.
//!
//! They leave out the session's own uid, which the server then takes from the login. A test that needs it sets the
//! field: `ReqSyncMsg { uid: 2, ..sync(0, 0) }`.

use imd::Imd;
use imd::proto::{
    ReqAcceptP2pMsgAck, ReqLogin, ReqPing, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg,
};

/// Returns a login with the token that this stack accepts.
pub fn login(imd: &Imd, uid: i64) -> ReqLogin {
    login_with_token(uid, &imd.token(uid))
}

/// Returns a login with any token, valid or not.
pub fn login_with_token(uid: i64, token: &str) -> ReqLogin {
    ReqLogin {
        cmd: 20001,
        uid,
        token: token.into(),
        ..Default::default()
    }
}

pub fn ping() -> ReqPing {
    ReqPing {
        cmd: 20002,
        ..Default::default()
    }
}

pub fn p2p(target_uid: i64, id: &str, msg: &str) -> ReqSendP2pMsg {
    ReqSendP2pMsg {
        cmd: 20003,
        target_uid,
        msg_id: id.into(),
        msg: msg.into(),
        ..Default::default()
    }
}

pub fn ack(source_uid: i64, id: &str) -> ReqAcceptP2pMsgAck {
    ReqAcceptP2pMsgAck {
        cmd: 20004,
        source_uid,
        msg_id: id.into(),
        ..Default::default()
    }
}

pub fn group_msg(group_id: i64, id: &str, msg: &str) -> ReqSendGroupMsg {
    ReqSendGroupMsg {
        cmd: 20005,
        group_id,
        msg_id: id.into(),
        msg: msg.into(),
        ..Default::default()
    }
}

pub fn sync(current_id: i64, limit: u32) -> ReqSyncMsg {
    ReqSyncMsg {
        cmd: 20006,
        current_id,
        limit,
        ..Default::default()
    }
}

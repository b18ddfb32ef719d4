//! The requests of a load generator, as messages and as frames.
//!
//! Serves `imd bench` and `examples/side_by_side`. The arguments are what differs between requests; everything else has the
//! value that clients of the original send.

use bytes::BytesMut;

use crate::codec::{self, FrameTooLong};
use crate::proto::{
    Cmd, Payload, ReqAccessServer, ReqLogin, ReqPing, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg,
};

/// Returns the request that asks the gateway for an access server.
pub fn access_server() -> ReqAccessServer {
    ReqAccessServer {
        cmd: Cmd::ReqAccessServer.number(),
        ..Default::default()
    }
}

/// Returns the request that logs a user in.
pub fn login(uid: i64, token: String) -> ReqLogin {
    ReqLogin {
        cmd: Cmd::Login.number(),
        uid,
        token,
        ..Default::default()
    }
}

/// Returns the request that renews a user's presence.
pub fn ping(uid: i64) -> ReqPing {
    ReqPing {
        cmd: Cmd::Ping.number(),
        uid,
        ..Default::default()
    }
}

/// Returns the request for the page of an inbox after version `after`.
pub fn sync(uid: i64, after: i64) -> ReqSyncMsg {
    ReqSyncMsg {
        cmd: Cmd::SyncMsg.number(),
        uid,
        current_id: after,
        ..Default::default()
    }
}

/// Returns the request that sends a message to one user.
pub fn p2p(source_uid: i64, target_uid: i64, msg_id: &str, msg: &str) -> ReqSendP2pMsg {
    ReqSendP2pMsg {
        cmd: Cmd::SendP2PMsg.number(),
        source_uid,
        target_uid,
        msg_id: msg_id.into(),
        msg: msg.into(),
        ..Default::default()
    }
}

/// Returns the request that sends a message to all members of a group.
pub fn group(source_uid: i64, group_id: i64, msg_id: &str, msg: &str) -> ReqSendGroupMsg {
    ReqSendGroupMsg {
        cmd: Cmd::SendGroupMsg.number(),
        source_uid,
        group_id,
        msg_id: msg_id.into(),
        msg: msg.into(),
        ..Default::default()
    }
}

/// Encodes a request as a frame.
///
/// # Errors
///
/// When the request is too long for a frame.
pub fn frame(request: &impl Payload) -> Result<BytesMut, FrameTooLong> {
    let mut frame = BytesMut::new();
    codec::encode(request, &mut frame)?;
    Ok(frame)
}

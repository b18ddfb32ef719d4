//! The requests of a load generator, as messages and as frames.
//!
//! Serves `imd bench` and `examples/side_by_side`. The arguments are what differs between requests; everything else has the
//! value that clients of the stack send.

use std::io;

use bytes::BytesMut;

use crate::codec::{self, FrameTooLong};
use crate::proto::{
    Cmd, Payload, ReqAccessServer, ReqLogin, ReqPing, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg,
};

/// Asks the gateway for an access server.
pub fn access_server() -> ReqAccessServer {
    ReqAccessServer {
        cmd: Cmd::ReqAccessServer.number(),
        ..Default::default()
    }
}

/// Logs a user in.
pub fn login(uid: i64, token: String) -> ReqLogin {
    ReqLogin {
        cmd: Cmd::Login.number(),
        uid,
        token,
        ..Default::default()
    }
}

/// Says that a user is still there.
pub fn ping(uid: i64) -> ReqPing {
    ReqPing {
        cmd: Cmd::Ping.number(),
        uid,
        ..Default::default()
    }
}

/// Asks for the page of an inbox after the version `after`.
pub fn sync(uid: i64, after: i64) -> ReqSyncMsg {
    ReqSyncMsg {
        cmd: Cmd::SyncMsg.number(),
        uid,
        current_id: after,
        ..Default::default()
    }
}

/// Sends a message to one user.
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

/// Sends a message to all members of a group.
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

/// A frame that is sent many times, each time with another message id: nothing is encoded anew.
#[derive(Debug)]
pub struct Template {
    before: BytesMut,
    after: BytesMut,
}

impl Template {
    /// Makes a template of a frame that holds `id` in the place of the message id.
    ///
    /// # Errors
    ///
    /// When the frame does not hold `id`.
    pub fn new(frame: &[u8], id: &[u8]) -> io::Result<Template> {
        let found = frame.windows(id.len()).position(|window| window == id);
        let parts = found.and_then(|at| frame.split_at_checked(at));
        let (before, rest) = parts.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Template {
            before: before.into(),
            after: rest.get(id.len()..).unwrap_or_default().into(),
        })
    }

    /// Appends the frame with another id of the same length.
    pub fn put(&self, id: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(&self.before);
        out.extend_from_slice(id);
        out.extend_from_slice(&self.after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_writes_the_frame_with_another_id() {
        let template = frame(&p2p(1, 2, "0000", "hello")).unwrap();
        let template = Template::new(&template, b"0000").unwrap();
        let mut out = BytesMut::new();
        template.put(b"1234", &mut out);
        assert_eq!(out, frame(&p2p(1, 2, "1234", "hello")).unwrap());
        assert!(Template::new(b"a frame", b"0000").is_err());
    }
}

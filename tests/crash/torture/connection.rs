//! A pipelined connection to an access server that may be killed at any moment.
//!
//! Serves the senders and the readers of inboxes. It is built on the client of the other suites,
//! [`support::Wire`](crate::support::Wire), and differs from it in two ways: requests are queued and sent together, without
//! a wait for the answers, and the end of the connection is a result ([`SessionEnd`]) and not a failure of the test,
//! because the server is killed on purpose.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use imd::codec;
use imd::proto::{
    Base, Cmd, Error, Payload, ReqAcceptP2pMsgAck, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg,
    ResNotify, ResSyncMsg,
};
use md5::{Digest, Md5};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::event::{Entry, Event, Page};
use super::message_key::{EntryKind, MessageKey};
use crate::support::{self, Wire};

/// How long a running server may take to answer, at most. Only a failing run waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a client stops using its connection.
#[derive(Debug)]
pub enum SessionEnd {
    /// The connection is closed, as it is when the server was killed.
    Closed,
    /// The server has refused a request that it should have accepted, or has said why it closes the connection.
    Refused { request: String, code: u32 },
    /// The server has sent a frame that it must not send, or has not answered in time.
    Unexpected(String),
}

impl SessionEnd {
    /// Returns what the checker must know. A closed connection is no event, because servers are killed on purpose.
    pub fn event(self) -> Option<Event> {
        match self {
            SessionEnd::Closed => None,
            SessionEnd::Refused { request, code } => Some(Event::Refused { request, code }),
            SessionEnd::Unexpected(found) => Some(Event::UnexpectedReply { found }),
        }
    }
}

impl From<std::io::Error> for SessionEnd {
    fn from(_: std::io::Error) -> Self {
        SessionEnd::Closed
    }
}

/// A connection to an access server, with the requests that are queued for it.
pub struct PipelinedConnection {
    wire: Wire,
    /// Frames that the next [`flush`](Self::flush) sends together.
    queued: BytesMut,
}

impl PipelinedConnection {
    /// Connects to an access server.
    pub async fn connect(addr: SocketAddr) -> Result<Self, SessionEnd> {
        Ok(PipelinedConnection {
            wire: Wire::over(TcpStream::connect(addr).await?).await,
            queued: BytesMut::new(),
        })
    }

    /// Queues a request.
    fn queue(&mut self, message: &impl Payload) {
        codec::encode(message, &mut self.queued).expect("every request of the load fits a frame");
    }

    /// Sends all queued requests in one write.
    pub async fn flush(&mut self) -> Result<(), SessionEnd> {
        let bytes = self.queued.split();
        Ok(self.wire.out.write_all(&bytes).await?)
    }

    /// Waits for the next frame, and returns it with its command: `None` if the contract has no such command.
    pub async fn frame(&mut self) -> Result<(Option<Cmd>, Bytes), SessionEnd> {
        let next = tokio::time::timeout(PATIENCE, self.wire.frames.next()).await;
        let overdue = |_| SessionEnd::Unexpected(format!("no frame within {PATIENCE:?}"));
        let frame = next.map_err(overdue)?;
        let frame = frame.and_then(Result::ok).ok_or(SessionEnd::Closed)?;
        let base: Base = decode(frame.clone())?;
        Ok((Cmd::from_number(base.cmd), frame))
    }

    /// Logs in, with the salted token if there is no other one. Returns the code of the answer.
    pub async fn login(&mut self, uid: i64, token: Option<&str>) -> Result<u32, SessionEnd> {
        let token = token.map_or_else(|| salted_token(uid), str::to_owned);
        self.queue(&support::login_with_token(uid, &token));
        self.flush().await?;
        let (cmd, frame) = self.frame().await?;
        match cmd {
            Some(Cmd::Login) => Ok(decode::<Error>(frame)?.err_code),
            _ => Err(unexpected(&frame)),
        }
    }

    /// Queues the request that sends the message or the ack with this key.
    pub fn queue_send(&mut self, key: &MessageKey, text: &str) {
        let MessageKey {
            kind,
            source,
            scope,
            ref msg_id,
        } = *key;
        match kind {
            EntryKind::P2p => self.queue(&ReqSendP2pMsg {
                source_uid: source,
                ..support::p2p(scope, msg_id, text)
            }),
            EntryKind::Group => self.queue(&ReqSendGroupMsg {
                source_uid: source,
                ..support::group_msg(scope, msg_id, text)
            }),
            // An ack names the sender of the message first, who is the receiver of the ack.
            EntryKind::Ack => self.queue(&ReqAcceptP2pMsgAck {
                target_uid: source,
                ..support::ack(scope, msg_id)
            }),
        }
    }

    /// Queues a sync of the inbox of `uid` from the version behind `after`.
    pub fn queue_sync(&mut self, uid: i64, after: i64, limit: u32) {
        self.queue(&ReqSyncMsg {
            uid,
            ..support::sync(after, limit)
        });
    }
}

/// Decodes a frame that must be a message of this type.
pub fn decode<M: Message + Default>(frame: Bytes) -> Result<M, SessionEnd> {
    M::decode(frame)
        .map_err(|error| SessionEnd::Unexpected(format!("a frame that can't be decoded: {error}")))
}

/// Returns the end of a session whose server has sent a frame that answers no request: `Error` with the reason for a close,
/// or a frame that it must not send.
pub fn unexpected(frame: &Bytes) -> SessionEnd {
    match Error::decode(frame.clone()) {
        Ok(error) if error.cmd == Cmd::ErrServer.number() => SessionEnd::Refused {
            request: format!("the server says: {}", error.err_str),
            code: error.err_code,
        },
        _ => SessionEnd::Unexpected(format!("a frame that answers no request: {frame:02x?}")),
    }
}

/// Returns the currentID and the totalID of a notify.
pub fn decode_notify(frame: Bytes) -> Result<(i64, i64), SessionEnd> {
    let notify: ResNotify = decode(frame)?;
    Ok((notify.current_id, notify.total_id))
}

/// Returns the page that answers a sync of `uid` from the version behind `after`, or the code with which the sync was
/// refused.
pub fn decode_page(uid: i64, after: i64, frame: Bytes) -> Result<Result<Page, u32>, SessionEnd> {
    let reply: ResSyncMsg = decode(frame)?;
    if reply.err_code != 0 {
        return Ok(Err(reply.err_code));
    }
    let entries = reply.msgs.into_iter().map(|entry| Entry {
        version: entry.increment_id,
        msg_type: entry.msg_type,
        source: entry.source_uid,
        target: entry.target_uid,
        group: entry.group_id,
        msg_id: entry.msg_id,
        text: entry.msg,
        sent_at: entry.send_time,
    });
    Ok(Ok(Page {
        uid,
        after,
        entries: entries.collect(),
        current: reply.current_id,
        total: reply.total_id,
    }))
}

/// Returns the login token that existing clients compute: the salted MD5 of the uid.
pub fn salted_token(uid: i64) -> String {
    let digest = Md5::digest(format!("{uid}{}", imd::config::PUBLIC_SALT));
    base16ct::lower::encode_string(&digest)
}

/// Posts a form to the user API or the group API. Returns the code and the data of the answer. An answer that the death of
/// the server has cut off counts as none.
pub async fn post(
    addr: SocketAddr,
    path: &str,
    form: &str,
) -> Result<(u32, serde_json::Value), SessionEnd> {
    let answer = support::http::try_post(addr, path, form).await;
    let (_, mut answer) = answer.ok_or(SessionEnd::Closed)?;
    let code = answer["code"]
        .as_u64()
        .and_then(|code| u32::try_from(code).ok());
    Ok((code.ok_or(SessionEnd::Closed)?, answer["data"].take()))
}

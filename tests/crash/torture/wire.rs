//! A connection that sends many frames at once, and does not wait for the answer to one before it sends the next.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use imd::codec::{self, FrameCodec};
use imd::proto::{
    Base, Cmd, Error, Payload, ReqAcceptP2pMsgAck, ReqLogin, ReqSendGroupMsg, ReqSendP2pMsg,
    ReqSyncMsg, ResNotify, ResSyncMsg,
};
use md5::{Digest, Md5};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::FramedRead;

use super::event::{Entry, Event, Page};
use super::key::{Key, Kind};

/// The longest that a living server may take for an answer. Only ever used up by a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is nothing more to be had from a connection.
#[derive(Debug)]
pub enum Gone {
    /// The server is dead, or has closed it.
    Closed,
    /// The server has said why it closes.
    Told { what: String, code: u32 },
    /// The server lives and does not answer, or says what it must not.
    Strange(String),
}

impl Gone {
    /// What is to be told of it. That a connection ends is no news: the server was killed.
    pub fn event(self) -> Option<Event> {
        match self {
            Gone::Closed => None,
            Gone::Told { what, code } => Some(Event::Refused { what, code }),
            Gone::Strange(what) => Some(Event::Strange { what }),
        }
    }
}

impl From<std::io::Error> for Gone {
    fn from(_: std::io::Error) -> Self {
        Gone::Closed
    }
}

/// A connection to an access server.
pub struct Wire {
    frames: FramedRead<OwnedReadHalf, FrameCodec>,
    out: OwnedWriteHalf,
    /// Frames that are to be sent together.
    unsent: BytesMut,
}

impl Wire {
    pub async fn connect(addr: SocketAddr) -> Result<Wire, Gone> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (read, out) = stream.into_split();
        Ok(Wire {
            frames: FramedRead::new(read, FrameCodec),
            out,
            unsent: BytesMut::new(),
        })
    }

    /// Puts a frame behind those that are to be sent.
    pub fn push(&mut self, message: &impl Payload) {
        codec::encode(message, &mut self.unsent).expect("what is sent here fits a frame");
    }

    /// Sends all that was pushed, in one go.
    pub async fn send(&mut self) -> Result<(), Gone> {
        let bytes = self.unsent.split();
        Ok(self.out.write_all(&bytes).await?)
    }

    /// The next frame, with its command.
    pub async fn frame(&mut self) -> Result<(Option<Cmd>, Bytes), Gone> {
        let next = tokio::time::timeout(PATIENCE, self.frames.next()).await;
        let next = next.map_err(|_| Gone::Strange(format!("no frame within {PATIENCE:?}")))?;
        let frame = next.and_then(Result::ok).ok_or(Gone::Closed)?;
        let base = Base::decode(frame.clone()).map_err(strange)?;
        Ok((Cmd::from_number(base.cmd), frame))
    }

    /// Logs in; answers the code.
    pub async fn login(&mut self, uid: i64, token: Option<&str>) -> Result<u32, Gone> {
        self.push(&ReqLogin {
            cmd: Cmd::Login.number(),
            uid,
            token: token.map_or_else(|| salted(uid), str::to_owned),
            ..Default::default()
        });
        self.send().await?;
        let (cmd, frame) = self.frame().await?;
        match cmd {
            Some(Cmd::Login) => Ok(decode::<Error>(frame)?.err_code),
            _ => Err(unexpected(&frame)),
        }
    }

    /// Pushes what stores `key`, with this text.
    pub fn push_send(&mut self, key: &Key, text: String) {
        let msg_id = key.msg_id.clone();
        match key.kind {
            Kind::P2p => self.push(&ReqSendP2pMsg {
                cmd: Cmd::SendP2PMsg.number(),
                source_uid: key.source,
                target_uid: key.scope,
                msg_id,
                msg: text,
                ..Default::default()
            }),
            Kind::Group => self.push(&ReqSendGroupMsg {
                cmd: Cmd::SendGroupMsg.number(),
                source_uid: key.source,
                group_id: key.scope,
                msg_id,
                msg: text,
                ..Default::default()
            }),
            Kind::Ack => self.push(&ReqAcceptP2pMsgAck {
                cmd: Cmd::AcceptP2PMsgAck.number(),
                source_uid: key.scope,
                target_uid: key.source,
                msg_id,
                ..Default::default()
            }),
        }
    }

    /// Pushes a sync.
    pub fn push_sync(&mut self, uid: i64, after: i64, limit: u32) {
        self.push(&ReqSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            uid,
            current_id: after,
            limit,
            ..Default::default()
        });
    }
}

pub fn decode<M: Message + Default>(frame: Bytes) -> Result<M, Gone> {
    M::decode(frame).map_err(strange)
}

fn strange(error: prost::DecodeError) -> Gone {
    Gone::Strange(format!("a frame that can't be decoded: {error}"))
}

/// A frame that answers nothing: the server's last word, or worse.
pub fn unexpected(frame: &Bytes) -> Gone {
    match Error::decode(frame.clone()) {
        Ok(error) if error.cmd == Cmd::ErrServer.number() => Gone::Told {
            what: format!("the server says: {}", error.err_str),
            code: error.err_code,
        },
        _ => Gone::Strange(format!("a frame that answers nothing: {frame:02x?}")),
    }
}

/// (currentID, totalID)
pub fn level(frame: Bytes) -> Result<(i64, i64), Gone> {
    let notify: ResNotify = decode(frame)?;
    Ok((notify.current_id, notify.total_id))
}

/// The page that answers a sync of `uid` from `after`; its code when it was refused.
pub fn page(uid: i64, after: i64, frame: Bytes) -> Result<Result<Page, u32>, Gone> {
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

/// The token that existing clients compute.
pub fn salted(uid: i64) -> String {
    let digest = Md5::digest(format!("{uid}{}", imd::config::PUBLIC_SALT));
    base16ct::lower::encode_string(&digest)
}

/// A form-encoded POST: the answer's code and data.
pub async fn post(
    addr: SocketAddr,
    path: &str,
    form: &str,
) -> Result<(u32, serde_json::Value), Gone> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    // One that was cut off by the server's death is none.
    let answer = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    let answer: Option<serde_json::Value> = answer.and_then(|body| serde_json::from_str(body).ok());
    let mut answer = answer.ok_or(Gone::Closed)?;
    let code = answer["code"]
        .as_u64()
        .and_then(|code| u32::try_from(code).ok());
    Ok((code.ok_or(Gone::Closed)?, answer["data"].take()))
}

//! An async client. It uses the wire contract alone, so that it also works against the stack itself.

mod error;
mod page;

pub use error::ClientError;
pub use page::{Message, MessageKind, Page};

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use tokio::net::{TcpStream, ToSocketAddrs};

use tokio_util::codec::Framed;

use crate::codec::FrameCodec;
use crate::proto::{
    Base, Cmd, Code, Error, Payload, ReqAcceptP2pMsgAck, ReqAccessServer, ReqLogin, ReqLogout,
    ReqPing, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg, ResAcceptP2pMsgAck, ResLogout, ResNotify,
    ResSelectAccessServerForClient, ResSendGroupMsg, ResSendP2pMsg, ResSyncMsg,
};
use page::Seen;

/// How long a connect and an answer may take, unless [`Client::set_timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many events that nobody asked for are kept; notifies are merged into one.
const MAX_EVENTS: usize = 1024;

/// A connection to an access server.
///
/// One request at a time: each method sends and waits for its answer. What the server pushes meanwhile is kept for
/// [`next_event`](Client::next_event).
#[derive(Debug)]
pub struct Client {
    frames: Framed<TcpStream, FrameCodec>,
    peer: SocketAddr,
    /// Who is logged in; 0 before. The original wants it in every request.
    uid: i64,
    timeout: Duration,
    events: VecDeque<Event>,
    seen: Seen,
}

/// What the server says on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// There is something newer than version `current`, up to version `total` (0 when the server does not say).
    Notify {
        /// How far this reader is.
        current: i64,
        /// The newest version.
        total: i64,
    },
    /// A message that came by itself, as the original server may send it.
    Message(Message),
}

/// A message that the server has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id: send it again under the same one, and it is stored only once.
    pub msg_id: String,
}

/// Asks a gateway for the address of an access server.
///
/// # Errors
///
/// [`ClientError::Refused`] with code 92001 when it knows none; otherwise when the gateway can't be reached or does not
/// answer.
pub async fn ask_gateway(gateway: impl ToSocketAddrs) -> Result<String, ClientError> {
    let (mut frames, _) = open(gateway, TIMEOUT).await?;
    let request = ReqAccessServer {
        cmd: Cmd::ReqAccessServer.number(),
        ..Default::default()
    };
    let answer = async {
        frames.send(&request).await?;
        let frame = frames.next().await.ok_or(ClientError::Closed)??;
        if Base::decode(frame.clone())?.cmd != Cmd::ReqAccessServer.number() {
            return Err(told(&frame)?);
        }
        let reply = ResSelectAccessServerForClient::decode(frame)?;
        check(reply.err_code, reply.err_str)?;
        Ok(reply.addr)
    };
    tokio::time::timeout(TIMEOUT, answer)
        .await
        .map_err(|_| ClientError::Timeout)?
}

impl Client {
    /// Asks the gateway for an access server, and connects to that.
    ///
    /// # Errors
    ///
    /// As [`ask_gateway`], and when the access server can't be reached.
    pub async fn connect(gateway: impl ToSocketAddrs) -> Result<Client, ClientError> {
        Client::connect_to(ask_gateway(gateway).await?).await
    }

    /// Connects to an access server.
    ///
    /// # Errors
    ///
    /// When it can't be reached.
    pub async fn connect_to(access: impl ToSocketAddrs) -> Result<Client, ClientError> {
        let (frames, peer) = open(access, TIMEOUT).await?;
        let (events, seen) = (VecDeque::new(), Seen::default());
        Ok(Client {
            frames,
            peer,
            uid: 0,
            timeout: TIMEOUT,
            events,
            seen,
        })
    }

    /// The access server's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// How long an answer may take from now on. Past it, the connection is of no more use: a late answer would be taken
    /// for the next one's.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// 20001: logs `uid` in.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`], and when the connection fails.
    pub async fn login(&mut self, uid: i64, token: &str) -> Result<(), ClientError> {
        let request = ReqLogin {
            cmd: Cmd::Login.number(),
            uid,
            token: token.to_owned(),
            ..Default::default()
        };
        let reply: Error = self.request(Cmd::Login, &request).await?;
        check(reply.err_code, reply.err_str)?;
        self.uid = uid;
        Ok(())
    }

    /// 20002: renews the user's presence.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`], and when the connection fails.
    pub async fn ping(&mut self) -> Result<(), ClientError> {
        let request = ReqPing {
            cmd: Cmd::Ping.number(),
            uid: self.uid,
            ..Default::default()
        };
        let reply: Error = self.request(Cmd::Ping, &request).await?;
        check(reply.err_code, reply.err_str)
    }

    /// 20003: sends a message to a user, under a new id. When this returns, it is stored.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`], and when the connection fails: then it is not known whether it was stored.
    pub async fn send_p2p(&mut self, to: i64, text: &str) -> Result<Sent, ClientError> {
        self.send_p2p_as(to, &new_msg_id(), text).await
    }

    /// 20003 under an id of the caller's: what to use for sending again what may or may not have been stored.
    ///
    /// # Errors
    ///
    /// As [`send_p2p`](Self::send_p2p).
    pub async fn send_p2p_as(
        &mut self,
        to: i64,
        msg_id: &str,
        text: &str,
    ) -> Result<Sent, ClientError> {
        let request = ReqSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            source_uid: self.uid,
            target_uid: to,
            msg_id: msg_id.to_owned(),
            msg: text.to_owned(),
            ..Default::default()
        };
        let reply: ResSendP2pMsg = self.request(Cmd::SendP2PMsg, &request).await?;
        check(reply.err_code, reply.err_str)?;
        Ok(Sent {
            msg_id: stored_id(reply.msg_id, msg_id),
        })
    }

    /// 20005: sends a message to every member of a group, under a new id. When this returns, it is stored.
    ///
    /// # Errors
    ///
    /// As [`send_p2p`](Self::send_p2p).
    pub async fn send_group(&mut self, group: i64, text: &str) -> Result<Sent, ClientError> {
        self.send_group_as(group, &new_msg_id(), text).await
    }

    /// 20005 under an id of the caller's.
    ///
    /// # Errors
    ///
    /// As [`send_p2p`](Self::send_p2p).
    pub async fn send_group_as(
        &mut self,
        group: i64,
        msg_id: &str,
        text: &str,
    ) -> Result<Sent, ClientError> {
        let request = ReqSendGroupMsg {
            cmd: Cmd::SendGroupMsg.number(),
            source_uid: self.uid,
            group_id: group,
            msg_id: msg_id.to_owned(),
            msg: text.to_owned(),
            ..Default::default()
        };
        let reply: ResSendGroupMsg = self.request(Cmd::SendGroupMsg, &request).await?;
        check(reply.err_code, reply.err_str)?;
        Ok(Sent {
            msg_id: stored_id(reply.msg_id, msg_id),
        })
    }

    /// 20004: accepts a message, which its sender then finds in their inbox.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`], and when the connection fails.
    pub async fn accept(&mut self, source: i64, msg_id: &str) -> Result<(), ClientError> {
        let request = ReqAcceptP2pMsgAck {
            cmd: Cmd::AcceptP2PMsgAck.number(),
            source_uid: source,
            target_uid: self.uid,
            msg_id: msg_id.to_owned(),
            ..Default::default()
        };
        let reply: ResAcceptP2pMsgAck = self.request(Cmd::AcceptP2PMsgAck, &request).await?;
        check(reply.err_code, reply.err_str)
    }

    /// 20006: the messages after version `after`; at most `limit`, or as many as fit when that is 0.
    ///
    /// Also tells the server that this user has read up to `after`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`], and when the connection fails.
    pub async fn sync(&mut self, after: i64, limit: u32) -> Result<Page, ClientError> {
        let request = ReqSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            uid: self.uid,
            current_id: after,
            limit,
            ..Default::default()
        };
        let reply: ResSyncMsg = self.request(Cmd::SyncMsg, &request).await?;
        check(reply.err_code, reply.err_str.clone())?;
        Ok(self.seen.page(after, reply))
    }

    /// 20008: ends the login and the connection.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`], and when the connection fails.
    pub async fn logout(mut self) -> Result<(), ClientError> {
        let request = ReqLogout {
            cmd: Cmd::Logout.number(),
            uid: self.uid,
            ..Default::default()
        };
        let reply: ResLogout = self.request(Cmd::Logout, &request).await?;
        check(reply.err_code, reply.err_str)
    }

    /// Waits for what the server says on its own. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when the server says why it closes, [`ClientError::Closed`] when it just does.
    pub async fn next_event(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let frame = self.frames.next().await.ok_or(ClientError::Closed)??;
            self.push(frame)?;
        }
    }

    async fn request<R: prost::Message + Default>(
        &mut self,
        cmd: Cmd,
        request: &impl Payload,
    ) -> Result<R, ClientError> {
        let timeout = self.timeout;
        let exchange = async {
            self.frames.send(request).await?;
            loop {
                let frame = self.frames.next().await.ok_or(ClientError::Closed)??;
                if Base::decode(frame.clone())?.cmd == cmd.number() && !is_incoming(cmd, &frame) {
                    return Ok(R::decode(frame)?);
                }
                self.push(frame)?;
            }
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .map_err(|_| ClientError::Timeout)?
    }

    /// Takes a frame that is no answer.
    fn push(&mut self, frame: Bytes) -> Result<(), ClientError> {
        match Cmd::from_number(Base::decode(frame.clone())?.cmd) {
            Some(Cmd::Notify) => {
                let notify = ResNotify::decode(frame)?;
                let (current, total) = (notify.current_id, notify.total_id);
                self.events
                    .retain(|event| !matches!(event, Event::Notify { .. }));
                self.events.push_back(Event::Notify { current, total });
            }
            Some(Cmd::SendP2PMsg) => {
                let message = ResSendP2pMsg::decode(frame)?;
                if self.events.len() < MAX_EVENTS {
                    self.events.push_back(Event::Message(message.into()));
                }
            }
            Some(Cmd::ErrServer) => return Err(told(&frame)?),
            // An answer to nothing: of a server that says more than this client knows.
            _ => {}
        }
        Ok(())
    }
}

async fn open(
    addr: impl ToSocketAddrs,
    timeout: Duration,
) -> Result<(Framed<TcpStream, FrameCodec>, SocketAddr), ClientError> {
    let connect = TcpStream::connect(addr);
    let stream = tokio::time::timeout(timeout, connect)
        .await
        .map_err(|_| ClientError::Timeout)??;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    Ok((Framed::new(stream, FrameCodec), peer))
}

/// The original sends messages to their receivers as 20003 frames with a text, which replies never have.
fn is_incoming(cmd: Cmd, frame: &Bytes) -> bool {
    cmd == Cmd::SendP2PMsg
        && ResSendP2pMsg::decode(frame.clone()).is_ok_and(|message| !message.msg.is_empty())
}

fn check(code: u32, text: String) -> Result<(), ClientError> {
    if code == Code::Ok.number() {
        Ok(())
    } else {
        Err(ClientError::Refused { code, text })
    }
}

/// What the server says about a frame, or before it closes.
fn told(frame: &Bytes) -> Result<ClientError, ClientError> {
    let error = Error::decode(frame.clone())?;
    Ok(ClientError::Refused {
        code: error.err_code,
        text: error.err_str,
    })
}

/// The original's replies carry no ids.
fn stored_id(replied: String, sent: &str) -> String {
    if replied.is_empty() {
        sent.to_owned()
    } else {
        replied
    }
}

/// An id that no other message of this or another client has.
pub fn new_msg_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

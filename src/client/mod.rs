//! An async client of the wire contract.
//!
//! Serves tests, and the commands of `imd` that act as a user. Uses only the codec, the messages and the TLS of `imd`, so it
//! works against the distributed stack too. It knows the differences between the two: replies without ids, pages
//! without versions, and messages that are pushed instead of notified.

mod address;
mod connector;
mod error;
mod frames;
mod page;

pub use address::{Address, Endpoint};
pub use connector::Connector;
pub use error::ClientError;
pub use page::{Message, MessageKind, Page};

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::id::{GroupId, MsgId, Uid, Version};
use crate::proto::{
    Base, Cmd, Code, Error, Payload, ReqAcceptP2pMsgAck, ReqLogin, ReqLogout, ReqPing,
    ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg, ResAcceptP2pMsgAck, ResLogout, ResNotify,
    ResSendGroupMsg, ResSendP2pMsg, ResSyncMsg,
};
use bytes::Bytes;
use frames::Frames;
use page::Seen;
use prost::Message as _;

/// How many pushed messages are kept for [`Client::next_event`]. Pending notifies are merged into one.
const MAX_EVENTS: usize = 1024;

/// A connection to an access server.
///
/// It has one request in progress at a time: each method sends a request and waits for its reply. Notifies and messages
/// that the server pushes meanwhile are kept for [`next_event`](Client::next_event).
#[derive(Debug)]
pub struct Client {
    frames: Frames,
    peer: SocketAddr,
    /// The user who is logged in; `None` before the login. The original stack requires it in every request.
    uid: Option<Uid>,
    timeout: Duration,
    events: VecDeque<Event>,
    seen: Seen,
}

/// A frame that the server pushes without a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The inbox has messages newer than version `current`, up to version `total`.
    Notify {
        /// The version up to which this user has read.
        current: i64,
        /// The newest version; 0 if the server does not say it.
        total: i64,
    },
    /// A message that the server has pushed. A server with `[delivery] push = true` notifies of it as well, and the page that
    /// is synced next brings it again: with its version, which is 0 here. Both have the same source and id.
    Message(Message),
}

/// A message that the server has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The id of the message. A message that is sent again under the same id is stored only once.
    pub msg_id: String,
}

/// Asks a gateway for the address of an access server: `host:port`, or a URL if the gateway's address is one too.
///
/// # Errors
///
/// Those of [`Connector::ask_gateway`].
pub async fn ask_gateway(gateway: impl Address) -> Result<String, ClientError> {
    Connector::default().ask_gateway(gateway).await
}

impl Client {
    /// Asks a gateway for an access server, and connects to it: over a WebSocket if the address is a URL such as
    /// `ws://127.0.0.1:10100`, and with TLS if it begins with `tls://` or `wss://`.
    ///
    /// # Errors
    ///
    /// Those of [`Connector::connect`].
    pub async fn connect(gateway: impl Address) -> Result<Client, ClientError> {
        Connector::default().connect(gateway).await
    }

    /// Connects to an access server.
    ///
    /// # Errors
    ///
    /// Those of [`Connector::connect_to`].
    pub async fn connect_to(access: impl Address) -> Result<Client, ClientError> {
        Connector::default().connect_to(access).await
    }

    /// Returns the address of the access server.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Sets how long a reply may take. After a [`ClientError::Timeout`] the client should be dropped: a late reply would be
    /// taken for that of the next request.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Logs a user in (command 20001).
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if the server refuses the token or the user; other errors if the connection fails.
    pub async fn login(&mut self, uid: impl Into<Uid>, token: &str) -> Result<(), ClientError> {
        let uid = uid.into();
        let request = ReqLogin {
            cmd: Cmd::Login.number(),
            uid: uid.0,
            token: token.to_owned(),
            ..Default::default()
        };
        let reply: Error = self.request(Cmd::Login, &request).await?;
        check(reply.err_code, reply.err_str)?;
        self.uid = Some(uid);
        Ok(())
    }

    /// Renews the user's presence (command 20002).
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if the server refuses it; other errors if the connection fails.
    pub async fn ping(&mut self) -> Result<(), ClientError> {
        let request = ReqPing {
            cmd: Cmd::Ping.number(),
            uid: Uid::or_zero(self.uid),
            ..Default::default()
        };
        let reply: Error = self.request(Cmd::Ping, &request).await?;
        check(reply.err_code, reply.err_str)
    }

    /// Sends a message to a user under a new id (command 20003). The message is stored when this returns.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if the message was not stored. After any other error the caller can't know whether it was
    /// stored, and can send it again by [`send_p2p_as`](Self::send_p2p_as) under the same id.
    pub async fn send_p2p(&mut self, to: impl Into<Uid>, text: &str) -> Result<Sent, ClientError> {
        self.send_p2p_as(to, &new_msg_id(), text).await
    }

    /// Sends a message to a user under the caller's id (command 20003). A message that was stored under this id before is
    /// not stored again, so this is the way to repeat a request with an unknown outcome.
    ///
    /// # Errors
    ///
    /// Those of [`send_p2p`](Self::send_p2p).
    pub async fn send_p2p_as(
        &mut self,
        to: impl Into<Uid>,
        msg_id: impl Into<MsgId<'_>>,
        text: &str,
    ) -> Result<Sent, ClientError> {
        let msg_id = msg_id.into().as_str();
        let request = ReqSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            source_uid: Uid::or_zero(self.uid),
            target_uid: to.into().0,
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

    /// Sends a message to every member of a group under a new id (command 20005). The message is stored when this returns.
    ///
    /// # Errors
    ///
    /// Those of [`send_p2p`](Self::send_p2p).
    pub async fn send_group(
        &mut self,
        group: impl Into<GroupId>,
        text: &str,
    ) -> Result<Sent, ClientError> {
        self.send_group_as(group, &new_msg_id(), text).await
    }

    /// Sends a message to every member of a group under the caller's id (command 20005), as
    /// [`send_p2p_as`](Self::send_p2p_as) does to a user.
    ///
    /// # Errors
    ///
    /// Those of [`send_p2p`](Self::send_p2p).
    pub async fn send_group_as(
        &mut self,
        group: impl Into<GroupId>,
        msg_id: impl Into<MsgId<'_>>,
        text: &str,
    ) -> Result<Sent, ClientError> {
        let msg_id = msg_id.into().as_str();
        let request = ReqSendGroupMsg {
            cmd: Cmd::SendGroupMsg.number(),
            source_uid: Uid::or_zero(self.uid),
            group_id: group.into().0,
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

    /// Accepts a message (command 20004). Its sender gets an entry of kind [`MessageKind::Ack`] in their inbox.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if this user never got such a message; other errors if the connection fails.
    pub async fn accept(
        &mut self,
        source: impl Into<Uid>,
        msg_id: impl Into<MsgId<'_>>,
    ) -> Result<(), ClientError> {
        let request = ReqAcceptP2pMsgAck {
            cmd: Cmd::AcceptP2PMsgAck.number(),
            source_uid: source.into().0,
            target_uid: Uid::or_zero(self.uid),
            msg_id: msg_id.into().as_str().to_owned(),
            ..Default::default()
        };
        let reply: ResAcceptP2pMsgAck = self.request(Cmd::AcceptP2PMsgAck, &request).await?;
        check(reply.err_code, reply.err_str)
    }

    /// Returns the messages after version `after` (command 20006): at most `limit`, or as many as fit in a frame if that is 0.
    ///
    /// This also tells the server that the user has read up to `after`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if the server refuses the request; other errors if the connection fails.
    pub async fn sync(
        &mut self,
        after: impl Into<Version>,
        limit: u32,
    ) -> Result<Page, ClientError> {
        let after = after.into();
        let request = ReqSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            uid: Uid::or_zero(self.uid),
            current_id: after.0,
            limit,
            ..Default::default()
        };
        let reply: ResSyncMsg = self.request(Cmd::SyncMsg, &request).await?;
        check(reply.err_code, reply.err_str.clone())?;
        Ok(self.seen.page(after, reply))
    }

    /// Logs the user out and closes the connection (command 20008).
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if the server refuses it; other errors if the connection fails.
    pub async fn logout(mut self) -> Result<(), ClientError> {
        let request = ReqLogout {
            cmd: Cmd::Logout.number(),
            uid: Uid::or_zero(self.uid),
            ..Default::default()
        };
        let reply: ResLogout = self.request(Cmd::Logout, &request).await?;
        check(reply.err_code, reply.err_str)
    }

    /// Waits for the next notify or pushed message. Cancel safe: a dropped call loses no event.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if the server says why it closes the connection, and [`ClientError::Closed`] if it closes it
    /// without a reason.
    pub async fn next_event(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let frame = self.frames.next().await?;
            self.push(frame)?;
        }
    }

    /// Sends a request and waits for its reply, which is the next frame of the same command.
    async fn request<R: prost::Message + Default>(
        &mut self,
        cmd: Cmd,
        request: &impl Payload,
    ) -> Result<R, ClientError> {
        let timeout = self.timeout;
        let exchange = async {
            self.frames.send(request).await?;
            loop {
                let frame = self.frames.next().await?;
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

    /// Queues the event of a frame that is no reply.
    ///
    /// # Errors
    ///
    /// The error that the frame itself is, or that it can't be decoded.
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
            Some(Cmd::ErrServer) => return Err(error_of(&frame)?),
            // A reply that no request waits for, or a command that this client does not know, is ignored.
            _ => {}
        }
        Ok(())
    }
}

/// Returns whether a frame of the command 20003 is a pushed message and not a reply. The original stack pushes messages as
/// such frames with a text, which replies never have.
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

/// Returns the error that a frame `Error` of the server stands for: the refusal of a frame, or the reason of a close.
fn error_of(frame: &Bytes) -> Result<ClientError, ClientError> {
    let error = Error::decode(frame.clone())?;
    Ok(ClientError::Refused {
        code: error.err_code,
        text: error.err_str,
    })
}

/// Returns the id in a reply, or the id of the request: replies of the original stack have none.
fn stored_id(replied: String, sent: &str) -> String {
    if replied.is_empty() {
        sent.to_owned()
    } else {
        replied
    }
}

/// Returns a random message id of 128 bits, which no other message of any client has.
pub fn new_msg_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

//! The replies to clients as messages of the contract.
//!
//! Serves the access servers and the gateway, which reply with them, the sessions and the faults, which refuse a
//! request in the form of its reply, and the journal, which describes recorded ones. Which message replies to which
//! command is defined here. For speed, `access/wire.rs` encodes the common acknowledgements and pages without a [`Reply`];
//! its tests compare the bytes.

use bytes::BytesMut;
use prost::Message;

use super::{
    Cmd, Code, Error, ReqSyncMsg, ResAcceptP2pMsgAck, ResLogin, ResLogout,
    ResSelectAccessServerForClient, ResSendGroupMsg, ResSendP2pMsg, ResSyncMsg,
};

/// The longest msgID that a reply echoes, in bytes: the other fields of the reply have to fit into the same frame.
const MAX_ECHO: usize = u16::MAX as usize - 512;

/// A value that can be encoded into a frame: any message of the contract, a [`Reply`], or a value that is encoded field
/// by field.
pub trait Payload {
    /// Appends the encoded message.
    fn encode_payload(&self, dst: &mut BytesMut);
}

impl<M: Message> Payload for M {
    fn encode_payload(&self, dst: &mut BytesMut) {
        self.encode_raw(dst);
    }
}

/// The reply to one request: each command has its own message.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Answers a login or a ping, as the original does, and a frame whose command is not known.
    Error(Error),
    /// Answers 10001.
    SelectAccess(ResSelectAccessServerForClient),
    /// Answers 20003.
    P2p(ResSendP2pMsg),
    /// Answers 20004.
    Ack(ResAcceptP2pMsgAck),
    /// Answers 20005.
    Group(ResSendGroupMsg),
    /// Answers 20006.
    Sync(ResSyncMsg),
    /// Answers 20008.
    Logout(ResLogout),
    /// Answers a login or a ping as the schema has it, with the quirk `replies_as_schema`.
    Login(ResLogin),
}

impl Reply {
    /// Creates the reply with code 0 to a login.
    pub fn login() -> Reply {
        Reply::error(Cmd::Login, Code::Ok, Code::Ok.text())
    }

    /// Creates the reply with code 0 to a ping.
    pub fn ping() -> Reply {
        Reply::error(Cmd::Ping, Code::Ok, Code::Ok.text())
    }

    /// Creates `Error {90001, code}`, which replies to no command in particular.
    pub fn server(code: Code, text: impl Into<String>) -> Reply {
        Reply::error(Cmd::ErrServer, code, text)
    }

    fn error(cmd: Cmd, code: Code, text: impl Into<String>) -> Reply {
        Reply::Error(Error {
            cmd: cmd.number(),
            err_code: code.number(),
            err_str: text.into(),
        })
    }

    /// Creates the reply with code 0 to 10001, with the address of an access server.
    pub fn select_access(addr: String) -> Reply {
        Reply::SelectAccess(ResSelectAccessServerForClient {
            cmd: Cmd::ReqAccessServer.number(),
            err_str: Code::Ok.text().into(),
            addr,
            ..Default::default()
        })
    }

    /// Adds the URL at which the access server takes WebSocket clients. Other replies stay as they are.
    #[must_use]
    pub fn with_websocket(mut self, url: Option<String>) -> Reply {
        if let Reply::SelectAccess(reply) = &mut self {
            reply.ws_addr = url.unwrap_or_default();
        }
        self
    }

    /// Creates the reply with code 0 to a message to one user, with the request's ids.
    pub fn p2p(source_uid: i64, target_uid: i64, msg_id: &str) -> Reply {
        Reply::P2p(ResSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            err_str: Code::Ok.text().into(),
            source_uid,
            target_uid,
            msg_id: echo(msg_id),
            ..Default::default()
        })
    }

    /// Creates the reply with code 0 to an acceptance.
    pub fn ack() -> Reply {
        Reply::Ack(ResAcceptP2pMsgAck {
            cmd: Cmd::AcceptP2PMsgAck.number(),
            err_str: Code::Ok.text().into(),
            ..Default::default()
        })
    }

    /// Creates the reply with code 0 to a message to a group, with the request's ids.
    pub fn group(group_id: i64, msg_id: &str) -> Reply {
        Reply::Group(ResSendGroupMsg {
            cmd: Cmd::SendGroupMsg.number(),
            err_str: Code::Ok.text().into(),
            group_id,
            msg_id: echo(msg_id),
            ..Default::default()
        })
    }

    /// Creates an empty page with the request's currentID.
    pub fn sync(request: &ReqSyncMsg) -> Reply {
        Reply::Sync(ResSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            err_str: Code::Ok.text().into(),
            current_id: request.current_id,
            ..Default::default()
        })
    }

    /// Creates the reply with code 0 to a logout.
    pub fn logout() -> Reply {
        Reply::Logout(ResLogout {
            cmd: Cmd::Logout.number(),
            err_str: Code::Ok.text().into(),
            ..Default::default()
        })
    }

    /// Returns the command that this replies to; [`Cmd::ErrServer`] for no command in particular.
    pub fn cmd(&self) -> Cmd {
        let cmd = match self {
            Reply::Error(m) => m.cmd,
            Reply::SelectAccess(m) => m.cmd,
            Reply::P2p(m) => m.cmd,
            Reply::Ack(m) => m.cmd,
            Reply::Group(m) => m.cmd,
            Reply::Sync(m) => m.cmd,
            Reply::Logout(m) => m.cmd,
            Reply::Login(m) => m.cmd,
        };
        Cmd::from_number(cmd).unwrap_or(Cmd::ErrServer)
    }

    /// Returns the error code and its text.
    pub fn code_and_text(&self) -> (u32, &str) {
        match self {
            Reply::Error(m) => (m.err_code, &m.err_str),
            Reply::SelectAccess(m) => (m.err_code, &m.err_str),
            Reply::P2p(m) => (m.err_code, &m.err_str),
            Reply::Ack(m) => (m.err_code, &m.err_str),
            Reply::Group(m) => (m.err_code, &m.err_str),
            Reply::Sync(m) => (m.err_code, &m.err_str),
            Reply::Logout(m) => (m.err_code, &m.err_str),
            Reply::Login(m) => (m.err_code, &m.err_str),
        }
    }

    /// Returns this reply with another code and text. Everything else stays, the ids as well as a page or an address: see
    /// [`into_refusal`](Self::into_refusal) for a reply that has such contents.
    #[must_use]
    pub fn with_code(mut self, code: Code, text: impl Into<String>) -> Reply {
        let (err_code, err_str) = match &mut self {
            Reply::Error(m) => (&mut m.err_code, &mut m.err_str),
            Reply::SelectAccess(m) => (&mut m.err_code, &mut m.err_str),
            Reply::P2p(m) => (&mut m.err_code, &mut m.err_str),
            Reply::Ack(m) => (&mut m.err_code, &mut m.err_str),
            Reply::Group(m) => (&mut m.err_code, &mut m.err_str),
            Reply::Sync(m) => (&mut m.err_code, &mut m.err_str),
            Reply::Logout(m) => (&mut m.err_code, &mut m.err_str),
            Reply::Login(m) => (&mut m.err_code, &mut m.err_str),
        };
        *err_code = code.number();
        *err_str = text.into();
        self
    }

    /// Returns the reply to a login or a ping as the schema has it, and any other reply unchanged.
    #[must_use]
    pub fn as_schema(self) -> Reply {
        match self {
            Reply::Error(m) if [Cmd::Login.number(), Cmd::Ping.number()].contains(&m.cmd) => {
                Reply::Login(ResLogin {
                    cmd: m.cmd,
                    err_code: m.err_code,
                    err_str: m.err_str,
                    ..Default::default()
                })
            }
            other => other,
        }
    }

    /// Returns the reply to a message without the request's ids, and any other reply unchanged.
    #[must_use]
    pub fn without_ids(mut self) -> Reply {
        match &mut self {
            Reply::P2p(m) => {
                (m.source_uid, m.target_uid) = (0, 0);
                m.msg_id.clear();
            }
            Reply::Group(m) => {
                m.group_id = 0;
                m.msg_id.clear();
            }
            _ => {}
        }
        self
    }

    /// Decodes the reply to a command. Returns nothing if the message is no such reply.
    pub fn decode(cmd: Cmd, message: &[u8]) -> Option<Reply> {
        let reply = match cmd {
            // `Error` can't be decoded as `ResLogin`, nor the other way round: field 2 of one is a number and of the
            // other a text.
            Cmd::Login | Cmd::Ping => ResLogin::decode(message)
                .map(Reply::Login)
                .or_else(|_| Error::decode(message).map(Reply::Error)),
            Cmd::ErrServer => Error::decode(message).map(Reply::Error),
            Cmd::ReqAccessServer => {
                ResSelectAccessServerForClient::decode(message).map(Reply::SelectAccess)
            }
            Cmd::SendP2PMsg => ResSendP2pMsg::decode(message).map(Reply::P2p),
            Cmd::AcceptP2PMsgAck => ResAcceptP2pMsgAck::decode(message).map(Reply::Ack),
            Cmd::SendGroupMsg => ResSendGroupMsg::decode(message).map(Reply::Group),
            Cmd::SyncMsg => ResSyncMsg::decode(message).map(Reply::Sync),
            Cmd::Logout => ResLogout::decode(message).map(Reply::Logout),
            Cmd::Notify => return None,
        };
        reply.ok()
    }

    /// Returns the refusal that is sent in place of this reply, with the standard text of the code. Unlike
    /// [`with_code`](Self::with_code), it drops what a refusal must not contain: an address, and the entries of a page, whose
    /// currentID is then where the page began.
    #[must_use]
    pub fn into_refusal(mut self, code: Code) -> Reply {
        match &mut self {
            Reply::Sync(page) => {
                page.current_id = page.began_after();
                page.msgs.clear();
                page.total_id = 0;
            }
            Reply::SelectAccess(reply) => reply.addr.clear(),
            _ => {}
        }
        self.with_code(code, code.text())
    }
}

impl ResSyncMsg {
    /// Returns the version after which the page begins: a client that asks for what is newer gets the page again. For a page
    /// without entries, that is its currentID.
    pub fn began_after(&self) -> i64 {
        let first = self.msgs.first();
        first.map_or(self.current_id, |first| first.increment_id - 1)
    }
}

/// Returns a request's msgID for the reply; nothing if it would not fit.
fn echo(msg_id: &str) -> String {
    if msg_id.len() > MAX_ECHO {
        String::new()
    } else {
        msg_id.to_owned()
    }
}

impl Payload for Reply {
    fn encode_payload(&self, dst: &mut BytesMut) {
        match self {
            Reply::Error(m) => m.encode_raw(dst),
            Reply::SelectAccess(m) => m.encode_raw(dst),
            Reply::P2p(m) => m.encode_raw(dst),
            Reply::Ack(m) => m.encode_raw(dst),
            Reply::Group(m) => m.encode_raw(dst),
            Reply::Sync(m) => m.encode_raw(dst),
            Reply::Logout(m) => m.encode_raw(dst),
            Reply::Login(m) => m.encode_raw(dst),
        }
    }
}

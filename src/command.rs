//! What a client can ask: one table, and the frame that says it.

use prost::Message;

use crate::proto::{
    Base, Cmd, Code, Reply, ReqAcceptP2pMsgAck, ReqAccessServer, ReqLogin, ReqLogout, ReqPing,
    ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg, decode_lossy,
};

/// A request, decoded. No `Debug`: it holds tokens and texts, which must not reach a log.
pub enum Command {
    /// 10001
    SelectAccess(ReqAccessServer),
    /// 20001
    Login(ReqLogin),
    /// 20002
    Ping(ReqPing),
    /// 20003
    P2p(ReqSendP2pMsg),
    /// 20004
    Ack(ReqAcceptP2pMsgAck),
    /// 20005
    Group(ReqSendGroupMsg),
    /// 20006
    Sync(ReqSyncMsg),
    /// 20008
    Logout(ReqLogout),
}

/// On which listener a command is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The gateway.
    Gateway,
    /// An access server.
    Access,
}

struct Row {
    cmd: Cmd,
    place: Place,
    needs_login: bool,
    decode: fn(&[u8]) -> Result<Command, prost::DecodeError>,
}

const fn row(
    cmd: Cmd,
    place: Place,
    needs_login: bool,
    decode: fn(&[u8]) -> Result<Command, prost::DecodeError>,
) -> Row {
    Row {
        cmd,
        place,
        needs_login,
        decode,
    }
}

/// The commands a client can send.
#[rustfmt::skip]
const TABLE: [Row; 8] = [
    row(Cmd::ReqAccessServer, Place::Gateway, false, |f| decode_lossy(f).map(Command::SelectAccess)),
    row(Cmd::Login,           Place::Access,  false, |f| decode_lossy(f).map(Command::Login)),
    row(Cmd::Ping,            Place::Access,  true,  |f| decode_lossy(f).map(Command::Ping)),
    row(Cmd::SendP2PMsg,      Place::Access,  true,  |f| decode_lossy(f).map(Command::P2p)),
    row(Cmd::AcceptP2PMsgAck, Place::Access,  true,  |f| decode_lossy(f).map(Command::Ack)),
    row(Cmd::SendGroupMsg,    Place::Access,  true,  |f| decode_lossy(f).map(Command::Group)),
    row(Cmd::SyncMsg,         Place::Access,  true,  |f| decode_lossy(f).map(Command::Sync)),
    row(Cmd::Logout,          Place::Access,  true,  |f| decode_lossy(f).map(Command::Logout)),
];

/// Why a frame is no command. The connection stays usable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// It is not protobuf, or not the message of its command.
    #[error("the frame can't be decoded")]
    Undecodable,
    /// It is empty, or its command is not known here.
    #[error("unknown command {0}")]
    Unknown(u32),
}

impl BadFrame {
    /// What the contract answers to it.
    pub fn reply(&self) -> Reply {
        let code = match self {
            BadFrame::Undecodable => Code::ServerError,
            BadFrame::Unknown(_) => Code::RequestErr,
        };
        Reply::server(code, code.because(self))
    }
}

impl Command {
    /// Reads a frame that came in at `place`. The second value says whether it needs a login.
    ///
    /// # Errors
    ///
    /// [`BadFrame`]
    pub fn decode(frame: &[u8], place: Place) -> Result<(Command, bool), BadFrame> {
        let base = Base::decode(frame).map_err(|_| BadFrame::Undecodable)?;
        let row = TABLE
            .iter()
            .find(|row| row.cmd.number() == base.cmd && row.place == place)
            .ok_or(BadFrame::Unknown(base.cmd))?;
        let command = (row.decode)(frame).map_err(|_| BadFrame::Undecodable)?;
        Ok((command, row.needs_login))
    }

    /// The answer 0 to this command, with its ids: what an error is written into.
    pub fn reply(&self) -> Reply {
        match self {
            Command::SelectAccess(_) => Reply::select_access(String::new()),
            Command::Login(_) => Reply::login(),
            Command::Ping(_) => Reply::ping(),
            Command::P2p(request) => Reply::p2p(request),
            Command::Ack(request) => Reply::ack(request),
            Command::Group(request) => Reply::group(request),
            Command::Sync(request) => Reply::sync(request),
            Command::Logout(_) => Reply::logout(),
        }
    }
}

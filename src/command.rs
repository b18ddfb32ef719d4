//! What a client can ask: one table, and the frame that says it.

use crate::proto::{
    Cmd, Code, Flat, Form, Reply, ReqAcceptP2pMsgAck, ReqAccessServer, ReqLogin, ReqLogout,
    ReqPing, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg, Undecodable, first_number,
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
    /// Of its fields.
    forms: &'static [Form],
    read: fn(&Flat<'_>) -> Command,
}

const fn row(
    cmd: Cmd,
    place: Place,
    needs_login: bool,
    forms: &'static [Form],
    read: fn(&Flat<'_>) -> Command,
) -> Row {
    Row {
        cmd,
        place,
        needs_login,
        forms,
        read,
    }
}

const N: Form = Form::Number;
const T: Form = Form::Text;

/// The commands a client can send. What `cmdStr` says (field 2) is not needed.
#[rustfmt::skip]
static TABLE: [Row; 8] = [
    row(Cmd::ReqAccessServer, Place::Gateway, false, &[N, T],             select_access),
    row(Cmd::Login,           Place::Access,  false, &[N, T, N, T],       login),
    row(Cmd::Ping,            Place::Access,  true,  &[N, T, N],          ping),
    row(Cmd::SendP2PMsg,      Place::Access,  true,  &[N, T, N, N, T, T], p2p),
    row(Cmd::AcceptP2PMsgAck, Place::Access,  true,  &[N, T, N, N, T],    ack),
    row(Cmd::SendGroupMsg,    Place::Access,  true,  &[N, T, N, N, T, T], group),
    row(Cmd::SyncMsg,         Place::Access,  true,  &[N, T, N, N, N],    sync),
    row(Cmd::Logout,          Place::Access,  true,  &[N, T, N],          logout),
];

fn select_access(fields: &Flat<'_>) -> Command {
    Command::SelectAccess(ReqAccessServer {
        cmd: fields.small(1),
        ..Default::default()
    })
}

fn login(fields: &Flat<'_>) -> Command {
    Command::Login(ReqLogin {
        cmd: fields.small(1),
        uid: fields.number(3),
        token: fields.text(4).into_owned(),
        ..Default::default()
    })
}

fn ping(fields: &Flat<'_>) -> Command {
    Command::Ping(ReqPing {
        cmd: fields.small(1),
        uid: fields.number(3),
        ..Default::default()
    })
}

fn p2p(fields: &Flat<'_>) -> Command {
    Command::P2p(ReqSendP2pMsg {
        cmd: fields.small(1),
        source_uid: fields.number(3),
        target_uid: fields.number(4),
        msg_id: fields.text(5).into_owned(),
        msg: fields.text(6).into_owned(),
        ..Default::default()
    })
}

fn ack(fields: &Flat<'_>) -> Command {
    Command::Ack(ReqAcceptP2pMsgAck {
        cmd: fields.small(1),
        source_uid: fields.number(3),
        target_uid: fields.number(4),
        msg_id: fields.text(5).into_owned(),
        ..Default::default()
    })
}

fn group(fields: &Flat<'_>) -> Command {
    Command::Group(ReqSendGroupMsg {
        cmd: fields.small(1),
        source_uid: fields.number(3),
        group_id: fields.number(4),
        msg_id: fields.text(5).into_owned(),
        msg: fields.text(6).into_owned(),
        ..Default::default()
    })
}

fn sync(fields: &Flat<'_>) -> Command {
    Command::Sync(ReqSyncMsg {
        cmd: fields.small(1),
        uid: fields.number(3),
        current_id: fields.number(4),
        limit: fields.small(5),
        ..Default::default()
    })
}

fn logout(fields: &Flat<'_>) -> Command {
    Command::Logout(ReqLogout {
        cmd: fields.small(1),
        uid: fields.number(3),
        ..Default::default()
    })
}

/// Why a frame is no command. The connection stays usable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// It is not protobuf, or not the message of its command.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// It is empty, or its command is not known here.
    #[error("unknown command {0}")]
    Unknown(u32),
}

impl BadFrame {
    /// What the contract answers to it.
    pub fn reply(&self) -> Reply {
        let code = match self {
            BadFrame::Undecodable(_) => Code::ServerError,
            BadFrame::Unknown(_) => Code::RequestErr,
        };
        Reply::server(code, code.because(self))
    }
}

fn find(cmd: u32, place: Place) -> Option<&'static Row> {
    TABLE
        .iter()
        .find(|row| row.cmd.number() == cmd && row.place == place)
}

impl Command {
    /// Reads a frame that came in at `place`. The second value says whether it needs a login.
    ///
    /// # Errors
    ///
    /// [`BadFrame`]
    pub fn decode(frame: &[u8], place: Place) -> Result<(Command, bool), BadFrame> {
        // Nearly every frame begins with its command. One that comes later in it would count instead.
        if let Some(row) = first_number(frame).and_then(|cmd| find(cmd, place))
            && let Ok(fields) = Flat::read(frame, row.forms)
            && fields.small(1) == row.cmd.number()
        {
            return Ok(((row.read)(&fields), row.needs_login));
        }
        let cmd = Flat::read(frame, &[N])?.small(1);
        let row = find(cmd, place).ok_or(BadFrame::Unknown(cmd))?;
        let fields = Flat::read(frame, row.forms)?;
        Ok(((row.read)(&fields), row.needs_login))
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

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost::encoding::uint32;

    /// What the frame of a request is decoded to, and what stood in it but for cmdStr.
    macro_rules! assert_decoded {
        ($place:ident, $command:ident, $type:ident { $($field:ident: $value:expr),* }) => {
            let request = $type { $($field: $value,)* ..Default::default() };
            let sent = $type { cmd_str: "a name".into(), ..request.clone() };
            let decoded = Command::decode(&sent.encode_to_vec(), Place::$place);
            match decoded {
                Ok((Command::$command(decoded), _)) => assert_eq!(decoded, request),
                _ => panic!(stringify!($command)),
            }
        };
    }

    #[test]
    fn every_field_of_every_request_is_read() {
        let id = || "an id".to_owned();
        let msg = || "a text".to_owned();
        assert_decoded!(Gateway, SelectAccess, ReqAccessServer { cmd: 10001 });
        assert_decoded!(
            Access,
            Login,
            ReqLogin {
                cmd: 20001,
                uid: -3,
                token: id()
            }
        );
        assert_decoded!(Access, Ping, ReqPing { cmd: 20002, uid: 3 });
        assert_decoded!(
            Access,
            P2p,
            ReqSendP2pMsg {
                cmd: 20003,
                source_uid: 3,
                target_uid: i64::MAX,
                msg_id: id(),
                msg: msg()
            }
        );
        assert_decoded!(
            Access,
            Ack,
            ReqAcceptP2pMsgAck {
                cmd: 20004,
                source_uid: 3,
                target_uid: 4,
                msg_id: id()
            }
        );
        assert_decoded!(
            Access,
            Group,
            ReqSendGroupMsg {
                cmd: 20005,
                source_uid: 3,
                group_id: 4,
                msg_id: id(),
                msg: msg()
            }
        );
        assert_decoded!(
            Access,
            Sync,
            ReqSyncMsg {
                cmd: 20006,
                uid: 3,
                current_id: i64::MIN,
                limit: u32::MAX
            }
        );
        assert_decoded!(Access, Logout, ReqLogout { cmd: 20008, uid: 3 });
    }

    #[test]
    fn the_last_command_in_a_frame_counts() {
        let mut frame = Vec::new();
        for cmd in [Cmd::SendP2PMsg, Cmd::Ping] {
            uint32::encode(1, &cmd.number(), &mut frame);
        }
        let decoded = Command::decode(&frame, Place::Access);
        assert!(matches!(decoded, Ok((Command::Ping(_), true))));
        uint32::encode(1, &7, &mut frame);
        let decoded = Command::decode(&frame, Place::Access);
        assert_eq!(decoded.err(), Some(BadFrame::Unknown(7)));
    }
}

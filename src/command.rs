//! The commands that a client can send: one table of them, and the decoding of their frames.
//!
//! Serves the handlers of the gateway and of the access servers, and the faults on requests. A command that is not in
//! the table does not exist for the stack.

use std::borrow::Cow;

use crate::id::{GroupId, Uid};
use crate::proto::{
    Cmd, Code, FieldType, ReqAccessServer, ReqLogin, ReqLogout, ReqPing, ReqSyncMsg, RequestFields,
    Undecodable, first_number,
};

/// A decoded request. It has no `Debug`, because it holds tokens and texts, which must not reach a log.
pub enum Command<'a> {
    /// 10001: asks for the address of an access server.
    SelectAccess(ReqAccessServer),
    /// 20001: logs a user in.
    Login(ReqLogin),
    /// 20002: renews the presence of the user.
    Ping(ReqPing),
    /// 20003: sends a message to a user.
    P2p(Sending<'a, Uid>),
    /// 20004: accepts a message of a user.
    Accept(Sending<'a, Uid>),
    /// 20005: sends a message to a group.
    Group(Sending<'a, GroupId>),
    /// 20006: asks for a page of the inbox.
    Sync(ReqSyncMsg),
    /// 20008: logs the user out.
    Logout(ReqLogout),
}

/// The fields of a 20003, 20004 or 20005, with texts borrowed from the frame. `T` is the type of the target's id: of a user
/// or of a group.
pub struct Sending<'a, T> {
    /// The user who sends or accepts, as the frame claims.
    pub source: Uid,
    /// The user or the group that the message is for; for an acceptance, the user who has sent the message.
    pub target: T,
    /// The id that the sender has given the message; empty if there is none.
    pub msg_id: Cow<'a, str>,
    /// The text of the message; empty for an acceptance.
    pub text: Cow<'a, str>,
}

/// A command, and what the table says of it.
pub struct Decoded<'a> {
    /// The command with its fields.
    pub command: Command<'a>,
    /// Whether the command is refused before the login.
    pub needs_login: bool,
}

/// The kind of listener on which a command exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The gateway.
    Gateway,
    /// An access server.
    Access,
}

/// A command of the table.
struct Row {
    cmd: Cmd,
    listener: Listener,
    needs_login: bool,
    /// The type of each field, from field 1 on.
    types: &'static [FieldType],
    read: for<'a> fn(&RequestFields<'a>) -> Command<'a>,
}

impl Row {
    #[inline]
    fn decoded<'a>(&self, fields: &RequestFields<'a>) -> Decoded<'a> {
        Decoded {
            command: (self.read)(fields),
            needs_login: self.needs_login,
        }
    }
}

const fn row(
    cmd: Cmd,
    listener: Listener,
    needs_login: bool,
    types: &'static [FieldType],
    read: for<'a> fn(&RequestFields<'a>) -> Command<'a>,
) -> Row {
    Row {
        cmd,
        listener,
        needs_login,
        types,
        read,
    }
}

const N: FieldType = FieldType::Number;
const T: FieldType = FieldType::Text;

/// The commands that a client can send. Field 2, `cmdStr`, is not used.
#[rustfmt::skip]
static TABLE: [Row; 8] = [
    row(Cmd::ReqAccessServer, Listener::Gateway, false, &[N, T],             select_access),
    row(Cmd::Login,           Listener::Access,  false, &[N, T, N, T],       login),
    row(Cmd::Ping,            Listener::Access,  true,  &[N, T, N],          ping),
    row(Cmd::SendP2PMsg,      Listener::Access,  true,  &[N, T, N, N, T, T], p2p),
    row(Cmd::AcceptP2PMsgAck, Listener::Access,  true,  &[N, T, N, N, T],    ack),
    row(Cmd::SendGroupMsg,    Listener::Access,  true,  &[N, T, N, N, T, T], group),
    row(Cmd::SyncMsg,         Listener::Access,  true,  &[N, T, N, N, N],    sync),
    row(Cmd::Logout,          Listener::Access,  true,  &[N, T, N],          logout),
];

fn select_access<'a>(fields: &RequestFields<'a>) -> Command<'a> {
    Command::SelectAccess(ReqAccessServer {
        cmd: fields.number32(1),
        ..Default::default()
    })
}

fn login<'a>(fields: &RequestFields<'a>) -> Command<'a> {
    Command::Login(ReqLogin {
        cmd: fields.number32(1),
        uid: fields.number(3),
        token: fields.text(4).into_owned(),
        ..Default::default()
    })
}

fn ping<'a>(fields: &RequestFields<'a>) -> Command<'a> {
    Command::Ping(ReqPing {
        cmd: fields.number32(1),
        uid: fields.number(3),
        ..Default::default()
    })
}

fn p2p<'a>(fields: &RequestFields<'a>) -> Command<'a> {
    Command::P2p(sending(fields))
}

fn ack<'a>(fields: &RequestFields<'a>) -> Command<'a> {
    // The frame names the sender of the accepted message as the source, and who accepts it as the target.
    Command::Accept(Sending {
        source: fields.number(4).into(),
        target: fields.number(3).into(),
        ..sending(fields)
    })
}

fn group<'a>(fields: &RequestFields<'a>) -> Command<'a> {
    Command::Group(sending(fields))
}

fn sending<'a, T: From<i64>>(fields: &RequestFields<'a>) -> Sending<'a, T> {
    Sending {
        source: fields.number(3).into(),
        target: fields.number(4).into(),
        msg_id: fields.text(5),
        text: fields.text(6),
    }
}

fn sync<'a>(fields: &RequestFields<'a>) -> Command<'a> {
    Command::Sync(ReqSyncMsg {
        cmd: fields.number32(1),
        uid: fields.number(3),
        current_id: fields.number(4),
        limit: fields.number32(5),
        ..Default::default()
    })
}

fn logout<'a>(fields: &RequestFields<'a>) -> Command<'a> {
    Command::Logout(ReqLogout {
        cmd: fields.number32(1),
        uid: fields.number(3),
        ..Default::default()
    })
}

/// Why a frame is no command. The connection stays usable, since the end of the frame is known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The frame is not protobuf, or not the message of its command.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// The frame is empty, or its command does not exist on this listener.
    #[error("unknown command {0}")]
    Unknown(u32),
}

impl BadFrame {
    /// Returns the code that the contract prescribes for the reply to such a frame.
    pub fn code(&self) -> Code {
        match self {
            BadFrame::Undecodable(_) => Code::ServerError,
            BadFrame::Unknown(_) => Code::RequestErr,
        }
    }
}

fn find(cmd: u32, listener: Listener) -> Option<&'static Row> {
    TABLE
        .iter()
        .find(|row| row.cmd.number() == cmd && row.listener == listener)
}

impl<'a> Command<'a> {
    /// Decodes a frame that came in at `listener`.
    ///
    /// # Errors
    ///
    /// [`BadFrame`], when the frame is no command there.
    pub fn decode(frame: &'a [u8], listener: Listener) -> Result<Decoded<'a>, BadFrame> {
        // Nearly every frame begins with its command. If the field stands in it again, the last one counts.
        if let Some(row) = first_number(frame).and_then(|cmd| find(cmd, listener))
            && let Ok(fields) = RequestFields::read(frame, row.types)
            && fields.number32(1) == row.cmd.number()
        {
            return Ok(row.decoded(&fields));
        }
        let cmd = RequestFields::read(frame, &[N])?.number32(1);
        let row = find(cmd, listener).ok_or(BadFrame::Unknown(cmd))?;
        let fields = RequestFields::read(frame, row.types)?;
        Ok(row.decoded(&fields))
    }

    /// Returns the number of this command.
    pub fn cmd(&self) -> Cmd {
        match self {
            Command::SelectAccess(_) => Cmd::ReqAccessServer,
            Command::Login(_) => Cmd::Login,
            Command::Ping(_) => Cmd::Ping,
            Command::P2p(_) => Cmd::SendP2PMsg,
            Command::Accept(_) => Cmd::AcceptP2PMsgAck,
            Command::Group(_) => Cmd::SendGroupMsg,
            Command::Sync(_) => Cmd::SyncMsg,
            Command::Logout(_) => Cmd::Logout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{ReqAcceptP2pMsgAck, ReqSendGroupMsg, ReqSendP2pMsg};
    use prost::Message;
    use prost::encoding::uint32;

    /// Asserts that the frame of a request is decoded to the same request without cmdStr.
    macro_rules! assert_decoded {
        ($listener:ident, $command:ident, $type:ident { $($field:ident: $value:expr),* }) => {
            let request = $type { $($field: $value,)* ..Default::default() };
            let sent = $type { cmd_str: "a name".into(), ..request.clone() };
            let frame = sent.encode_to_vec();
            match Command::decode(&frame, Listener::$listener) {
                Ok(Decoded {
                    command: Command::$command(decoded),
                    ..
                }) => assert_eq!(decoded, request),
                _ => panic!(stringify!($command)),
            }
        };
    }

    #[test]
    fn every_field_of_every_request_is_read() {
        assert_decoded!(Gateway, SelectAccess, ReqAccessServer { cmd: 10001 });
        assert_decoded!(
            Access,
            Login,
            ReqLogin {
                cmd: 20001,
                uid: -3,
                token: "a token".into()
            }
        );
        assert_decoded!(Access, Ping, ReqPing { cmd: 20002, uid: 3 });
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
    fn every_field_of_what_is_to_be_stored_is_read() {
        let (msg_id, msg) = ("an id".to_owned(), "a text".to_owned());
        let p2p = ReqSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            cmd_str: "a name".into(),
            source_uid: 3,
            target_uid: i64::MAX,
            msg_id: msg_id.clone(),
            msg: msg.clone(),
        };
        let group = ReqSendGroupMsg {
            cmd: Cmd::SendGroupMsg.number(),
            cmd_str: "a name".into(),
            source_uid: 3,
            group_id: i64::MAX,
            msg_id: msg_id.clone(),
            msg,
        };
        let ack = ReqAcceptP2pMsgAck {
            cmd: Cmd::AcceptP2PMsgAck.number(),
            cmd_str: "a name".into(),
            source_uid: i64::MAX,
            target_uid: 3,
            msg_id,
        };
        fn read<T: Copy + Into<i64>>(sending: &Sending<'_, T>) -> (i64, i64, (String, String)) {
            let texts = (sending.msg_id.to_string(), sending.text.to_string());
            (sending.source.0, sending.target.into(), texts)
        }
        let expected = |text: &str| (3, i64::MAX, ("an id".into(), text.into()));
        let frames = [
            p2p.encode_to_vec(),
            group.encode_to_vec(),
            ack.encode_to_vec(),
        ];
        let [p2p, group, ack] = frames.each_ref().map(|frame| {
            let decoded = Command::decode(frame, Listener::Access).unwrap_or_else(|_| panic!());
            assert!(decoded.needs_login);
            decoded.command
        });
        assert!(matches!(p2p, Command::P2p(sending) if read(&sending) == expected("a text")));
        assert!(matches!(group, Command::Group(sending) if read(&sending) == expected("a text")));
        assert!(matches!(ack, Command::Accept(sending) if read(&sending) == expected("")));
    }

    #[test]
    fn the_last_command_in_a_frame_counts() {
        let mut frame = Vec::new();
        for cmd in [Cmd::SendP2PMsg, Cmd::Ping] {
            uint32::encode(1, &cmd.number(), &mut frame);
        }
        let decoded = Command::decode(&frame, Listener::Access);
        assert!(matches!(
            decoded.unwrap_or_else(|_| panic!()).command,
            Command::Ping(_)
        ));
        uint32::encode(1, &7, &mut frame);
        let decoded = Command::decode(&frame, Listener::Access);
        assert_eq!(decoded.err(), Some(BadFrame::Unknown(7)));
    }
}

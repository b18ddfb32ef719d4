//! Frames that were damaged on their way: each is answered as the contract says for the bytes that arrive.
//!
//! Valid frames are damaged in random places. The expected answer is computed here, with the decoder of prost, and
//! compared with the one of the server, whose decoder is its own.

use bytes::{Bytes, BytesMut};
use imd::Imd;
use imd::proto::{
    Base, Cmd, Error, ReqLogout, ResLogout, ResSendGroupMsg, ResSendP2pMsg, ResSyncMsg,
};
use prost::Message;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::support::chance::chance;
use crate::support::{
    Wire, access, ack, ephemeral, group_msg, group_of, login, p2p, ping, raw_frame, start, sync,
};

/// The requests by the tables of the contract. Texts are bytes here, because the server accepts invalid UTF-8 and
/// replaces it.
mod asked {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Short {
        #[prost(uint32, tag = "1")]
        pub cmd: u32,
        #[prost(bytes = "vec", tag = "2")]
        pub cmd_str: Vec<u8>,
        #[prost(int64, tag = "3")]
        pub uid: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Login {
        #[prost(uint32, tag = "1")]
        pub cmd: u32,
        #[prost(bytes = "vec", tag = "2")]
        pub cmd_str: Vec<u8>,
        #[prost(int64, tag = "3")]
        pub uid: i64,
        #[prost(bytes = "vec", tag = "4")]
        pub token: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Send {
        #[prost(uint32, tag = "1")]
        pub cmd: u32,
        #[prost(bytes = "vec", tag = "2")]
        pub cmd_str: Vec<u8>,
        #[prost(int64, tag = "3")]
        pub source: i64,
        #[prost(int64, tag = "4")]
        pub target: i64,
        #[prost(bytes = "vec", tag = "5")]
        pub msg_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "6")]
        pub msg: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Ack {
        #[prost(uint32, tag = "1")]
        pub cmd: u32,
        #[prost(bytes = "vec", tag = "2")]
        pub cmd_str: Vec<u8>,
        #[prost(int64, tag = "3")]
        pub source: i64,
        #[prost(int64, tag = "4")]
        pub target: i64,
        #[prost(bytes = "vec", tag = "5")]
        pub msg_id: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sync {
        #[prost(uint32, tag = "1")]
        pub cmd: u32,
        #[prost(bytes = "vec", tag = "2")]
        pub cmd_str: Vec<u8>,
        #[prost(int64, tag = "3")]
        pub uid: i64,
        #[prost(int64, tag = "4")]
        pub current: i64,
        #[prost(uint32, tag = "5")]
        pub limit: u32,
    }
}

/// The answer to a frame, by the contract.
#[derive(Debug)]
struct Expected {
    cmd: Cmd,
    codes: Vec<u32>,
    ids: Ids,
    /// The user of the session after this frame.
    uid: Option<i64>,
    ends: bool,
}

/// The ids that a reply echoes.
#[derive(Debug, Clone, PartialEq)]
enum Ids {
    None,
    /// sourceUID, targetUID, msgID
    P2p(i64, i64, String),
    /// groupID, msgID
    Group(i64, String),
    /// currentID
    Sync(i64),
}

/// A stack, with a group of which every user of this test is a member.
struct World {
    imd: Imd,
    group: i64,
}

fn with_replacement_chars(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

impl World {
    /// Returns the codes that may answer a frame of this command in a session of `uid`, with the ids of the reply.
    /// `None` if the frame can't be decoded.
    fn decoded(&self, cmd: Cmd, frame: &[u8], uid: Option<i64>) -> Option<(Vec<u32>, Ids)> {
        let is_own = |claimed: i64| claimed == 0 || Some(claimed) == uid;
        let simple = |claimed| if is_own(claimed) { 0 } else { 93005 };
        let checked = |claimed, target: i64, id: &str, text: &str| {
            let fits = target > 0 && id.len() <= 128 && text.len() <= 32_768;
            match (is_own(claimed), fits) {
                (false, _) => 93005,
                (true, false) => 10001,
                (true, true) => 0,
            }
        };
        let (codes, ids) = match cmd {
            Cmd::Ping | Cmd::Logout => {
                let asked = asked::Short::decode(frame).ok()?;
                (vec![simple(asked.uid)], Ids::None)
            }
            Cmd::Login => {
                let asked = asked::Login::decode(frame).ok()?;
                let claimed = match (uid, asked.uid) {
                    (Some(bound), 0) => bound,
                    (Some(bound), other) if other != bound => {
                        return Some((vec![93005], Ids::None));
                    }
                    (_, claimed) => claimed,
                };
                let code = match with_replacement_chars(&asked.token) {
                    token if token.is_empty() || claimed <= 0 => 93001,
                    token if token == self.imd.token(claimed) => 0,
                    _ => 93002,
                };
                (vec![code], Ids::None)
            }
            Cmd::SendP2PMsg => {
                let asked = asked::Send::decode(frame).ok()?;
                let (id, text) = (
                    with_replacement_chars(&asked.msg_id),
                    with_replacement_chars(&asked.msg),
                );
                let code = checked(asked.source, asked.target, &id, &text);
                (vec![code], Ids::P2p(asked.source, asked.target, id))
            }
            Cmd::SendGroupMsg => {
                let asked = asked::Send::decode(frame).ok()?;
                let (id, text) = (
                    with_replacement_chars(&asked.msg_id),
                    with_replacement_chars(&asked.msg),
                );
                let code = match checked(asked.source, asked.target, &id, &text) {
                    0 if asked.target != self.group => 95001,
                    code => code,
                };
                (vec![code], Ids::Group(asked.target, id))
            }
            Cmd::AcceptP2PMsgAck => {
                let asked = asked::Ack::decode(frame).ok()?;
                let id = with_replacement_chars(&asked.msg_id);
                let codes = match checked(asked.target, asked.source, &id, "") {
                    0 => vec![0, 91001],
                    code => vec![code],
                };
                (codes, Ids::None)
            }
            Cmd::SyncMsg => {
                let asked = asked::Sync::decode(frame).ok()?;
                (vec![simple(asked.uid)], Ids::Sync(asked.current))
            }
            Cmd::ReqAccessServer | Cmd::Notify | Cmd::ErrServer => unreachable!("no request here"),
        };
        let needs_login = uid.is_none() && cmd != Cmd::Login;
        Some((if needs_login { vec![93003] } else { codes }, ids))
    }

    fn expected(&self, frame: &[u8], uid: Option<i64>) -> Expected {
        let error = |code| Expected {
            cmd: Cmd::ErrServer,
            codes: vec![code],
            ids: Ids::None,
            uid,
            ends: false,
        };
        let Ok(Base { cmd }) = Base::decode(frame) else {
            return error(90001);
        };
        let unknown = [Cmd::ReqAccessServer, Cmd::Notify, Cmd::ErrServer];
        let Some(cmd) = Cmd::from_number(cmd).filter(|cmd| !unknown.contains(cmd)) else {
            return error(10001);
        };
        let Some((codes, ids)) = self.decoded(cmd, frame, uid) else {
            return error(90001);
        };
        let succeeds = codes.as_slice() == [0];
        let uid = match uid {
            None if cmd == Cmd::Login && succeeds => Some(asked::Login::decode(frame).unwrap().uid),
            uid => uid,
        };
        let ends = cmd == Cmd::Logout && succeeds;
        Expected {
            cmd,
            codes,
            ids,
            uid,
            ends,
        }
    }
}

impl Expected {
    /// Compares a reply with what is expected of it.
    fn check(&self, reply: Bytes, asked: &[u8]) {
        let cmd = Base::decode(reply.clone()).unwrap().cmd;
        let context = format!("{self:?} to {asked:02x?}, and got {reply:02x?}");
        assert_eq!(cmd, self.cmd.number(), "{context}");
        let (code, ids) = match self.cmd {
            Cmd::Login | Cmd::Ping | Cmd::ErrServer => {
                (Error::decode(reply).unwrap().err_code, Ids::None)
            }
            Cmd::SendP2PMsg => {
                let reply = ResSendP2pMsg::decode(reply).unwrap();
                assert_eq!(reply.msg, "", "{context}");
                let ids = Ids::P2p(reply.source_uid, reply.target_uid, reply.msg_id);
                (reply.err_code, ids)
            }
            Cmd::SendGroupMsg => {
                let reply = ResSendGroupMsg::decode(reply).unwrap();
                (reply.err_code, Ids::Group(reply.group_id, reply.msg_id))
            }
            Cmd::SyncMsg => {
                let reply = ResSyncMsg::decode(reply).unwrap();
                (reply.err_code, Ids::Sync(reply.current_id))
            }
            _ => (ResLogout::decode(reply).unwrap().err_code, Ids::None),
        };
        assert!(self.codes.contains(&code), "{context}");
        match (&self.ids, &ids) {
            // A message without an id was given one when it was stored, and the reply names the sender.
            (Ids::P2p(_, to, id), Ids::P2p(by, got_to, got)) if code == 0 => {
                assert!(
                    to == got_to && (id == got || id.is_empty() && !got.is_empty()),
                    "{context}"
                );
                assert!(*by == 0 || Some(*by) == self.uid, "{context}");
            }
            (Ids::Group(to, id), Ids::Group(got_to, got)) if id.is_empty() => {
                assert!(to == got_to && (code != 0 || !got.is_empty()), "{context}");
            }
            // Other tests compare pages.
            (Ids::Sync(_), Ids::Sync(_)) if code == 0 => {}
            (expected, got) => assert_eq!(expected, got, "{context}"),
        }
    }
}

/// Returns valid requests of this user.
fn requests(world: &World, uid: i64) -> Vec<Vec<u8>> {
    let logout = ReqLogout {
        cmd: 20008,
        uid,
        ..Default::default()
    };
    let mut sent = p2p(uid + 1, "an id", "a text");
    sent.source_uid = uid;
    vec![
        login(&world.imd, uid).encode_to_vec(),
        ping().encode_to_vec(),
        sent.encode_to_vec(),
        p2p(uid + 1, "", "a text").encode_to_vec(),
        group_msg(world.group, "an id", "a text").encode_to_vec(),
        ack(uid + 1, "an id").encode_to_vec(),
        sync(1, 3).encode_to_vec(),
        logout.encode_to_vec(),
    ]
}

/// Damages a frame in one to three places.
fn mutate(frame: &mut Vec<u8>, others: &[Vec<u8>], chance: &mut StdRng) {
    for _ in 0..chance.random_range(1..=3) {
        let at = chance.random_range(0..=frame.len());
        let end = chance.random_range(at..=frame.len());
        match chance.random_range(0..9) {
            0..=2 if at < frame.len() => frame[at] ^= 1 << chance.random_range(0..8),
            3 if at < frame.len() => frame[at] = chance.random(),
            4 => frame.truncate(at),
            5 => drop(frame.drain(at..end)),
            6 => frame.insert(at, chance.random()),
            // Repeats a part of the frame. If a field occurs twice, the last one counts.
            7 => frame.extend_from_within(at..end),
            8 => {
                let other = &others[chance.random_range(0..others.len())];
                frame.splice(at..end, other.iter().copied());
            }
            _ => {}
        }
    }
}

/// Sends bytes in pieces of random lengths.
async fn in_pieces(wire: &mut Wire, mut bytes: &[u8], chance: &mut StdRng) {
    while !bytes.is_empty() {
        let max_piece = [1, 7, 64, 4_096][chance.random_range(0..4)];
        let (piece, rest) = bytes.split_at(chance.random_range(1..=bytes.len().min(max_piece)));
        // The server may have closed behind a logout.
        if !wire.try_raw(piece).await {
            return;
        }
        bytes = rest;
    }
}

#[tokio::test]
async fn a_damaged_frame_is_answered_by_the_bytes_that_arrive_however_it_is_cut() {
    let mut chance = chance();
    let imd = start(ephemeral()).await;
    let members: Vec<i64> = (0..60).map(|n| 1_000 + 2 * n).collect();
    let group = group_of(&imd, &members).await;
    let world = World { imd, group };
    for (round, uid) in members.into_iter().enumerate() {
        let requests = requests(&world, uid);
        let mut wire = Wire::connect(access(&world.imd)).await;
        let mut bound = None;
        if round % 4 != 0 {
            wire.login(&world.imd, uid).await;
            bound = Some(uid);
        }
        let mut bytes = BytesMut::new();
        let mut frames = Vec::new();
        for _ in 0..100 {
            let mut frame = requests[chance.random_range(0..requests.len())].clone();
            mutate(&mut frame, &requests, &mut chance);
            let expected = world.expected(&frame, bound);
            bound = expected.uid;
            bytes.extend_from_slice(&raw_frame(&frame));
            frames.push((frame, expected));
        }
        in_pieces(&mut wire, &bytes, &mut chance).await;
        let mut has_ended = false;
        for (frame, expected) in frames {
            let reply = loop {
                match wire.try_frame().await {
                    Some(reply) if Cmd::of(&reply) == Some(Cmd::Notify) => {}
                    Some(reply) => break reply,
                    None => panic!("no reply to {frame:02x?}: {expected:?}"),
                }
            };
            expected.check(reply, &frame);
            if expected.ends {
                assert!(wire.try_frame().await.is_none());
                has_ended = true;
                break;
            }
        }
        if !has_ended {
            wire.send(&ping()).await;
            let pong: Error = wire.answer(Cmd::Ping).await;
            assert_eq!(pong.err_code, if bound.is_some() { 0 } else { 93003 });
        }
    }
}

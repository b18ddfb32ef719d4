//! Every command in every state of a session, alone and in one read with others.
//!
//! A table of all cases. Look here for what a command does after a refused login, behind a logout, or in a session that
//! was taken over; the commands themselves have files of their own.

use bytes::{Bytes, BytesMut};
use imd::Imd;
use imd::config::SecondLogin;
use imd::proto::{Base, Cmd, Error, ReqAccessServer, ReqLogout, ReqPing, ResLogout};
use prost::Message;

use crate::support::{
    Wire, access, ack, addr_of, ephemeral, framed, gateway, group_msg, login, login_with_token,
    p2p, ping, start, start_manual, sync, until, user,
};

/// A frame that a client sends, and how it is answered: the command and the code of the reply.
struct Case {
    name: &'static str,
    frame: BytesMut,
    cmd: Cmd,
    /// The code of the reply before a login.
    before: u32,
    /// The code of the reply after the login.
    after: u32,
}

impl Case {
    /// Returns whether the session of a logged-in user ends behind the reply.
    fn ends(&self) -> bool {
        (self.cmd, self.after) == (Cmd::Logout, 0)
    }
}

/// Returns every frame that a client of this user can send.
fn cases(imd: &Imd, uid: i64) -> Vec<Case> {
    let case = |name, frame, cmd, before, after| Case {
        name,
        frame,
        cmd,
        before,
        after,
    };
    let logging_in = |uid, token: &str| framed(&login_with_token(uid, token));
    let pinging = |uid| framed(&ReqPing { uid, ..ping() });
    let leaving = |uid| {
        framed(&ReqLogout {
            cmd: 20008,
            uid,
            ..Default::default()
        })
    };
    let mut forged = p2p(1, "m", "x");
    forged.source_uid = uid + 1;
    let select = framed(&ReqAccessServer {
        cmd: 10001,
        ..Default::default()
    });
    let token = imd.token(uid);
    let foreign = imd.token(uid + 1);
    let bare = |cmd| framed(&Base { cmd });
    vec![
        case("login", logging_in(uid, &token), Cmd::Login, 0, 0),
        case(
            "login, token",
            logging_in(uid, "x"),
            Cmd::Login,
            93002,
            93002,
        ),
        case("login, none", logging_in(uid, ""), Cmd::Login, 93001, 93001),
        case("login, uid", logging_in(0, &token), Cmd::Login, 93001, 0),
        case(
            "login, swapped",
            logging_in(uid + 1, &token),
            Cmd::Login,
            93002,
            93005,
        ),
        case(
            "login, other",
            logging_in(uid + 1, &foreign),
            Cmd::Login,
            0,
            93005,
        ),
        case("ping", pinging(0), Cmd::Ping, 93003, 0),
        case("ping, own", pinging(uid), Cmd::Ping, 93003, 0),
        case("ping, other", pinging(uid + 1), Cmd::Ping, 93003, 93005),
        case("p2p", framed(&p2p(1, "m", "x")), Cmd::SendP2PMsg, 93003, 0),
        case(
            "p2p, forged",
            framed(&forged),
            Cmd::SendP2PMsg,
            93003,
            93005,
        ),
        case(
            "p2p, nobody",
            framed(&p2p(0, "m", "x")),
            Cmd::SendP2PMsg,
            93003,
            10001,
        ),
        case(
            "ack",
            framed(&ack(1, "m")),
            Cmd::AcceptP2PMsgAck,
            93003,
            91001,
        ),
        case(
            "group",
            framed(&group_msg(5, "m", "x")),
            Cmd::SendGroupMsg,
            93003,
            95001,
        ),
        case("sync", framed(&sync(0, 0)), Cmd::SyncMsg, 93003, 0),
        case("logout", leaving(uid), Cmd::Logout, 93003, 0),
        case("logout, other", leaving(uid + 1), Cmd::Logout, 93003, 93005),
        case("10001", select, Cmd::ErrServer, 10001, 10001),
        case("20007", bare(20007), Cmd::ErrServer, 10001, 10001),
        case("90001", bare(90001), Cmd::ErrServer, 10001, 10001),
        case("unknown", bare(77), Cmd::ErrServer, 10001, 10001),
        case(
            "empty",
            BytesMut::from(&[0, 0][..]),
            Cmd::ErrServer,
            10001,
            10001,
        ),
        case(
            "no protobuf",
            BytesMut::from(&[0, 1, 0xff][..]),
            Cmd::ErrServer,
            90001,
            90001,
        ),
    ]
}

/// Returns the command and the code of a reply.
fn answered(frame: Bytes) -> (u32, u32) {
    let cmd = Base::decode(frame.clone()).unwrap().cmd;
    let code = match Cmd::from_number(cmd) {
        Some(Cmd::Login | Cmd::Ping | Cmd::ErrServer) => Error::decode(frame).unwrap().err_code,
        // In every other reply the code has the same field number.
        _ => ResLogout::decode(frame).unwrap().err_code,
    };
    (cmd, code)
}

/// Waits for the next reply, and passes over notifies. Returns `None` if the server closes the connection by a FIN.
async fn next(wire: &mut Wire) -> Option<(u32, u32)> {
    loop {
        let reply = answered(wire.try_frame().await?);
        if reply.0 != Cmd::Notify.number() {
            return Some(reply);
        }
    }
}

async fn all(wire: &mut Wire) -> Vec<(u32, u32)> {
    let mut replies = Vec::new();
    while let Some(reply) = next(wire).await {
        replies.push(reply);
    }
    replies
}

const LOGOUT: (u32, u32) = (20008, 0);
const ELSEWHERE: (u32, u32) = (90001, 93004);

#[tokio::test]
async fn every_command_is_answered_in_every_state() {
    let mut config = ephemeral().manual_clock();
    config.session.second_login = SecondLogin::Demote;
    let imd = start(config).await;
    for state in ["new", "refused", "logged in", "logged in twice", "demoted"] {
        let count = cases(&imd, 100).len();
        for at in 0..count {
            let uid = 100 + 2 * i64::try_from(at).unwrap();
            let case = &cases(&imd, uid)[at];
            let mut wire = Wire::connect(access(&imd)).await;
            let mut newer = None;
            match state {
                "new" => {}
                "refused" => {
                    wire.send(&login_with_token(uid, "wrong")).await;
                    wire.error(Cmd::Login, 93002).await;
                }
                "logged in" => wire.login(&imd, uid).await,
                "logged in twice" => {
                    wire.login(&imd, uid).await;
                    wire.login(&imd, uid).await;
                }
                _ => {
                    wire.login(&imd, uid).await;
                    newer = Some(user(&imd, uid).await);
                }
            }
            let is_logged_in = !matches!(state, "new" | "refused");
            let code = if is_logged_in {
                case.after
            } else {
                case.before
            };
            wire.raw(&case.frame).await;
            let name = case.name;
            assert_eq!(
                next(&mut wire).await,
                Some((case.cmd.number(), code)),
                "{state}: {name}"
            );
            if is_logged_in && case.ends() {
                wire.finished().await;
            } else {
                // The connection stays usable, and only a successful login has bound it to a user.
                let is_bound = is_logged_in || (case.cmd, code) == (Cmd::Login, 0);
                wire.send(&ping()).await;
                let expected = (20002, if is_bound { 0 } else { 93003 });
                assert_eq!(next(&mut wire).await, Some(expected), "{state}: {name}");
            }
            if let Some(mut newer) = newer {
                newer.ping().await;
                assert!(imd.is_online(uid), "{state}: {name}");
            }
        }
    }
    // The gateway knows only its own command.
    let mut wire = Wire::connect(gateway(&imd)).await;
    for case in cases(&imd, 1) {
        wire.raw(&case.frame).await;
        let expected = match case.name {
            "10001" => (10001, 0),
            "no protobuf" => (90001, 90001),
            _ => (90001, 10001),
        };
        assert_eq!(next(&mut wire).await, Some(expected), "{}", case.name);
    }
}

#[tokio::test]
async fn a_logout_lets_the_commands_before_it_be_carried_out_and_none_behind_it() {
    let imd = start_manual().await;
    let count = cases(&imd, 100).len();
    let mut uid = 100;
    let mut stored = 0;
    for first in 0..count {
        for last in 0..count {
            uid += 2;
            let cases = cases(&imd, uid);
            let (before, behind) = (&cases[first], &cases[last]);
            let logout = &cases.iter().find(|case| case.ends()).unwrap().frame;
            let mut wire = user(&imd, uid).await;
            wire.raw(&[&before.frame[..], logout, &behind.frame].concat())
                .await;
            let mut expected = vec![(before.cmd.number(), before.after)];
            if !before.ends() {
                expected.push(LOGOUT);
            }
            let name = format!("{}, logout, {}", before.name, behind.name);
            assert_eq!(all(&mut wire).await, expected, "{name}");
            wire.finished().await;
            stored += u64::from((before.cmd, before.after) == (Cmd::SendP2PMsg, 0));
            assert_eq!(imd.report().stored, stored, "{name}");
            assert!(!imd.is_online(uid) && !imd.is_online(uid + 1), "{name}");
        }
    }
    let server = &imd.access_servers()[0];
    until(|| server.sessions().is_empty()).await;
}

/// Whatever the older session is doing, each of its replies is true, the announcement of the close comes last, and the
/// newer session receives the notifies.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_taken_over_in_a_pipeline_gets_true_replies_and_then_the_reason_of_the_close()
 {
    let imd = start(ephemeral()).await;
    let mut bob = user(&imd, 3).await;
    let count = cases(&imd, 100).len();
    let mut uid = 100;
    for first in 0..count {
        uid += 2;
        let cases = cases(&imd, uid);
        let repeated = &cases[first];
        let mut older = user(&imd, uid).await;
        let mut newer = Wire::connect(addr_of(&imd.access_servers()[1])).await;
        let pipeline = repeated.frame.repeat(50);
        let logging_in = framed(&login(&imd, uid));
        tokio::join!(older.try_raw(&pipeline), newer.raw(&logging_in));
        assert_eq!(
            next(&mut newer).await,
            Some((20001, 0)),
            "{}",
            repeated.name
        );
        let mut replies = all(&mut older).await;
        let name = repeated.name;
        match replies.pop() {
            // The user had logged out before the takeover.
            Some(LOGOUT) if repeated.ends() => assert!(replies.is_empty(), "{name}"),
            last => assert_eq!(last, Some(ELSEWHERE), "{name}"),
        }
        let expected = (repeated.cmd.number(), repeated.after);
        // A login between the takeover and the close is refused, and one after the close fails.
        let refused = (repeated.cmd, repeated.after) == (Cmd::Login, 0);
        let is_right =
            |reply| reply == expected || refused && matches!(reply, (20001, 93004 | 90001));
        assert!(
            replies.len() <= 50 && replies.into_iter().all(is_right),
            "{name}"
        );
        newer.ping().await;
        assert!(imd.is_online(uid), "{name}");
        assert_eq!(bob.p2p(uid, name, "x").await.err_code, 0);
        assert_eq!(newer.notified().await, (0, 1), "{name}");
    }
}

//! `session.second_login`: what happens to the older session of a user who logs in again. A user has one session that
//! is notified, on all access servers together.

use imd::Config;
use imd::config::SecondLogin;
use imd::proto::{Base, Cmd, Error, ReqLogout};
use prost::Message;
use tokio::runtime::Handle;

use crate::support::{Wire, access, addr_of, ephemeral, login, ping, soon, start, until, user};

fn with(second_login: SecondLogin) -> Config {
    let mut config = ephemeral();
    config.session.second_login = second_login;
    config
}

#[tokio::test]
async fn close_tells_the_older_session_and_closes_it() {
    let imd = start(with(SecondLogin::Close)).await;
    let mut older = user(&imd, 1).await;
    // The newer session is on another access server: a user has one session on the whole stack.
    let mut newer = Wire::connect(addr_of(&imd.access_servers()[1])).await;
    newer.login(&imd, 1).await;
    assert_eq!(
        older.error(Cmd::ErrServer, 93004).await,
        "logged in elsewhere"
    );
    older.finished().await;
    assert!(
        imd.is_online(1),
        "the old session can't take its successor offline"
    );
    let mut bob = user(&imd, 2).await;
    bob.p2p(1, "m", "x").await;
    assert_eq!(newer.notified().await, (0, 1));
}

#[tokio::test]
async fn demote_serves_the_older_session_and_notifies_the_newer() {
    let imd = start(with(SecondLogin::Demote)).await;
    let mut older = user(&imd, 1).await;
    let mut newer = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    bob.p2p(1, "m", "x").await;
    assert_eq!(newer.notified().await, (0, 1));
    // If the older session were notified, the notify would come before this page.
    assert_eq!(older.sync(0, 0).await.msgs.len(), 1);
    older.end().await;
    older.finished().await;
    assert!(imd.is_online(1));
}

#[tokio::test]
async fn a_demoted_session_is_notified_again_after_its_ping_when_the_newer_one_has_left() {
    let imd = start(with(SecondLogin::Demote)).await;
    let mut older = user(&imd, 1).await;
    let mut newer = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    newer.end().await;
    newer.finished().await;
    assert!(!imd.is_online(1));
    older.ping().await;
    assert!(imd.is_online(1));
    bob.p2p(1, "m", "x").await;
    assert_eq!(older.notified().await, (0, 1));
}

/// The older session may be busy with replies that its client does not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_taken_over_is_told_even_if_its_client_does_not_read() {
    let imd = start(with(SecondLogin::Close)).await;
    let mut pings = bytes::BytesMut::new();
    (0..200)
        .for_each(|_| pings.extend_from_slice(&crate::support::framed(&crate::support::ping())));
    let mut older = user(&imd, 1).await;
    for _ in 0..200 {
        older.raw(&pings).await;
        let newer = user(&imd, 1).await;
        let mut last = 0;
        while let Some(frame) = older.try_frame().await {
            last = <imd::proto::Error as prost::Message>::decode(frame)
                .unwrap()
                .err_code;
        }
        assert_eq!(last, 93004);
        older = newer;
    }
}

#[tokio::test]
async fn refuse_keeps_the_older_session() {
    let imd = start(with(SecondLogin::Refuse)).await;
    let mut older = user(&imd, 1).await;
    let mut newer = Wire::connect(access(&imd)).await;
    newer.send(&login(&imd, 1)).await;
    assert_eq!(newer.error(Cmd::Login, 93004).await, "logged in elsewhere");
    older.ping().await;
    older.login(&imd, 1).await;
    older.end().await;
    older.finished().await;
    // The older session is gone, so this login is accepted.
    newer.login(&imd, 1).await;
    assert!(imd.is_online(1));
}

#[tokio::test]
async fn one_session_remains_of_many_concurrent_logins() {
    let imd = start(with(SecondLogin::Close)).await;
    let mut wires = Vec::new();
    for n in 0..20 {
        wires.push(Wire::connect(addr_of(&imd.access_servers()[n % 3])).await);
    }
    for wire in &mut wires {
        wire.send(&login(&imd, 1)).await;
    }
    let mut displaced = 0;
    let mut survivors = Vec::new();
    for wire in &mut wires {
        assert_eq!(wire.error(Cmd::Login, 0).await, "ok");
    }
    for mut wire in wires {
        wire.send(&crate::support::ping()).await;
        let error: imd::proto::Error = prost::Message::decode(wire.frame().await).unwrap();
        match error.err_code {
            93004 => displaced += 1,
            _ => survivors.push(wire),
        }
    }
    assert_eq!((displaced, survivors.len()), (19, 1));
    let mut bob = user(&imd, 2).await;
    bob.p2p(1, "m", "x").await;
    assert_eq!(survivors[0].notified().await, (0, 1));
}

/// Reads until the server closes the connection, and returns the code of the last frame.
async fn last_code(wire: &mut Wire) -> u32 {
    let mut last = None;
    while let Some(frame) = wire.try_frame().await {
        last = Some(frame);
    }
    let last = last.expect("nothing came before the end");
    let is_error = Base::decode(last.clone()).unwrap().cmd == Cmd::ErrServer.number();
    assert!(is_error, "{last:02x?}");
    Error::decode(last).unwrap().err_code
}

/// A few users log in from many connections. Some of them hang up, some log out, and some stay until they are taken
/// over.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_logins_leaves_one_session_for_each_user() {
    const USERS: i64 = 6;
    let imd = start(with(SecondLogin::Close)).await;
    let mut bob = user(&imd, 100).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let addrs: Vec<_> = imd
        .access_servers()
        .iter()
        .map(|server| addr_of(server))
        .collect();
    let clients: Vec<_> = (0..48)
        .map(|client| {
            let login = login(&imd, 1 + client % USERS);
            let addrs = addrs.clone();
            tokio::spawn(async move {
                let mut held = Vec::new();
                for n in 0..25 {
                    let at = usize::try_from(client).unwrap() + n;
                    let mut wire = Wire::connect(addrs[at % addrs.len()]).await;
                    wire.send(&login).await;
                    assert_eq!(wire.error(Cmd::Login, 0).await, "ok");
                    match at % 5 {
                        0 => drop(wire),
                        1 => {
                            let logout = ReqLogout {
                                cmd: 20008,
                                ..Default::default()
                            };
                            wire.try_raw(&crate::support::framed(&logout)).await;
                            // The logout was answered, or the session had been taken over before.
                            let frame = wire.try_frame().await.unwrap();
                            let reply = Error::decode(frame).unwrap_or_default();
                            assert!([0, 93004].contains(&reply.err_code));
                        }
                        _ => held.push(wire),
                    }
                }
                held
            })
        })
        .collect();
    let mut held = Vec::new();
    for client in clients {
        held.extend(soon(client).await.unwrap());
    }
    let mut last = Vec::new();
    for uid in 1..=USERS {
        last.push(user(&imd, uid).await);
    }
    for wire in &mut held {
        assert_eq!(last_code(wire).await, 93004);
    }
    drop(held);
    until(|| tasks() <= before + last.len()).await;
    let mut uids = Vec::new();
    for server in imd.access_servers() {
        uids.extend(
            server
                .sessions()
                .sessions()
                .filter_map(|session| session.uid()),
        );
    }
    uids.sort_unstable();
    assert_eq!(uids, [1, 2, 3, 4, 5, 6, 100], "each is there once");
    for (uid, wire) in (1..).zip(&mut last) {
        assert!(imd.is_online(uid));
        bob.p2p(uid, "m", "x").await;
        assert_eq!(wire.notified().await, (0, 1));
        wire.send(&ping()).await;
        wire.error(Cmd::Ping, 0).await;
    }
    drop(last);
    until(|| tasks() <= before).await;
    assert!((1..=USERS).all(|uid| !imd.is_online(uid)));
}

//! Each switch of `[quirks]`: off, the stack does what the contract says; on, it does what the original stack does.
//!
//! Proves docs/quirks.md and `config/quirks`. One test for each switch has its name.

use std::time::Duration;

use imd::config::{Quirks, SecondLogin};
use imd::lab::{Fault, Site};
use imd::proto::{
    Cmd, Code, Error, OffsetMsg, ReqAcceptP2pMsgAck, ReqLogout, ReqPing, ReqSendGroupMsg,
    ReqSendP2pMsg, ReqSyncMsg, ResAcceptP2pMsgAck, ResLogin, ResLogout, ResSendGroupMsg,
    ResSendP2pMsg, ResSyncMsg,
};
use imd::{Config, Imd};
use prost::Message;

use crate::support::{
    Wire, access, ack, addr_in, ephemeral, gateway, group_of, login, login_with_token, p2p, ping,
    soon, start, sync, texts, user, user_with_mail, versions,
};

const GAP: Duration = Duration::from_secs(10);

const SECOND: Duration = Duration::from_secs(1);

fn config(quirks: Quirks) -> Config {
    Config {
        quirks,
        ..ephemeral().manual_clock()
    }
}

async fn with(quirks: Quirks) -> Imd {
    start(config(quirks)).await
}

async fn without() -> Imd {
    with(Quirks::default()).await
}

/// Ann sends these texts to Bob, who is offline.
async fn send_offline(imd: &Imd, all: &[&str]) {
    let mut ann = user(imd, 1).await;
    for text in all {
        assert_eq!(ann.p2p(2, text, text).await.err_code, 0);
    }
}

/// Checks that nothing but the reply to a ping is written to the session.
async fn is_quiet(wire: &mut Wire) {
    wire.ping().await;
}

#[tokio::test]
async fn notify_before_store() {
    let imd = without().await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    ann.send(&p2p(2, "a", "one")).await;
    assert_eq!(bob.notified().await, (0, 1));
    assert_eq!(imd.report().stored, 1);
    assert_eq!(texts(&bob.sync(0, 0).await.msgs), ["one"]);

    let imd = with(Quirks {
        notify_before_store: true,
        notify_gap: GAP,
        ..Quirks::default()
    })
    .await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    ann.send(&p2p(2, "a", "one")).await;
    // The notify says that the message is stored, which it is not yet: a sync finds nothing.
    assert_eq!(bob.notified().await, (0, 1));
    let page = bob.sync(0, 0).await;
    assert_eq!((page.msgs.len(), page.current_id, page.total_id), (0, 0, 0));
    imd.clock().advance(GAP - SECOND).await;
    assert_eq!(bob.sync(0, 0).await.msgs.len(), 0);
    assert_eq!(imd.report().stored, 0);
    imd.clock().advance(SECOND).await;
    assert_eq!(imd.report().stored, 1);
    // The code 0 still means that the message is stored.
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    // If the message were notified again when it is stored, the notify would have been sent by the time of Ann's reply.
    is_quiet(&mut ann).await;
    is_quiet(&mut bob).await;
    assert_eq!(texts(&bob.sync(0, 0).await.msgs), ["one"]);

    // Two messages of one read are notified as one, up to the second. Group messages and acks are notified only when
    // they are stored.
    let gid = group_of(&imd, &[1, 2]).await;
    bob.sync(1, 0).await;
    ann.send_all(&[p2p(2, "b", "two"), p2p(2, "c", "three")])
        .await;
    assert_eq!(bob.notified().await, (1, 3));
    imd.clock().advance(GAP).await;
    for _ in 0..2 {
        let _: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    }
    assert_eq!(ann.group(gid, "g", "four").await.err_code, 0);
    assert_eq!(ann.notified().await, (0, 1));
    assert_eq!(bob.notified().await, (1, 4));
    bob.send(&ack(1, "a")).await;
    assert_eq!(ann.notified().await, (0, 2));
}

/// A receiver who is offline can't be notified early, so the message is stored without the gap.
#[tokio::test]
async fn notify_before_store_does_not_wait_for_offline_receivers() {
    let imd = with(Quirks {
        notify_before_store: true,
        notify_gap: GAP,
        ..Quirks::default()
    })
    .await;
    send_offline(&imd, &["one"]).await;
    let mut bob = user_with_mail(&imd, 2, (0, 1)).await;
    assert_eq!(texts(&bob.sync(0, 0).await.msgs), ["one"]);
}

/// The gap may be of any length.
#[tokio::test]
async fn a_shutdown_ends_the_gap_and_stores_the_messages_in_it() {
    let imd = with(Quirks {
        notify_before_store: true,
        notify_gap: Duration::from_secs(3600),
        ..Quirks::default()
    })
    .await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    ann.send(&p2p(2, "a", "one")).await;
    assert_eq!(bob.notified().await, (0, 1));
    let report = soon(imd.shutdown()).await;
    assert_eq!((report.stored, report.unfinished), (1, 0));
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
}

#[tokio::test]
async fn sync_inclusive() {
    let long = "x".repeat(32_768);
    let all = ["one", "two", "three", &long];

    let imd = without().await;
    send_offline(&imd, &all[..3]).await;
    let mut bob = user_with_mail(&imd, 2, (0, 3)).await;
    assert_eq!(versions(&bob.sync(1, 0).await), [2, 3]);
    assert_eq!(versions(&bob.sync(3, 0).await), [0; 0]);

    let imd = with(Quirks {
        sync_inclusive: true,
        ..Quirks::default()
    })
    .await;
    send_offline(&imd, &all[..3]).await;
    let mut bob = user_with_mail(&imd, 2, (0, 3)).await;
    assert_eq!(versions(&bob.sync(0, 0).await), [1, 2, 3]);
    let page = bob.sync(1, 0).await;
    assert_eq!(
        (versions(&page), page.current_id, page.total_id),
        (vec![1, 2, 3], 3, 3)
    );
    // The read mark is the currentID of the request; only the page begins one earlier.
    let mut again = user_with_mail(&imd, 2, (1, 3)).await;
    // A reader who has everything gets an empty page: the original checks for that first.
    let page = again.sync(3, 0).await;
    assert_eq!((versions(&page), page.current_id), (vec![], 3));
    // A request beyond totalID is answered from the first message, as by the contract.
    assert_eq!(versions(&again.sync(4, 0).await), [1, 2, 3]);
    assert_eq!(versions(&again.sync(9, 0).await), [1, 2, 3]);
    // A page of one message would hold only the one that the client has, and the client would ask for it again and
    // again.
    let page = again.sync(1, 1).await;
    assert_eq!((versions(&page), page.current_id), (vec![2], 2));
    assert_eq!(again.notified().await, (2, 3));
    assert_eq!(versions(&again.sync(1, 2).await), [1, 2]);
    assert_eq!(again.notified().await, (2, 3));
    let mut ann = user(&imd, 1).await;
    for id in ["four", "five"] {
        ann.p2p(2, id, &long).await;
        let _ = again.notified().await;
    }
    assert_eq!(versions(&again.sync(4, 0).await), [5], "no room for two");
}

#[tokio::test]
async fn sync_drops_group_id() {
    let mut entries = Vec::new();
    for sync_drops_group_id in [false, true] {
        let imd = with(Quirks {
            sync_drops_group_id,
            ..Quirks::default()
        })
        .await;
        let gid = group_of(&imd, &[1, 2]).await;
        let mut ann = user(&imd, 1).await;
        assert_eq!(ann.group(gid, "g", "hello").await.err_code, 0);
        let mut bob = user_with_mail(&imd, 2, (0, 1)).await;
        let entry = bob.sync(0, 0).await.msgs.remove(0);
        let expected = if sync_drops_group_id { 0 } else { gid };
        assert_eq!(entry.group_id, expected);
        entries.push(OffsetMsg {
            group_id: 0,
            ..entry
        });
    }
    assert_eq!(entries[0], entries[1], "all else is there");
    assert_eq!(entries[1].msg_type, "group");
}

/// Returns a message of a client that never logs in, but names its user.
fn p2p_of(source_uid: i64, target: i64, id: &str) -> ReqSendP2pMsg {
    ReqSendP2pMsg {
        source_uid,
        ..p2p(target, id, id)
    }
}

fn sync_of(uid: i64, current: i64, limit: u32) -> ReqSyncMsg {
    ReqSyncMsg {
        uid,
        ..sync(current, limit)
    }
}

fn ping_of(uid: i64) -> ReqPing {
    ReqPing { uid, ..ping() }
}

#[tokio::test]
async fn login_not_required() {
    let imd = without().await;
    let mut wire = Wire::connect(access(&imd)).await;
    wire.send(&p2p_of(1, 2, "a")).await;
    let reply: ResSendP2pMsg = wire.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 93003);
    wire.send(&sync_of(2, 0, 0)).await;
    let page: ResSyncMsg = wire.recv(Cmd::SyncMsg).await;
    assert_eq!(page.err_code, 93003);

    let imd = with(Quirks {
        login_not_required: true,
        ..Quirks::default()
    })
    .await;
    let gid = group_of(&imd, &[1, 2]).await;
    let mut bob = user(&imd, 2).await;
    let mut wire = Wire::connect(access(&imd)).await;
    wire.send_all(&[p2p_of(1, 2, "a"), p2p_of(1, 2, "b")]).await;
    for _ in 0..2 {
        let reply: ResSendP2pMsg = wire.recv(Cmd::SendP2PMsg).await;
        assert_eq!((reply.err_code, reply.source_uid), (0, 1));
    }
    wire.send(&ReqSendGroupMsg {
        cmd: 20005,
        source_uid: 1,
        group_id: gid,
        msg: "c".into(),
        ..Default::default()
    })
    .await;
    let reply: ResSendGroupMsg = wire.recv(Cmd::SendGroupMsg).await;
    assert_eq!(reply.err_code, 0);
    // The user who accepts is named as the target.
    wire.send(&ReqAcceptP2pMsgAck {
        target_uid: 2,
        ..ack(1, "a")
    })
    .await;
    let reply: ResAcceptP2pMsgAck = wire.recv(Cmd::AcceptP2PMsgAck).await;
    assert_eq!(reply.err_code, 0);

    // The session can read any inbox and move its read mark. It is not notified of the rest, because it belongs to no
    // user.
    wire.send(&sync_of(2, 1, 1)).await;
    let page: ResSyncMsg = wire.recv(Cmd::SyncMsg).await;
    assert_eq!((versions(&page), page.total_id), (vec![2], 3));
    assert_eq!(page.msgs[0].source_uid, 1);
    wire.send(&ping_of(1)).await;
    wire.error(Cmd::Ping, 0).await;
    assert!(!imd.is_online(1), "nor is anyone there because of it");

    // A ping renews the presence of the user whom it names, if that user is online.
    imd.clock().advance(14 * SECOND).await;
    wire.send(&ping_of(2)).await;
    wire.error(Cmd::Ping, 0).await;
    imd.clock().advance(14 * SECOND).await;
    assert!(imd.is_online(2));

    // Before a login, a request that names no user is refused. After it, the session's user counts, and naming another is
    // refused, as by the contract.
    assert_eq!(wire.p2p(2, "d", "d").await.err_code, 93003);
    wire.send(&ping()).await;
    wire.error(Cmd::Ping, 93003).await;
    wire.send(&login_with_token(1, "wrong")).await;
    wire.error(Cmd::Login, 93002).await;
    wire.login(&imd, 1).await;
    assert_eq!(wire.notified().await, (0, 2));
    wire.send(&sync_of(2, 0, 0)).await;
    let page: ResSyncMsg = wire.recv(Cmd::SyncMsg).await;
    assert_eq!(page.err_code, 93005);

    // A logout ends the session that sends it, not that of the user whom it names.
    let mut other = Wire::connect(access(&imd)).await;
    other
        .send(&ReqLogout {
            cmd: 20008,
            uid: 2,
            ..Default::default()
        })
        .await;
    let reply: ResLogout = other.recv(Cmd::Logout).await;
    assert_eq!(reply.err_code, 0);
    other.finished().await;
    assert!(imd.is_online(2));
    // Bob's session is still served.
    bob.send(&ping()).await;
    let pong: Error = bob.answer(Cmd::Ping).await;
    assert_eq!(pong.err_code, 0);
}

#[tokio::test]
async fn login_not_required_relaxes_nothing_else() {
    let mut config = config(Quirks {
        login_not_required: true,
        ..Quirks::default()
    });
    config.auth.auto_register = false;
    let imd = start(config).await;
    let mut wire = Wire::connect(access(&imd)).await;
    wire.send(&p2p_of(1, 2, "a")).await;
    let reply: ResSendP2pMsg = wire.recv(Cmd::SendP2PMsg).await;
    assert_eq!((reply.err_code, reply.msg_id.as_str()), (94002, "a"));
    // The deadline for the login is five minutes, whatever the session sends before it.
    imd.clock().advance(Duration::from_secs(301)).await;
    wire.finished().await;
}

#[tokio::test]
async fn no_msg_id_in_replies() {
    for no_msg_id_in_replies in [false, true] {
        let imd = with(Quirks {
            no_msg_id_in_replies,
            ..Quirks::default()
        })
        .await;
        let gid = group_of(&imd, &[1]).await;
        let mut ann = user(&imd, 1).await;
        let full = ResSendP2pMsg {
            cmd: 20003,
            err_str: "ok".into(),
            source_uid: 1,
            target_uid: 2,
            msg_id: "m".into(),
            ..Default::default()
        };
        let bare = ResSendP2pMsg {
            cmd: 20003,
            err_str: "ok".into(),
            ..Default::default()
        };
        let expected = if no_msg_id_in_replies { bare } else { full };
        assert_eq!(ann.p2p(2, "m", "x").await, expected);

        let group = ann.group(gid, "g", "x").await;
        // Ann is a member of the group too.
        assert_eq!(ann.notified().await, (0, 1));
        let refused = ann.group(gid + 1, "g", "x").await;
        assert_eq!((group.err_code, refused.err_code), (0, 95001));
        let (ids, refused_ids) = if no_msg_id_in_replies {
            ((0, ""), (0, ""))
        } else {
            ((gid, "g"), (gid + 1, "g"))
        };
        assert_eq!((group.group_id, group.msg_id.as_str()), ids);
        assert_eq!((refused.group_id, refused.msg_id.as_str()), refused_ids);
        // The reply to a message that is refused follows the quirk too.
        let mut wire = Wire::connect(access(&imd)).await;
        let reply = wire.p2p(2, "m", "x").await;
        assert_eq!(reply.msg_id.is_empty(), no_msg_id_in_replies);
    }
}

#[tokio::test]
async fn old_session_stays_open() {
    let imd = without().await;
    let mut older = user(&imd, 1).await;
    let _newer = user(&imd, 1).await;
    older.error(Cmd::ErrServer, 93004).await;
    older.finished().await;

    let quirks = Quirks {
        old_session_stays_open: true,
        ..Quirks::default()
    };
    let imd = with(quirks).await;
    let (mut older, mut newer) = (user(&imd, 1).await, user(&imd, 1).await);
    let mut bob = user(&imd, 2).await;
    bob.p2p(1, "m", "x").await;
    assert_eq!(newer.notified().await, (0, 1));
    is_quiet(&mut older).await;
    assert_eq!(texts(&older.sync(0, 0).await.msgs), ["x"], "but served");

    // The two switches exclude each other.
    let mut config = config(quirks);
    assert_eq!(config.second_login(), SecondLogin::Demote);
    config.session.second_login = SecondLogin::Refuse;
    let error = config.validate().unwrap_err().to_string();
    assert!(
        error.starts_with("quirks.old_session_stays_open: means"),
        "{error}"
    );
}

#[tokio::test]
async fn gateway_starts_empty() {
    let imd = without().await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    assert_eq!(wire.ask().await.err_code, 0);

    let imd = with(Quirks {
        gateway_starts_empty: true,
        ..Quirks::default()
    })
    .await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    let none = wire.ask().await;
    assert_eq!(
        (none.err_code, none.err_str.as_str(), none.addr.as_str()),
        (92001, "no accessServer", "")
    );
    imd.clock().advance(5 * SECOND).await;
    let one = wire.ask().await;
    assert_eq!(one.err_code, 0);
    Wire::connect(addr_in(&one)).await;
}

#[tokio::test]
async fn replies_as_schema() {
    for replies_as_schema in [false, true] {
        let imd = with(Quirks {
            replies_as_schema,
            ..Quirks::default()
        })
        .await;
        let mut wire = Wire::connect(access(&imd)).await;
        wire.send(&ping()).await;
        wire.send(&login_with_token(1, "wrong")).await;
        wire.send(&login(&imd, 1)).await;
        wire.send(&ping()).await;
        let expected = [
            (20002, 93003, "not logged in"),
            (20001, 93002, "calc token failed"),
            (20001, 0, "ok"),
            (20002, 0, "ok"),
        ];
        for (cmd, err_code, err_str) in expected {
            let err_str = err_str.to_owned();
            let bytes = if replies_as_schema {
                ResLogin {
                    cmd,
                    err_code,
                    err_str,
                    ..Default::default()
                }
                .encode_to_vec()
            } else {
                Error {
                    cmd,
                    err_code,
                    err_str,
                }
                .encode_to_vec()
            };
            assert_eq!(wire.frame().await[..], bytes);
        }
        // An error that belongs to no request keeps its form.
        wire.send(&imd::proto::Base { cmd: 7 }).await;
        wire.error(Cmd::ErrServer, 10001).await;
    }
}

/// The error of a fault has the same form as an error of the stack, whatever the quirks.
#[tokio::test]
async fn the_errors_of_faults_have_the_form_of_the_others() {
    let imd = with(Quirks {
        no_msg_id_in_replies: true,
        replies_as_schema: true,
        ..Quirks::default()
    })
    .await;
    let refused = |cmd: Cmd| ResLogin {
        cmd: cmd.number(),
        err_code: 90001,
        err_str: "server error".into(),
        ..Default::default()
    };
    let mut wire = Wire::connect(access(&imd)).await;
    let error = |at| Fault::at(at).error(Code::ServerError);
    for (at, cmd) in [
        (Site::AccessLogin, Cmd::Login),
        (Site::AccessReply, Cmd::Login),
        (Site::AccessRequest, Cmd::Ping),
        (Site::AccessReply, Cmd::Ping),
    ] {
        let fault = imd.fault(error(at));
        if cmd == Cmd::Login {
            wire.send(&login(&imd, 1)).await;
        } else {
            wire.send(&ping()).await;
        }
        let reply: ResLogin = wire.recv(cmd).await;
        assert_eq!((reply, fault.hits()), (refused(cmd), 1), "{at}");
    }
    let gid = group_of(&imd, &[1]).await;
    for at in [Site::AccessRequest, Site::AccessReply, Site::StoreWrite] {
        let fault = imd.fault(error(at));
        wire.send(&p2p(2, "m", "x")).await;
        let p2p: ResSendP2pMsg = wire.answer(Cmd::SendP2PMsg).await;
        let ids = (p2p.source_uid, p2p.target_uid, p2p.msg_id.as_str());
        assert_eq!((p2p.err_code, ids), (90001, (0, 0, "")), "{at}");
        drop(fault);
        let _fault = imd.fault(error(at));
        // Only the reply is wrong: the message is stored, and Ann is notified of it as a member.
        wire.send(&crate::support::group_msg(gid, "g", "x")).await;
        let group: ResSendGroupMsg = wire.answer(Cmd::SendGroupMsg).await;
        let ids = (group.group_id, group.msg_id.as_str());
        assert_eq!((group.err_code, ids), (90001, (0, "")), "{at}");
    }
}

const SWITCHES: [&str; 8] = [
    "notify_before_store",
    "sync_inclusive",
    "sync_drops_group_id",
    "login_not_required",
    "no_msg_id_in_replies",
    "old_session_stays_open",
    "gateway_starts_empty",
    "replies_as_schema",
];

#[test]
fn the_config_has_a_switch_for_each_and_all_are_off() {
    let printed: toml::Table = Config::default().to_toml().unwrap().parse().unwrap();
    let table = printed["quirks"].as_table().unwrap();
    let mut keys = [&SWITCHES[..], &["notify_gap"]].concat();
    keys.sort_unstable();
    assert_eq!(table.keys().collect::<Vec<_>>(), keys);

    let off = Config::from_toml("", "imd.toml").unwrap().quirks;
    assert_eq!((off, off.on().count()), (Quirks::default(), 0));
    for name in SWITCHES {
        let text = format!("[quirks]\n{name} = true\n");
        let config = Config::from_toml(&text, "imd.toml").unwrap();
        assert_eq!(config.quirks.on().collect::<Vec<_>>(), [name]);
        let printed = config.to_toml().unwrap();
        assert_eq!(Config::from_toml(&printed, "printed").unwrap(), config);
    }
    let all: String = SWITCHES.map(|name| format!("{name} = true\n")).concat();
    let text = format!("[quirks]\nnotify_gap = \"1h\"\n{all}");
    let quirks = Config::from_toml(&text, "imd.toml").unwrap().quirks;
    assert_eq!(quirks.on().collect::<Vec<_>>(), SWITCHES);
    assert_eq!(quirks.notify_gap, Duration::from_secs(3600));
}

#[test]
fn every_switch_is_described() {
    let described = include_str!("../../docs/quirks.md");
    for name in SWITCHES {
        assert!(described.contains(&format!("## `{name}`")), "{name}");
    }
}

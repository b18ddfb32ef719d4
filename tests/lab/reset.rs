//! A reset replaces everything in a running stack, by nothing or by a snapshot.
//!
//! What clients sent before the reset is removed with the old contents, and all sessions end. New ids are greater than
//! the old ones, and tokens stay valid. A failed reset may leave sessions closed or the store empty: see `Reset::reset`.
//! Proves `imd::reset`; the file format is tested in `bad_snapshots`.

use std::time::Duration;

use imd::access::ServerState;
use imd::config::Strategy;
use imd::lab::{Capture, Fault, Mark, Site};
use imd::proto::{Cmd, ResSendP2pMsg};
use imd::reset::ResetError;
use imd::store::{ReplaceError, Snapshot};
use imd::{Config, Imd};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admin::{call, get, post};
use crate::support::gated_store::start_gated;
use crate::support::{
    Wire, access, ephemeral, for_this_run, gateway, group_of, login, p2p, post as stack_post, soon,
    start, start_manual, texts, until, user, user_with_mail,
};

const ORIGIN: &str = r#"
[[user]]
uid = 7
name = "ann"
[[group]]
gid = 50
members = [7, 8]
[[fault]]
name = "mute"
at = "access.reply"
cmd = "Ping"
uid = 99
drop = true
"#;

fn durable(folder: &TempDir) -> Config {
    let mut config = ephemeral().manual_clock();
    config.store.path = Some(folder.path().join("data"));
    config
}

async fn register(imd: &Imd, uid: i64) -> u64 {
    let form = format!("uid={uid}&pw=a+secret");
    let (_, answer) = stack_post(imd.user_api_addr(), "/x/user/register", &form).await;
    answer["code"].as_u64().unwrap()
}

async fn token(imd: &Imd, uid: i64) -> Option<String> {
    let form = format!("uid={uid}&pw=a+secret");
    let (_, answer) = stack_post(imd.user_api_addr(), "/x/user/auth", &form).await;
    answer["data"]["token"].as_str().map(str::to_owned)
}

/// Returns the contents of the store, without the passwords.
async fn held(imd: &Imd) -> [Value; 3] {
    let [users, groups, inboxes] = ["users", "groups", "inboxes"].map(|what| format!("/v1/{what}"));
    [
        get(imd, &users).await,
        get(imd, &groups).await,
        get(imd, &inboxes).await,
    ]
}

/// Waits until the session is told of the reset and closed.
async fn wait_for_end(wire: &mut Wire) {
    let why = wire.error(Cmd::ErrServer, 90001).await;
    assert_eq!(why, "server error: everything was reset");
    wire.finished().await;
}

#[tokio::test]
async fn a_reset_stack_is_as_new_and_its_listeners_stay() {
    let mut config = Config::from_toml(ORIGIN, "imd.toml")
        .unwrap()
        .manual_clock();
    config.any_port();
    config.journal.capture = Capture::Always;
    let imd = start(for_this_run(config)).await;
    let fresh = held(&imd).await;
    let (addresses, listed) = (imd.addresses(), imd.faults().list());
    let mut ann = user(&imd, 1).await;
    let mut asking = Wire::connect(gateway(&imd)).await;
    asking.ask().await;
    register(&imd, 5).await;
    group_of(&imd, &[1, 2]).await;
    ann.p2p(2, "a", "hello").await;
    assert_eq!(ann.group(77, "b", "x").await.err_code, 95001);
    imd.faults().clear();
    imd.fault(Fault::at(Site::Notify)).keep();
    imd.registry().advertise("access-1", "127.0.0.1:1").unwrap();
    imd.registry().freeze();
    imd.registry().expire("access-2");
    imd.access("access-2").unwrap().kill().await;
    imd.access("access-3").unwrap().pause().await;
    imd.settled().await;
    let mark = imd.journal().mark();

    soon(imd.reset()).await.unwrap();

    wait_for_end(&mut ann).await;
    asking.error(Cmd::ErrServer, 90001).await;
    asking.finished().await;
    assert!(!imd.is_online(1));
    assert_eq!(held(&imd).await, fresh);
    assert_eq!(imd.addresses(), addresses);
    let reported = imd.report();
    assert_eq!(
        (
            reported.stored,
            reported.refused,
            reported.inboxes.len(),
            reported.refusals.len()
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(imd.faults().list(), listed);
    assert!(imd.journal().since(Mark(0)).is_empty());
    assert!(imd.journal().mark() > mark, "the numbers go on");
    let states = imd
        .access_servers()
        .into_iter()
        .map(|server| server.state());
    assert!(
        states
            .into_iter()
            .all(|state| state == ServerState::Running)
    );
    let records = get(&imd, "/v1/registry").await;
    assert_eq!(records["records"].as_array().unwrap().len(), 3);
    assert_eq!(
        (
            &records["frozen"],
            records["records"][0]["IP"] == "127.0.0.1:1"
        ),
        (&json!(false), false)
    );
    // The gateway has read the new list, although the clock stands.
    let mut asking = Wire::connect(gateway(&imd)).await;
    for _ in 0..50 {
        assert_ne!(asking.ask().await.addr, "127.0.0.1:1");
    }
    // The stack works as after its start.
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    assert_eq!(ann.p2p(2, "a", "again").await.err_code, 0);
    assert_eq!(bob.notified().await, (0, 1));
    assert_eq!(register(&imd, 7).await, 94001, "of the config");
    let unnamed = imd.fault(Fault::at(Site::Notify));
    assert_eq!(unnamed.name(), "fault-1");
}

#[tokio::test]
async fn ids_and_tokens_outlive_a_reset() {
    let imd = start_manual().await;
    register(&imd, 1).await;
    let token = token(&imd, 1).await.unwrap();
    let before = group_of(&imd, &[1]).await;
    // The wall clock goes back by an hour. Ids still rise, because the last one is remembered across the reset.
    imd.clock().skew(-3_600_000).unwrap();
    soon(imd.reset()).await.unwrap();
    assert!(group_of(&imd, &[1]).await > before);
    let mut wire = Wire::connect(access(&imd)).await;
    let mut login = login(&imd, 1);
    login.token = token;
    wire.send(&login).await;
    wire.error(Cmd::Login, 0).await;
}

#[tokio::test]
async fn a_folder_is_emptied_only_with_a_confirmation() {
    let folder = tempfile::tempdir().unwrap();
    let imd = start(durable(&folder)).await;
    let mut ann = user(&imd, 1).await;
    ann.p2p(2, "a", "hello").await;
    let saved = imd.snapshot().await.unwrap();
    for refused in [imd.reset().await, imd.load(Snapshot::default()).await] {
        assert!(matches!(refused, Err(ResetError::NotConfirmed { .. })));
    }
    let (status, why) = call(&imd, "POST", "/v1/reset", Value::Null).await;
    let why = why["error"].as_str().unwrap();
    assert_eq!(status, 409);
    assert!(
        why.contains("data") && why.ends_with(r#"send {"confirm": true}"#),
        "{why}"
    );
    let mut lines = Vec::new();
    saved.write(&mut lines).unwrap();
    let lines = Value::String(String::from_utf8(lines).unwrap());
    let (status, why) = call(&imd, "PUT", "/v1/snapshot", lines.clone()).await;
    assert_eq!(status, 409);
    assert!(
        why["error"].as_str().unwrap().ends_with("?confirm=true"),
        "{why}"
    );
    // The refused snapshot has changed nothing.
    ann.ping().await;
    assert_eq!(imd.report().stored, 1);

    post(&imd, "/v1/reset", json!({ "confirm": true })).await;
    wait_for_end(&mut ann).await;
    assert!(imd.snapshot().await.unwrap() != saved);
    let (status, _) = call(&imd, "PUT", "/v1/snapshot?confirm=true", lines).await;
    assert_eq!(status, 200);
    soon(imd.reset_durable()).await.unwrap();
    soon(imd.load_durable(saved.clone())).await.unwrap();
    imd.shutdown().await;
    let imd = start(durable(&folder)).await;
    assert!(imd.snapshot().await.unwrap() == saved);
}

#[tokio::test]
async fn a_snapshot_with_a_hash_that_costs_too_much_is_refused_with_its_line() {
    let imd = start(ephemeral()).await;
    let (salt, output) = ("A".repeat(22), "B".repeat(42) + "A");
    for params in ["m=4194304,t=50,p=1", "m=8,t=4294967295,p=1"] {
        let lines = format!(
            r#"{{"imd_snapshot":{{"format":1,"newest":0}}}}
{{"user":{{"uid":9,"name":"","password_hash":"$argon2id$v=19${params}${salt}${output}"}}}}
{{"end":{{"lines":2}}}}
"#
        );
        let (status, why) = call(&imd, "PUT", "/v1/snapshot", lines.into()).await;
        let why = why["error"].as_str().unwrap();
        assert_eq!(status, 400, "{why}");
        assert!(why.starts_with("line 2: the password hash has "), "{why}");
        assert!(why.contains("m up to 65536 (KiB), t up to 10"), "{why}");
        assert!(!why.contains(&output), "{why}");
    }
}

/// The snapshot is taken from memory and loaded into a folder, and the other way round.
#[tokio::test]
async fn clients_go_on_from_a_snapshot_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let memory = start_manual().await;
    let kept = start(durable(&folder)).await;
    for (from, to) in [(&memory, &kept), (&kept, &memory)] {
        soon(to.reset_durable()).await.unwrap();
        soon(from.reset_durable()).await.unwrap();
        register(from, 1).await;
        let group = group_of(from, &[1, 2]).await;
        let mut ann = user(from, 1).await;
        ann.p2p(2, "a", "hello").await;
        ann.p2p(2, "b", "hello again").await;
        let mut bob = user(from, 2).await;
        bob.notified().await;
        bob.sync(1, 0).await;

        let lines = get(from, "/v1/snapshot").await;
        let mut there = user(to, 9).await;
        let (status, why) = call(to, "PUT", "/v1/snapshot?confirm=true", lines.clone()).await;
        assert_eq!(status, 200, "{why}");
        wait_for_end(&mut there).await;
        assert_eq!(get(to, "/v1/snapshot").await, lines);

        assert!(token(to, 1).await.is_some(), "the password is the same");
        let mut ann = user(to, 1).await;
        // The client did not get the reply, and sends the message again.
        assert_eq!(ann.p2p(2, "b", "hello again").await.err_code, 0);
        assert_eq!(ann.group(group, "c", "to all").await.err_code, 0);
        assert_eq!(ann.notified().await, (0, 1));
        let mut bob = user_with_mail(to, 2, (1, 3)).await;
        let page = bob.sync(2, 0).await;
        assert_eq!(texts(&page.msgs), ["to all"]);
        assert_eq!(bob.accept(1, "a").await.err_code, 0);
        assert!(group_of(to, &[1]).await > group, "ids go on");
        // Only what was stored since the load is counted: a message to each of two members, and the ack.
        assert_eq!(to.report().stored, 3);
        to.report().assert_no_loss();
    }
}

#[tokio::test]
async fn an_incomplete_snapshot_changes_nothing() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.p2p(2, "a", "hello").await;
    let lines = get(&imd, "/v1/snapshot").await.as_str().unwrap().to_owned();
    let newer = lines.replace("\"format\":1", "\"format\":2");
    let last = lines.trim_end().rfind('\n').unwrap();
    for (file, why) in [
        (lines.replace("hello", "hallo"), "it is damaged"),
        (lines[..last + 1].to_owned(), "the file ends here"),
        (lines[..last - 9].to_owned(), "line"),
        (newer, "line 1"),
        ("hello".to_owned(), "line 1: this is no snapshot of imd"),
    ] {
        let (status, reported) = call(&imd, "PUT", "/v1/snapshot", Value::String(file)).await;
        let reported = reported["error"].as_str().unwrap();
        assert_eq!(status, 400);
        assert!(
            reported.starts_with("line ") && reported.contains(why),
            "{reported}"
        );
        assert!(!reported.contains("hallo"), "{reported}");
    }
    let (status, _) = call(&imd, "PUT", "/v1/snapshot?sure=yes", Value::String(lines)).await;
    assert_eq!(status, 400);
    ann.ping().await;
    assert_eq!(imd.report().stored, 1);
}

/// Requests that a session has sent before the reset are completed before it. Clients that connect meanwhile wait until
/// it is over.
#[tokio::test]
async fn requests_in_progress_are_completed_before_a_reset_and_new_clients_wait() {
    let (imd, store) = start_gated(ephemeral().manual_clock()).await;
    let mut ann = user(&imd, 1).await;
    store.commit.hold();
    store.replace.hold();
    ann.send(&p2p(2, "a", "earlier")).await;
    store.commit.arrived().await;
    let replaced = async {
        store.commit.let_through(1);
        store.replace.arrived().await;
        // Nothing has changed, except that the sessions have been closed.
        let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!(reply.err_code, 0);
        wait_for_end(&mut ann).await;
        store.commit.open();
        let mut late = Wire::connect(access(&imd)).await;
        late.send(&login(&imd, 1)).await;
        late.hears_nothing(&imd).await;
        store.replace.open();
        store.replace.let_through(1);
        late
    };
    let (reset, mut late) = soon(async { tokio::join!(imd.reset(), replaced) }).await;
    reset.unwrap();
    late.error(Cmd::Login, 0).await;
    assert_eq!(imd.report().stored, 0);
    assert_eq!(late.p2p(2, "a", "of after").await.err_code, 0);
    assert_eq!(imd.report().stored, 1);
}

/// A reset that stopped halfway would leave neither the old contents nor the new ones.
#[tokio::test]
async fn a_reset_is_completed_although_its_caller_has_gone() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    ann.p2p(2, "a", "x").await;
    store.replace.hold();
    {
        let asked = call(&imd, "POST", "/v1/reset", Value::Null);
        tokio::pin!(asked);
        tokio::select! {
            answer = &mut asked => panic!("it waits for the store: {answer:?}"),
            () = store.replace.arrived() => {}
        }
    }
    store.replace.let_through(1);
    // The connection waits until the reset is over.
    let _ann = user(&imd, 1).await;
    assert_eq!(imd.report().stored, 0);
}

#[tokio::test]
async fn a_reset_does_not_wait_for_a_delay() {
    let imd = start_manual().await;
    let hour = Duration::from_secs(3_600);
    for site in [Site::StoreWrite, Site::AccessRequest, Site::AccessReply] {
        let mut ann = user(&imd, 1).await;
        let fault = imd.fault(Fault::at(site).uid(1).delay(hour));
        ann.send(&p2p(2, "a", "x")).await;
        crate::wait_for_hit(&imd, &fault).await;
        soon(imd.load(Snapshot::default())).await.unwrap();
        assert_eq!(get(&imd, "/v1/inboxes/2").await["total"], 0);
        drop(fault);
        imd.journal().clear();
    }
}

#[tokio::test]
async fn a_reset_that_fails_leaves_everything_as_it_was() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    ann.p2p(2, "a", "x").await;
    let paused = imd.access("access-2").unwrap();
    paused.pause().await;
    let refused = imd.load(Snapshot::default()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "access server access-2 is paused: resume it first"
    );
    ann.ping().await;
    paused.resume().await;
    store.replace.fail();
    let refused = soon(imd.load(Snapshot::default())).await;
    assert!(matches!(
        refused,
        Err(ResetError::Replace(ReplaceError::Store(_)))
    ));
    assert_eq!(imd.report().stored, 1);
    // Connections are accepted again.
    let _bob = user_with_mail(&imd, 2, (0, 1)).await;
}

#[tokio::test]
async fn requests_over_http_are_completed_before_a_reset_too() {
    let imd = start_manual().await;
    let fault = imd.fault(Fault::at(Site::StoreWrite).delay(Duration::from_secs(3_600)));
    let message = json!({ "from": 3, "to": 4, "text": "earlier" });
    let loaded = async {
        crate::wait_for_hit(&imd, &fault).await;
        imd.load(Snapshot::default()).await
    };
    let sent = call(&imd, "POST", "/v1/messages", message);
    let ((status, _), loaded) = soon(async { tokio::join!(sent, loaded) }).await;
    loaded.unwrap();
    assert_eq!(status, 201, "it was stored, and is gone with the rest");
    assert_eq!(get(&imd, "/v1/inboxes/4").await["total"], 0);
}

#[tokio::test]
async fn a_session_that_is_half_open_is_ended_too() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let sessions = get(&imd, "/v1/sessions").await;
    let id = &sessions["sessions"][0]["id"];
    let path = format!("/v1/sessions/{id}?how=halfopen");
    call(&imd, "DELETE", &path, Value::Null).await;
    soon(imd.reset()).await.unwrap();
    assert_eq!(ann.try_frame().await, None);
    let sessions = get(&imd, "/v1/sessions").await;
    assert_eq!(sessions["sessions"], json!([]));
}

#[tokio::test]
async fn after_a_failed_reset_the_faults_are_those_of_the_config() {
    let mut config = Config::from_toml(ORIGIN, "imd.toml").unwrap();
    config.any_port();
    let (imd, store) = start_gated(config).await;
    let listed = imd.faults().list();
    imd.fault(Fault::at(Site::Notify)).keep();
    store.replace.fail();
    soon(imd.reset()).await.unwrap_err();
    assert_eq!(imd.faults().list(), listed);
}

/// Returns the list of the registry, the addresses that the gateway hands out first, and the sessions.
async fn first_answers(imd: &Imd) -> (Vec<Value>, Vec<String>, Value) {
    let records = get(imd, "/v1/registry").await["records"].clone();
    let records = records.as_array().unwrap().clone();
    let sessions = get(imd, "/v1/sessions").await["sessions"].clone();
    let mut wire = Wire::connect(gateway(imd)).await;
    let mut addrs = Vec::new();
    for _ in 0..7 {
        addrs.push(wire.ask().await.addr);
    }
    (records, addrs, sessions)
}

/// The clients of the old sessions have not closed their sides yet, and no heartbeat has come since the reset.
#[tokio::test]
async fn after_a_reset_the_gateway_hands_addresses_out_as_in_a_new_stack() {
    for strategy in [Strategy::LeastSessions, Strategy::RoundRobin] {
        let mut config = ephemeral().manual_clock();
        config.gateway.strategy = strategy;
        let imd = start(config).await;
        let fresh = first_answers(&imd).await;
        assert_eq!(fresh.0[0]["Sessions"], 0);
        assert_eq!(fresh.2, json!([]));
        let mut wires = Vec::new();
        for uid in 1..=5 {
            wires.push(user(&imd, uid).await);
        }
        // This makes the records list the sessions, and takes one address off the list.
        imd.access("access-3").unwrap().kill().await;
        imd.clock().advance(Duration::from_secs(20)).await;
        let before = get(&imd, "/v1/registry").await;
        assert_eq!(before["records"][0]["Sessions"], 5);
        imd.registry().advertise("access-2", "127.0.0.1:1").unwrap();
        soon(imd.reset()).await.unwrap();
        assert_eq!(first_answers(&imd).await, fresh, "{strategy:?}");
        let state = get(&imd, "/v1/state").await;
        assert!(
            state["access"]
                .as_array()
                .unwrap()
                .iter()
                .all(|one| one["sessions"] == 0)
        );
        // After the reset, no address has ever left the list, so the fault has none to hand out.
        let stale = imd.fault(Fault::at(Site::GatewayReply).stale());
        let mut asking = Wire::connect(gateway(&imd)).await;
        let addrs = [1, 2, 3].map(|n| {
            imd.access(&format!("access-{n}"))
                .unwrap()
                .addr()
                .to_string()
        });
        assert!(addrs.contains(&asking.ask().await.addr));
        assert_eq!(stale.hits(), 0);
        // The clients that were connected before the reset are told, and have stayed until now.
        for wire in &mut wires {
            wait_for_end(wire).await;
        }
    }
}

#[tokio::test]
async fn after_a_reset_a_gateway_that_starts_empty_is_empty_again() {
    let mut config = ephemeral().manual_clock();
    config.quirks.gateway_starts_empty = true;
    let imd = start(config).await;
    let asked = async || {
        let mut wire = Wire::connect(gateway(&imd)).await;
        wire.ask().await.err_code
    };
    assert_eq!(asked().await, 92001);
    imd.clock().advance(Duration::from_secs(5)).await;
    assert_eq!(asked().await, 0);
    soon(imd.reset()).await.unwrap();
    assert_eq!(asked().await, 92001);
    imd.clock().advance(Duration::from_secs(5)).await;
    assert_eq!(asked().await, 0);
}

#[tokio::test]
async fn a_file_from_another_system_is_loaded_or_refused_as_such() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.p2p(2, "a", "hello").await;
    let saved = imd.snapshot().await.unwrap();
    let lines = get(&imd, "/v1/snapshot").await;
    let lines = lines.as_str().unwrap().replace('\n', "\r\n");
    for same in [lines.clone(), format!("\u{feff}{lines}")] {
        imd.reset().await.unwrap();
        let (status, reported) = call(&imd, "PUT", "/v1/snapshot", Value::String(same)).await;
        assert_eq!(status, 200, "{reported}");
        assert!(imd.snapshot().await.unwrap() == saved);
    }
    let wide: String = lines.chars().flat_map(|c| [c, '\0']).collect();
    let (status, reported) = call(&imd, "PUT", "/v1/snapshot", Value::String(wide)).await;
    assert_eq!(status, 400);
    let reported = reported["error"].as_str().unwrap();
    assert!(reported.contains("UTF-16"), "{reported}");
}

/// Clients send on every access server, and one server is killed in between. What is acknowledged between two resets is
/// stored between them, and no session or task is left in the end.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_a_stack_can_be_reset_again_and_again() {
    let imd = start(ephemeral()).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let servers = imd.access_servers();
    for round in 0..15 {
        let (first, mut under_way) = tokio::sync::mpsc::channel(64);
        let mut senders = Vec::new();
        for uid in 1..=9 {
            let name = format!("access-{}", 1 + uid % 3);
            let mut wire = crate::servers::user_at(&imd, &name, uid).await;
            let first = first.clone();
            senders.push(tokio::spawn(async move {
                for n in 0_u64.. {
                    let message = crate::support::framed(&p2p(1000, &n.to_string(), "x"));
                    if !wire.try_raw(&message).await {
                        return n;
                    }
                    match wire.try_frame().await {
                        Some(frame) if Cmd::of(&frame) == Some(Cmd::SendP2PMsg) => {}
                        _ => return n,
                    }
                    let _ = first.try_send(());
                }
                0
            }));
        }
        for _ in 0..18 {
            soon(under_way.recv()).await.unwrap();
        }
        if round % 3 == 0 {
            soon(servers[0].kill()).await;
        }
        soon(imd.reset()).await.unwrap();
        let mut acknowledged = 0;
        for sender in senders {
            acknowledged += soon(sender).await.unwrap();
        }
        assert!(acknowledged >= 18, "{acknowledged}");
        let reported = imd.report();
        assert_eq!(
            (reported.stored, reported.inboxes.len()),
            (0, 0),
            "round {round}"
        );
        assert!((1..=9).all(|uid| !imd.is_online(uid)), "round {round}");
        assert!(
            servers
                .iter()
                .all(|server| server.state() == ServerState::Running)
        );
        // The same users can log in and send at once.
        let mut ann = user(&imd, 1).await;
        let mut bob = user(&imd, 2).await;
        assert_eq!(ann.p2p(2, "m", "x").await.err_code, 0);
        assert_eq!(bob.notified().await, (0, 1));
    }
    until(|| tasks() <= before).await;
    assert!(servers.iter().all(|server| server.sessions().is_empty()));
    let report = soon(imd.shutdown()).await;
    assert_eq!((report.stored, report.unfinished), (1, 0));
}

//! Half-open sessions: the server neither reads nor writes, as if a firewall had dropped the connection.
//!
//! A fault or the admin API makes them. They end by a takeover, with their server or stack, by a command, or when their
//! client hangs up.

use std::time::Duration;

use imd::Imd;
use imd::id::Uid;
use imd::lab::{EventKind, Fault, Site};
use imd::proto::{Cmd, ReqAccessServer};
use imd::session::CloseReason;

use crate::admin::{call, get};
use crate::servers::{server, user_at};
use crate::support::gated_store::start_gated;
use crate::support::{
    PATIENCE, Wire, access, ephemeral, gateway, login, p2p, ping, soon, start_manual, until, user,
};
use crate::wait_for_hit;

const HOUR: Duration = Duration::from_secs(3_600);

/// Returns the ids of the half-open sessions of the gateway and the access servers.
async fn half_open(imd: &Imd) -> Vec<u64> {
    let listed = get(imd, "/v1/sessions").await;
    let all = listed["sessions"].as_array().unwrap().iter();
    let half_open = all.filter(|one| one["half_open"] == true);
    half_open.map(|one| one["id"].as_u64().unwrap()).collect()
}

/// Checks that a half-open session sends nothing, meets no deadline, does not count as work in progress, and ends when
/// its client hangs up.
async fn is_left_alone(imd: &Imd, mut wire: Wire) {
    let ids = half_open(imd).await;
    assert_eq!(ids.len(), 1);
    soon(imd.settled()).await;
    imd.clock().advance(HOUR).await;
    wire.hears_nothing(imd).await;
    wire.send(&ping()).await;
    soon(imd.settled()).await;
    wire.hears_nothing(imd).await;
    let mark = imd.journal().mark();
    drop(wire);
    let is_gone = |event: &imd::lab::Event| {
        event.session == Some(ids[0]) && event.what == EventKind::Closed("peer_closed")
    };
    imd.wait_for(mark, is_gone, PATIENCE).await.unwrap();
    soon(async { while !half_open(imd).await.is_empty() {} }).await;
}

#[tokio::test]
async fn a_fault_in_a_request_makes_a_session_half_open() {
    let imd = start_manual().await;
    let fault = imd.fault(Fault::at(Site::AccessAccept).half_open().times(1));
    let wire = Wire::connect(access(&imd)).await;
    wait_for_hit(&imd, &fault).await;
    is_left_alone(&imd, wire).await;

    let fault = imd.fault(Fault::at(Site::AccessLogin).half_open());
    let mut wire = Wire::connect(access(&imd)).await;
    wire.send(&login(&imd, 1)).await;
    wait_for_hit(&imd, &fault).await;
    is_left_alone(&imd, wire).await;
    drop(fault);

    let fault = imd.fault(Fault::at(Site::AccessRequest).cmd(Cmd::Ping).half_open());
    let mut wire = user(&imd, 1).await;
    // The request behind it in the same read is not done either.
    let mut bytes = crate::support::framed(&ping());
    bytes.extend_from_slice(&crate::support::framed(&p2p(2, "a", "a")));
    wire.raw(&bytes).await;
    wait_for_hit(&imd, &fault).await;
    is_left_alone(&imd, wire).await;
    assert_eq!(imd.report().stored, 0);
}

#[tokio::test]
async fn a_fault_in_a_reply_makes_a_session_half_open() {
    let imd = start_manual().await;
    let fault = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).half_open());
    let mut wire = user(&imd, 1).await;
    wire.send(&ping()).await;
    wait_for_hit(&imd, &fault).await;
    is_left_alone(&imd, wire).await;
    drop(fault);

    let fault = imd.fault(Fault::at(Site::Notify).half_open());
    let wire = user(&imd, 1).await;
    let mut other = user(&imd, 2).await;
    assert_eq!(other.p2p(1, "a", "a").await.err_code, 0);
    wait_for_hit(&imd, &fault).await;
    // It is still the session of its user, and what is queued for it stays bounded.
    assert!(imd.is_online(1));
    assert_eq!(other.p2p(1, "b", "b").await.err_code, 0);
    is_left_alone(&imd, wire).await;

    let fault = imd.fault(Fault::at(Site::GatewayReply).half_open());
    let mut wire = Wire::connect(gateway(&imd)).await;
    let ask = ReqAccessServer {
        cmd: 10001,
        ..Default::default()
    };
    wire.send(&ask).await;
    wait_for_hit(&imd, &fault).await;
    is_left_alone(&imd, wire).await;
}

#[tokio::test]
async fn the_admin_api_makes_a_session_half_open_and_leaves_no_rule_behind() {
    let imd = start_manual().await;
    for server in ["access-1", "gateway"] {
        let wire = if server == "gateway" {
            let mut asking = Wire::connect(gateway(&imd)).await;
            asking.ask().await;
            asking
        } else {
            user(&imd, 1).await
        };
        let listed = get(&imd, "/v1/sessions").await;
        let mut all = listed["sessions"].as_array().unwrap().iter();
        let id = &all.find(|one| one["server"] == server).unwrap()["id"];
        let path = format!("/v1/sessions/{id}?how=halfopen");
        let (status, _) = call(&imd, "DELETE", &path, serde_json::Value::Null).await;
        assert_eq!(status, 200);
        assert!(imd.faults().list().is_empty());
        is_left_alone(&imd, wire).await;
    }
}

#[tokio::test]
async fn the_reply_to_a_request_in_progress_is_not_written() {
    let (imd, store) = start_gated(ephemeral().manual_clock()).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    store.commit.hold();
    ann.send(&p2p(2, "a", "a")).await;
    store.commit.arrived().await;
    let sessions = server(&imd, "access-1").sessions();
    let of_ann = sessions.sessions().find(|one| one.uid() == Some(Uid(1)));
    of_ann.unwrap().half_open();
    store.commit.let_through(1);
    assert_eq!(bob.notified().await, (0, 1), "it is stored");
    is_left_alone(&imd, ann).await;
}

#[tokio::test]
async fn a_newer_session_takes_over_and_the_half_open_one_is_not_told() {
    let imd = start_manual().await;
    let mut older = user_at(&imd, "access-1", 1).await;
    let older_session = server(&imd, "access-1").sessions();
    let older_session = older_session.sessions().next().unwrap();
    older_session.half_open();
    let mut newer = user_at(&imd, "access-2", 1).await;
    let elsewhere = Some(CloseReason::LoggedInElsewhere);
    assert_eq!(older_session.close_reason(), elsewhere);
    newer.ping().await;
    older.hears_nothing(&imd).await;
    soon(imd.settled()).await;
    drop(older);
    let sessions = server(&imd, "access-1").sessions();
    until(|| sessions.is_empty()).await;
}

#[tokio::test]
async fn a_half_open_session_ends_with_its_stack_its_server_or_on_command() {
    let imd = start_manual().await;
    let wires = [
        user_at(&imd, "access-1", 1).await,
        user_at(&imd, "access-1", 2).await,
        user_at(&imd, "access-2", 3).await,
        user_at(&imd, "access-3", 4).await,
    ];
    for server in imd.access_servers() {
        server.sessions().sessions().for_each(|one| one.half_open());
    }
    let [mut reset, mut stopped, mut killed, mut ended] = wires;
    let sessions = server(&imd, "access-1").sessions();
    let first = sessions.sessions().find(|one| one.uid() == Some(Uid(1)));
    first.unwrap().close(CloseReason::Reset);
    reset.reset().await;
    stopped.hears_nothing(&imd).await;
    soon(server(&imd, "access-1").stop()).await;
    stopped.cut_off().await;
    soon(server(&imd, "access-2").kill()).await;
    killed.reset().await;
    let report = soon(imd.shutdown()).await;
    assert_eq!(report.unfinished, 0);
    ended.cut_off().await;
}

#[tokio::test]
async fn a_half_open_session_whose_user_has_a_newer_one_can_be_ended() {
    let imd = start_manual().await;
    for how in ["fin", "rst"] {
        let mut old = user(&imd, 1).await;
        let sessions = get(&imd, "/v1/sessions").await;
        let mine = sessions["sessions"].as_array().unwrap().iter();
        let id = mine.map(|one| one["id"].as_u64().unwrap()).max().unwrap();
        let end = async |how: &str| {
            let path = format!("/v1/sessions/{id}?how={how}");
            call(&imd, "DELETE", &path, serde_json::Value::Null).await
        };
        end("halfopen").await;
        let _new = user(&imd, 1).await;
        assert_eq!(half_open(&imd).await, [id], "it is told nothing");
        assert_eq!(end(how).await.0, 200);
        soon(async { while !half_open(&imd).await.is_empty() {} }).await;
        assert_eq!(old.try_frame().await, None, "{how}");
    }
}

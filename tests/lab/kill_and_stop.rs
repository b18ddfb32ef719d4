//! Killing and stopping access servers: what becomes of their sessions, their requests and their leases.
//!
//! A kill is like the death of a process, a stop is orderly. Starting them again is tested in `restart`.

use std::time::Duration;

use imd::Config;
use imd::access::ServerState;
use imd::config::Strategy;
use imd::proto::{Cmd, ResSendP2pMsg};

use crate::servers::{addrs, handed_out, registered, server, user_at};
use crate::support::gated_store::start_gated;
use crate::support::{
    Wire, addr_of, congest, ephemeral, login, p2p, refuses, soon, start, start_manual, until,
};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a config with a manual clock, whose gateway hands out all the addresses that it knows in turn.
fn in_turn() -> Config {
    let mut config = ephemeral().manual_clock();
    config.gateway.strategy = Strategy::RoundRobin;
    config
}

#[tokio::test]
async fn a_killed_server_resets_every_connection_and_refuses_new_ones() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut stranger = Wire::connect(addr_of(&server(&imd, "access-1"))).await;
    // The server holds half a frame, whether it has read it or not.
    stranger.raw(&[0, 9, 1]).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    let access = server(&imd, "access-1");
    assert_eq!(access.state(), ServerState::Running);
    soon(access.kill()).await;
    assert_eq!(access.state(), ServerState::Killed);
    assert!(access.sessions().is_empty());
    ann.reset().await;
    stranger.reset().await;
    assert!(refuses(access.addr()).await);
    assert!(!imd.is_online(1));
    // Sessions on other servers go on, and messages wait in the store.
    assert_eq!(bob.p2p(1, "m", "x").await.err_code, 0);
    let mut ann = Wire::connect(addr_of(&server(&imd, "access-2"))).await;
    ann.login(&imd, 1).await;
    assert_eq!(ann.notified().await, (0, 1));
}

#[tokio::test]
async fn a_killed_server_is_handed_out_until_its_lease_has_expired_and_the_list_was_read() {
    let imd = start(in_turn()).await;
    let all = addrs(&imd, &["access-1", "access-2", "access-3"]);
    imd.clock().advance(SECOND * 7).await;
    server(&imd, "access-1").kill().await;
    // The last heartbeat came after 5 s.
    imd.clock().advance(SECOND * 7).await;
    assert_eq!(registered(&imd).await.len(), 3);
    assert_eq!(handed_out(&imd).await, all);
    imd.clock().advance(SECOND).await;
    assert_eq!(registered(&imd).await, ["access-2", "access-3"]);
    let rest = addrs(&imd, &["access-2", "access-3"]);
    assert_eq!(handed_out(&imd).await, rest);
}

/// A kill does not wait for requests in progress. Their messages may be stored or not; the sender gets no reply in
/// either case.
#[tokio::test]
async fn a_kill_does_not_wait_for_requests_in_progress() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut bob = Wire::connect(addr_of(&server(&imd, "access-1"))).await;
    store.commit.hold();
    store.inbox_state.hold();
    ann.send(&p2p(2, "m", "x")).await;
    store.commit.arrived().await;
    bob.send(&login(&imd, 2)).await;
    store.inbox_state.arrived().await;
    soon(server(&imd, "access-1").kill()).await;
    ann.reset().await;
    bob.reset().await;
    store.commit.open();
    store.inbox_state.open();
    // The commit had begun, so the store completes it.
    store.commit.let_through(1);
    let mut ann = user_at(&imd, "access-2", 1).await;
    assert_eq!(ann.p2p(2, "m", "x").await.err_code, 0, "sent again");
    assert_eq!(imd.report().stored, 1);
    assert!(!imd.is_online(2));
    assert_eq!(soon(imd.shutdown()).await.unfinished, 0);
}

#[tokio::test]
async fn a_kill_does_not_wait_for_a_peer_that_does_not_read() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    congest(&server(&imd, "access-1"), &mut ann).await;
    let access = server(&imd, "access-1");
    soon(access.kill()).await;
    assert!(access.sessions().is_empty());
    // The kill also discards what the server's socket had not sent.
    while let Some(frame) = ann.try_frame().await {
        assert!(frame.len() > 32_000);
    }
}

#[tokio::test]
async fn a_killed_server_can_not_be_killed_stopped_paused_or_resumed() {
    let imd = start(in_turn()).await;
    let access = server(&imd, "access-1");
    access.kill().await;
    soon(async {
        access.kill().await;
        access.stop().await;
        access.pause().await;
        access.resume().await;
    })
    .await;
    assert_eq!(access.state(), ServerState::Killed);
    assert!(refuses(access.addr()).await);
    assert_eq!(registered(&imd).await.len(), 3, "the lease is left alone");
    imd.clock().advance(SECOND * 10).await;
    assert_eq!(registered(&imd).await.len(), 2);
}

#[tokio::test]
async fn a_stopped_server_deregisters_and_tells_its_sessions() {
    let imd = start(in_turn()).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    let access = server(&imd, "access-1");
    soon(access.stop()).await;
    assert_eq!(access.state(), ServerState::Stopped);
    assert_eq!(
        ann.error(Cmd::ErrServer, 90001).await,
        "server error: shutting down"
    );
    ann.finished().await;
    assert!(refuses(access.addr()).await);
    assert_eq!(registered(&imd).await, ["access-2", "access-3"]);
    imd.clock().advance(SECOND * 5).await;
    let rest = addrs(&imd, &["access-2", "access-3"]);
    assert_eq!(handed_out(&imd).await, rest);
    bob.ping().await;
}

#[tokio::test]
async fn a_stop_answers_the_requests_in_progress() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    store.commit.hold();
    ann.send(&p2p(2, "m", "x")).await;
    store.commit.arrived().await;
    let access = server(&imd, "access-1");
    let stopping = tokio::spawn(async move { access.stop().await });
    store.commit.let_through(1);
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    ann.error(Cmd::ErrServer, 90001).await;
    ann.finished().await;
    soon(stopping).await.unwrap();
}

#[tokio::test]
async fn a_stopped_server_can_not_be_stopped_killed_paused_or_resumed() {
    let imd = start_manual().await;
    let access = server(&imd, "access-1");
    access.stop().await;
    soon(async {
        access.stop().await;
        access.kill().await;
        access.pause().await;
        access.resume().await;
    })
    .await;
    assert_eq!(access.state(), ServerState::Stopped);
    assert!(refuses(access.addr()).await);
    assert_eq!(registered(&imd).await, ["access-2", "access-3"]);
}

#[tokio::test]
async fn a_kill_cuts_a_stop_short() {
    let mut config = ephemeral();
    config.shutdown.grace = SECOND * 3_600;
    let imd = start(config).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    // The grace period gives a client that does not read an hour to do so.
    congest(&server(&imd, "access-1"), &mut ann).await;
    let access = server(&imd, "access-1");
    let stopping = tokio::spawn(async move { access.stop().await });
    let access = server(&imd, "access-1");
    until(|| access.state() != ServerState::Running).await;
    assert!(!access.sessions().is_empty());
    soon(access.kill()).await;
    soon(stopping).await.unwrap();
    assert_eq!(access.state(), ServerState::Stopped);
    assert!(access.sessions().is_empty());
}

#[tokio::test]
async fn the_servers_are_found_by_name() {
    let imd = start_manual().await;
    assert_eq!(server(&imd, "access-2").name(), "access-2");
    assert!(imd.access("access-4").is_none());
    assert!(imd.access("").is_none());
}

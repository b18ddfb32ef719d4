//! Restarting access servers, and shutting a stack down with servers in every state.
//!
//! A restart keeps the address and, if its lease lasts, the entry in the list of the gateway. Proves
//! `access/lifecycle`.

use std::net::SocketAddr;
use std::time::Duration;

use imd::access::{RestartError, ServerState};
use imd::proto::Cmd;
use imd::{Config, Imd};
use tokio::net::TcpListener;

use crate::servers::{addrs, handed_out, registered, server, user_at};
use crate::support::{
    Wire, addr_of, ephemeral, framed, gateway, p2p, quiet_ports, refuses, soon, start, start_manual,
};

const SECOND: Duration = Duration::from_secs(1);

/// Checks that the server listens on its old address and is registered.
async fn serves_again(imd: &Imd, addr: SocketAddr) {
    let access = server(imd, "access-1");
    assert_eq!(
        (access.state(), access.addr()),
        (ServerState::Running, addr)
    );
    assert_eq!(registered(imd).await.len(), 3);
    let mut wire = Wire::connect(addr_of(&access)).await;
    wire.login(imd, 1).await;
    wire.ping().await;
    assert_eq!(access.sessions().len(), 1);
    // The server renews its lease.
    imd.clock().advance(SECOND * 30).await;
    assert_eq!(registered(imd).await.len(), 3);
}

#[tokio::test]
async fn a_killed_server_serves_again_at_the_same_address() {
    let imd = start_manual().await;
    let access = server(&imd, "access-1");
    let addr = access.addr();
    for _ in 0..3 {
        let mut ann = user_at(&imd, "access-1", 1).await;
        soon(access.kill()).await;
        ann.reset().await;
        soon(access.restart()).await.unwrap();
        serves_again(&imd, addr).await;
    }
}

#[tokio::test]
async fn a_stopped_server_serves_again_at_the_same_address() {
    let imd = start_manual().await;
    let access = server(&imd, "access-1");
    let addr = access.addr();
    for _ in 0..3 {
        soon(access.stop()).await;
        assert_eq!(registered(&imd).await.len(), 2);
        soon(access.restart()).await.unwrap();
        serves_again(&imd, addr).await;
    }
}

#[tokio::test]
async fn a_running_server_is_stopped_first() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let access = server(&imd, "access-1");
    soon(access.restart()).await.unwrap();
    ann.error(Cmd::ErrServer, 90001).await;
    ann.finished().await;
    serves_again(&imd, access.addr()).await;
}

#[tokio::test]
async fn a_paused_server_is_stopped_first_and_does_not_stay_paused() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let access = server(&imd, "access-1");
    access.pause().await;
    soon(access.restart()).await.unwrap();
    ann.error(Cmd::ErrServer, 90001).await;
    ann.finished().await;
    serves_again(&imd, access.addr()).await;
    access.pause().await;
    access.resume().await;
    user_at(&imd, "access-1", 1).await.ping().await;
}

#[tokio::test]
async fn a_restart_within_the_lease_keeps_the_server_listed() {
    let imd = start_manual().await;
    let all = addrs(&imd, &["access-1", "access-2", "access-3"]);
    let access = server(&imd, "access-1");
    access.kill().await;
    imd.clock().advance(SECOND * 9).await;
    access.restart().await.unwrap();
    imd.clock().advance(SECOND * 6).await;
    assert_eq!(registered(&imd).await.len(), 3);
    let mut wire = Wire::connect(gateway(&imd)).await;
    for _ in 0..20 {
        assert!(all.contains(&wire.ask().await.addr));
    }
}

#[tokio::test]
async fn two_restarts_at_once_are_two_restarts() {
    let imd = start_manual().await;
    let access = server(&imd, "access-1");
    let (one, other) = tokio::join!(access.restart(), access.restart());
    one.unwrap();
    other.unwrap();
    serves_again(&imd, access.addr()).await;
}

#[tokio::test]
async fn a_kill_during_a_restart_leaves_it_running_or_dead_and_nothing_hangs() {
    let imd = start_manual().await;
    let access = server(&imd, "access-1");
    let _ann = user_at(&imd, "access-1", 1).await;
    let (restarted, ()) = soon(async { tokio::join!(access.restart(), access.kill()) }).await;
    restarted.unwrap();
    // The kill struck the old server, which was stopping.
    serves_again(&imd, access.addr()).await;
}

#[tokio::test]
async fn a_restart_reports_a_port_that_is_taken() {
    let imd = start(quiet_ports().manual_clock()).await;
    let access = server(&imd, "access-1");
    let addr = access.addr();
    soon(access.kill()).await;
    // The system gives the port to nobody as a free one, but a program that asks for its number can have it.
    let stranger = TcpListener::bind(addr).await.unwrap();
    let error = soon(access.restart()).await.unwrap_err();
    assert!(matches!(error, RestartError::Bind { .. }));
    assert!(
        error
            .to_string()
            .starts_with(&format!("access-1: can't listen on {addr} again: ")),
        "{error}"
    );
    assert_eq!(access.state(), ServerState::Killed);
    drop(stranger);
    soon(access.restart()).await.unwrap();
    serves_again(&imd, addr).await;
}

async fn all_free(addrs: &[SocketAddr]) {
    for addr in addrs {
        TcpListener::bind(addr)
            .await
            .unwrap_or_else(|error| panic!("{addr}: {error}"));
    }
}

/// Starts a stack with a server in every state. Returns the clients of the paused and of the restarted one, and the
/// addresses, which stay reserved.
async fn in_every_state(config: Config) -> (Imd, [Wire; 2], Vec<SocketAddr>) {
    let imd = start(config).await;
    let mut all: Vec<_> = imd.access_servers().iter().map(|s| s.addr()).collect();
    all.push(imd.gateway_addr());
    imd.add_access("added").await.unwrap();
    imd.add_access("stopped").await.unwrap();
    let resting = user_at(&imd, "access-1", 1).await;
    server(&imd, "access-1").pause().await;
    server(&imd, "access-2").kill().await;
    server(&imd, "access-3").restart().await.unwrap();
    let again = user_at(&imd, "access-3", 3).await;
    server(&imd, "stopped").stop().await;
    (imd, [resting, again], all)
}

#[tokio::test]
async fn a_shutdown_ends_servers_in_every_state() {
    let (imd, wires, addrs) = in_every_state(quiet_ports().manual_clock()).await;
    let servers = imd.access_servers();
    let report = soon(imd.shutdown()).await;
    assert_eq!(report.unfinished, 0);
    for mut wire in wires {
        wire.error(Cmd::ErrServer, 90001).await;
        wire.finished().await;
    }
    all_free(&addrs).await;
    let states: Vec<_> = servers.iter().map(|server| server.state()).collect();
    let stopped = ServerState::Stopped;
    assert_eq!(
        states,
        [stopped, ServerState::Killed, stopped, stopped, stopped]
    );
}

#[tokio::test]
async fn dropping_the_stack_ends_servers_in_every_state() {
    let (imd, wires, addrs) = in_every_state(quiet_ports().manual_clock()).await;
    let servers = imd.access_servers();
    drop(imd);
    for mut wire in wires {
        wire.error(Cmd::ErrServer, 90001).await;
        wire.finished().await;
    }
    for addr in &addrs {
        // The task of the listener ends a little later.
        soon(async { while !refuses(*addr).await {} }).await;
    }
    all_free(&addrs).await;
    assert!(servers.iter().all(|server| server.sessions().is_empty()));
}

#[tokio::test]
async fn nothing_starts_again_after_the_shutdown() {
    let imd = start(quiet_ports()).await;
    let access = server(&imd, "access-1");
    soon(imd.shutdown()).await;
    let error = soon(access.restart()).await.unwrap_err();
    assert_eq!(error.to_string(), "access-1: its stack has been shut down");
    soon(async {
        access.resume().await;
        access.pause().await;
        access.stop().await;
        access.kill().await;
    })
    .await;
    assert_eq!(access.state(), ServerState::Stopped);
    all_free(&[access.addr()]).await;
}

#[tokio::test]
async fn the_gateway_learns_of_a_stop_and_a_restart_at_its_next_refresh() {
    let mut config = ephemeral().manual_clock();
    config.gateway.strategy = imd::config::Strategy::RoundRobin;
    let imd = start(config).await;
    let access = server(&imd, "access-1");
    let all = addrs(&imd, &["access-1", "access-2", "access-3"]);
    access.stop().await;
    assert_eq!(handed_out(&imd).await, all);
    imd.clock().advance(SECOND * 5).await;
    assert_eq!(handed_out(&imd).await.len(), 2);
    access.restart().await.unwrap();
    assert_eq!(handed_out(&imd).await.len(), 2);
    imd.clock().advance(SECOND * 5).await;
    assert_eq!(handed_out(&imd).await, all);
}

/// Every acknowledged message is stored, whenever a server is killed.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_a_server_can_be_killed_and_restarted_again_and_again() {
    let imd = start(ephemeral()).await;
    let access = server(&imd, "access-1");
    let mut acknowledged = 0;
    for round in 0..20 {
        let (first, mut under_way) = tokio::sync::mpsc::channel(64);
        let mut senders = Vec::new();
        for uid in 1..=8 {
            let (mut wire, first) = (user_at(&imd, "access-1", uid).await, first.clone());
            senders.push(tokio::spawn(async move {
                for n in 0_u64.. {
                    let message = p2p(1000, &format!("{round}-{n}"), "x");
                    if !wire.try_raw(&framed(&message)).await || wire.try_frame().await.is_none() {
                        return n;
                    }
                    let _ = first.try_send(());
                }
                0
            }));
        }
        for _ in 0..16 {
            soon(under_way.recv()).await.unwrap();
        }
        soon(access.kill()).await;
        assert!(access.sessions().is_empty());
        for sender in senders {
            acknowledged += soon(sender).await.unwrap();
        }
        soon(access.restart()).await.unwrap();
    }
    let report = soon(imd.shutdown()).await;
    assert_eq!(report.unfinished, 0);
    assert!(report.stored >= acknowledged, "{report}: {acknowledged}");
}

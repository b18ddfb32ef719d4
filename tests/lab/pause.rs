//! Paused access servers: they accept, read and write nothing while all sockets stay open, until the server is resumed.
//!
//! Nothing is lost by a pause, no deadline runs in it, and a lease that ended in it is taken again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use imd::Imd;
use imd::access::ServerState;
use imd::proto::{Cmd, ResSendP2pMsg, ResSyncMsg};
use imd::session::Session;

use crate::servers::{registered, server, user_at};
use crate::support::gated_store::start_gated;
use crate::support::{
    Wire, addr_of, ephemeral, framed, p2p, ping, refuses, soon, start, start_manual, sync, until,
};

const SECOND: Duration = Duration::from_secs(1);

async fn paused(imd: &Imd) {
    let access = server(imd, "access-1");
    soon(access.pause()).await;
    assert_eq!(access.state(), ServerState::Paused);
}

async fn resumed(imd: &Imd) {
    let access = server(imd, "access-1");
    soon(access.resume()).await;
    assert_eq!(access.state(), ServerState::Running);
}

/// Returns the number of sessions of the first server that are open.
fn open_sessions(imd: &Imd) -> usize {
    let sessions = server(imd, "access-1").sessions();
    let is_open = |session: &Arc<Session>| session.close_reason().is_none();
    sessions.sessions().filter(is_open).count()
}

/// Gives every task time for what is ready to be done: a ping that another server answers comes after earlier requests.
async fn round_trip(other: &mut Wire) {
    for _ in 0..3 {
        other.ping().await;
    }
}

#[tokio::test]
async fn a_paused_server_reads_nothing_and_answers_when_it_is_resumed() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut other = user_at(&imd, "access-2", 2).await;
    paused(&imd).await;
    ann.send(&p2p(1, "m", "x")).await;
    // The operating system accepts the connection, and the bytes that are written to it.
    let mut late = Wire::knock(addr_of(&server(&imd, "access-1"))).await;
    late.send(&crate::support::login(&imd, 3)).await;
    round_trip(&mut other).await;
    assert_eq!(server(&imd, "access-1").sessions().len(), 1);
    assert!(ann.is_silent() && late.is_silent());
    assert!(!imd.is_online(3));
    assert_eq!(imd.report().stored, 0, "nothing is read");

    resumed(&imd).await;
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    assert_eq!(ann.notified().await, (0, 1));
    assert_eq!(late.error(Cmd::Login, 0).await, "ok");
    ann.ping().await;
    assert_eq!(server(&imd, "access-1").sessions().len(), 2);
}

#[tokio::test]
async fn frames_for_sessions_of_a_paused_server_are_written_at_the_resume() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    paused(&imd).await;
    ann.send(&ping()).await;
    for id in ["a", "b"] {
        assert_eq!(bob.p2p(1, id, "x").await.err_code, 0);
    }
    round_trip(&mut bob).await;
    assert!(ann.is_silent());
    resumed(&imd).await;
    assert_eq!(ann.error(Cmd::Ping, 0).await, "ok");
    assert_eq!(ann.notified().await, (0, 2));
}

#[tokio::test]
async fn the_reply_to_a_request_in_progress_waits_for_the_resume() {
    let (imd, store) = start_gated(ephemeral().manual_clock()).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    store.commit.hold();
    ann.send_all(&[p2p(2, "m", "x"), p2p(1, "own", "x")]).await;
    store.commit.arrived().await;
    paused(&imd).await;
    store.commit.open();
    store.commit.let_through(1);
    assert_eq!(bob.notified().await, (0, 1), "it is stored");
    round_trip(&mut bob).await;
    assert!(ann.is_silent());
    imd.clock().advance(SECOND * 600).await;
    assert!(ann.is_silent());
    resumed(&imd).await;
    for id in ["m", "own"] {
        let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!((reply.err_code, reply.msg_id.as_str()), (0, id));
    }
    assert_eq!(ann.notified().await, (0, 1));
    ann.ping().await;
}

/// The session is in the middle of writing more than its peer takes.
#[tokio::test]
async fn a_congested_session_is_paused_and_resumed() {
    const PAGES: usize = 1_000;
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut other = user_at(&imd, "access-2", 2).await;
    ann.p2p(1, "m", &"x".repeat(32_000)).await;
    let _ = ann.notified().await;
    let requests: Vec<_> = (0..PAGES).map(|_| sync(0, 0)).collect();
    ann.send_all(&requests).await;
    round_trip(&mut other).await;
    paused(&imd).await;
    // The bytes in the buffers of the sockets can still be read.
    let (mut pages, mut before) = (0, usize::MAX);
    while pages != before {
        before = pages;
        round_trip(&mut other).await;
        while ann.frame_at_once().is_some() {
            pages += 1;
        }
    }
    assert!((1..PAGES).contains(&pages), "{pages}");
    imd.clock().advance(SECOND * 600).await;
    other.finished().await;
    resumed(&imd).await;
    for _ in pages..PAGES {
        let page: ResSyncMsg = ann.recv(Cmd::SyncMsg).await;
        assert_eq!(page.msgs.len(), 1);
    }
    ann.ping().await;
}

#[tokio::test]
async fn no_deadline_of_a_paused_servers_sessions_runs() {
    let imd = start_manual().await;
    let access = server(&imd, "access-1");
    let mut stranger = Wire::connect(addr_of(&access)).await;
    until(|| !access.sessions().is_empty()).await;
    imd.clock().advance(SECOND * 270).await;
    let mut idle = user_at(&imd, "access-1", 1).await;
    imd.clock().advance(SECOND * 20).await;
    let mut half = user_at(&imd, "access-1", 2).await;
    let mut bytes = framed(&ping());
    bytes.extend_from_slice(&framed(&ping())[..3]);
    half.raw(&bytes).await;
    half.error(Cmd::Ping, 0).await;
    imd.clock().advance(SECOND * 5).await;

    paused(&imd).await;
    imd.clock().advance(SECOND * 3_600).await;
    resumed(&imd).await;
    // Each deadline goes on with the time that was left: 5 s, 5 s and 35 s.
    imd.clock().advance(SECOND * 4).await;
    assert_eq!(open_sessions(&imd), 3);
    imd.clock().advance(SECOND * 2).await;
    stranger.finished().await;
    half.finished().await;
    imd.clock().advance(SECOND * 28).await;
    assert_eq!(open_sessions(&imd), 1);
    imd.clock().advance(SECOND * 2).await;
    idle.finished().await;
}

#[tokio::test]
async fn a_paused_server_loses_its_lease_and_gets_another_at_the_resume() {
    let imd = start_manual().await;
    imd.clock().advance(SECOND * 7).await;
    paused(&imd).await;
    imd.clock().advance(SECOND * 7).await;
    assert_eq!(registered(&imd).await.len(), 3);
    imd.clock().advance(SECOND).await;
    assert_eq!(registered(&imd).await, ["access-2", "access-3"]);
    resumed(&imd).await;
    assert_eq!(registered(&imd).await.len(), 3);
    imd.clock().advance(SECOND * 600).await;
    assert_eq!(registered(&imd).await.len(), 3, "it is renewed as before");
}

#[tokio::test]
async fn a_short_pause_costs_no_lease() {
    let imd = start_manual().await;
    imd.clock().advance(SECOND * 4).await;
    paused(&imd).await;
    imd.clock().advance(SECOND * 5).await;
    resumed(&imd).await;
    // If the resume had not renewed the lease, it would run out a second later.
    paused(&imd).await;
    imd.clock().advance(SECOND * 3).await;
    assert_eq!(registered(&imd).await.len(), 3);
}

/// The newer login is on another server. The older session can be told only when its own server is resumed.
#[tokio::test]
async fn a_session_that_is_taken_over_during_a_pause_is_told_after_it() {
    let imd = start_manual().await;
    let mut older = user_at(&imd, "access-1", 1).await;
    paused(&imd).await;
    let mut newer = user_at(&imd, "access-2", 1).await;
    round_trip(&mut newer).await;
    assert!(older.is_silent());
    assert!(imd.is_online(1));
    resumed(&imd).await;
    older.error(Cmd::ErrServer, 93004).await;
    older.finished().await;
    newer.ping().await;
}

#[tokio::test]
async fn pausing_twice_is_pausing_once_and_resuming_a_running_server_changes_nothing() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    resumed(&imd).await;
    ann.ping().await;
    paused(&imd).await;
    imd.clock().advance(SECOND * 50).await;
    paused(&imd).await;
    imd.clock().advance(SECOND * 50).await;
    resumed(&imd).await;
    resumed(&imd).await;
    imd.clock().advance(SECOND * 59).await;
    ann.ping().await;
}

#[tokio::test]
async fn a_paused_server_can_be_killed() {
    let imd = start_manual().await;
    let mut older = user_at(&imd, "access-1", 1).await;
    let mut ann = user_at(&imd, "access-1", 2).await;
    paused(&imd).await;
    ann.send(&ping()).await;
    // The older session had not been told yet.
    let _newer = user_at(&imd, "access-2", 1).await;
    let mut waiting = Wire::knock(addr_of(&server(&imd, "access-1"))).await;
    soon(server(&imd, "access-1").kill()).await;
    older.reset().await;
    ann.reset().await;
    waiting.reset().await;
    assert!(refuses(server(&imd, "access-1").addr()).await);
    assert_eq!(server(&imd, "access-1").state(), ServerState::Killed);
}

#[tokio::test]
async fn a_paused_server_can_be_stopped() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    paused(&imd).await;
    soon(server(&imd, "access-1").stop()).await;
    ann.error(Cmd::ErrServer, 90001).await;
    ann.finished().await;
    assert_eq!(server(&imd, "access-1").state(), ServerState::Stopped);
    assert_eq!(registered(&imd).await, ["access-2", "access-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_resumes_every_session() {
    const CLIENTS: i64 = 8;
    let imd = start(ephemeral()).await;
    let pongs: Arc<[AtomicU64]> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    let mut clients = Vec::new();
    for uid in 1..=CLIENTS {
        let (mut wire, pongs) = (user_at(&imd, "access-1", uid).await, Arc::clone(&pongs));
        clients.push(tokio::spawn(async move {
            loop {
                wire.ping().await;
                pongs[uid as usize - 1].fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let count = || -> Vec<u64> { pongs.iter().map(|n| n.load(Ordering::SeqCst)).collect() };
    for _ in 0..300 {
        paused(&imd).await;
        tokio::task::yield_now().await;
        resumed(&imd).await;
        let before = count();
        until(|| count().iter().zip(&before).all(|(now, then)| now > then)).await;
    }
    clients.iter().for_each(|client| client.abort());
}

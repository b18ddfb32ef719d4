//! The deadlines of a session: for the login, for the next frame, for the rest of a half frame, and for a write. The
//! tests move a manual clock.

use std::time::Duration;

use imd::Config;
use imd::proto::{Cmd, Error, ReqSyncMsg};
use tokio::runtime::Handle;

use crate::support::{
    Wire, access, framed, gateway, ping, raw_frame, soon, start_manual, sync, until, user,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_session_without_a_login_is_closed_after_five_minutes() {
    let imd = start_manual().await;
    let mut wire = Wire::connect(access(&imd)).await;
    imd.clock().advance(SECOND * 299).await;
    // Only a login puts this deadline off; other frames do not.
    wire.send(&ping()).await;
    wire.error(imd::proto::Cmd::Ping, 93003).await;
    imd.clock().advance(SECOND * 2).await;
    wire.finished().await;
}

#[tokio::test]
async fn a_logged_in_session_without_a_frame_is_closed_after_a_minute() {
    let imd = start_manual().await;
    let mut wire = user(&imd, 1).await;
    imd.clock().advance(SECOND * 59).await;
    wire.ping().await;
    imd.clock().advance(SECOND * 59).await;
    wire.ping().await;
    imd.clock().advance(SECOND * 61).await;
    wire.finished().await;
    assert!(!imd.is_online(1));
}

#[tokio::test]
async fn a_gateway_connection_is_kept_for_ten_minutes() {
    let imd = start_manual().await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    assert_eq!(wire.ask().await.err_code, 0);
    imd.clock().advance(SECOND * 599).await;
    assert_eq!(wire.ask().await.err_code, 0);
    imd.clock().advance(SECOND * 601).await;
    wire.finished().await;
}

#[tokio::test]
async fn a_frame_that_is_not_completed_in_10_s_closes_the_session() {
    let imd = start_manual().await;
    let mut wire = user(&imd, 1).await;
    // The reply to the whole frame shows that the server has read the half frame behind it too.
    let mut bytes = framed(&ping());
    bytes.extend_from_slice(&framed(&ping())[..3]);
    wire.raw(&bytes).await;
    wire.error(imd::proto::Cmd::Ping, 0).await;
    imd.clock().advance(SECOND * 9).await;
    assert!(imd.is_online(1));
    imd.clock().advance(SECOND * 2).await;
    wire.finished().await;
}

#[tokio::test]
async fn a_frame_that_is_completed_in_time_starts_no_deadline() {
    let imd = start_manual().await;
    let mut wire = user(&imd, 1).await;
    let frame = framed(&ping());
    let mut bytes = frame.clone();
    bytes.extend_from_slice(&frame[..3]);
    wire.raw(&bytes).await;
    wire.error(imd::proto::Cmd::Ping, 0).await;
    imd.clock().advance(SECOND * 9).await;
    wire.raw(&frame[3..]).await;
    wire.error(imd::proto::Cmd::Ping, 0).await;
    imd.clock().advance(SECOND * 50).await;
    wire.ping().await;
}

/// The half frames come before and after the login, and announce the largest length that is allowed.
#[tokio::test]
async fn hundreds_of_half_frames_delay_no_other_client_and_end_at_their_deadline() {
    const CLIENTS: i64 = 400;
    let imd = start_manual().await;
    let mut bob = user(&imd, 1_000).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    // Once it is whole, a frame that is not protobuf is answered 90001.
    let whole = |len: u16| raw_frame(&vec![0xff; len.into()]);
    let mut clients = Vec::new();
    for uid in 1..=CLIENTS {
        let mut wire = Wire::connect(access(&imd)).await;
        let (frame, code) = if uid % 2 == 0 {
            wire.login(&imd, uid).await;
            (whole(u16::MAX), 0)
        } else {
            (whole(4_096), 93003)
        };
        // One byte of the length, the length alone, or a frame without its last byte.
        let cut = [1, 2, 3, 1_000, frame.len() - 1][usize::try_from(uid % 5).unwrap()];
        wire.raw(&[&framed(&ping())[..], &frame[..cut]].concat())
            .await;
        wire.error(Cmd::Ping, code).await;
        clients.push((wire, frame, cut));
    }
    imd.clock().advance(SECOND * 9).await;
    bob.ping().await;
    let late = clients.split_off(clients.len() / 2);
    for (wire, frame, cut) in &mut clients {
        wire.raw(&frame[*cut..]).await;
        wire.error(Cmd::ErrServer, 90001).await;
    }
    imd.clock().advance(SECOND * 2).await;
    for (mut wire, ..) in late {
        wire.finished().await;
    }
    for (wire, ..) in &mut clients {
        wire.send(&ping()).await;
        let _: Error = wire.recv(Cmd::Ping).await;
    }
    bob.ping().await;
    drop(clients);
    until(|| tasks() <= before).await;
}

/// When a peer sends without reading, the server stops reading from it, keeps a bounded number of bytes for it, and
/// closes the connection in the end.
#[tokio::test]
async fn a_peer_that_does_not_read_meets_the_write_deadline() {
    let imd = start_manual().await;
    let mut wire = user(&imd, 1).await;
    for n in 0..2 {
        wire.p2p(1, &n.to_string(), &"x".repeat(32_000)).await;
        let _ = wire.notified().await;
    }
    // Each request asks for a page of 64 KB. Together the pages are far larger than the buffers of the sockets.
    let requests: Vec<ReqSyncMsg> = (0..2_000).map(|_| sync(0, 0)).collect();
    wire.send_all(&requests).await;
    let sessions = imd.access_servers()[0].sessions();
    let mut max_queued = 0;
    // The deadline runs from the moment in which the socket took no more bytes, which a test can't see. So the clock
    // moves until the session is closed.
    soon(async {
        while !sessions.is_empty() {
            max_queued = sessions
                .sessions()
                .map(|session| session.queued())
                .max()
                .unwrap_or(0)
                .max(max_queued);
            imd.clock().advance(SECOND).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!imd.is_online(1));
    let high_water = Config::default().limits.outbound / 2;
    assert!(
        max_queued > high_water,
        "it was never congested: {max_queued} bytes"
    );
    assert!(
        max_queued <= high_water + 2 * 65_537,
        "{max_queued} bytes waited"
    );
}

/// The write deadline starts anew with each byte that the peer takes.
#[tokio::test]
async fn a_peer_that_reads_slowly_gets_everything() {
    const PAGES: usize = 1_500;
    let imd = start_manual().await;
    let mut wire = user(&imd, 1).await;
    for n in 0..2 {
        wire.p2p(1, &n.to_string(), &"x".repeat(32_000)).await;
        let _ = wire.notified().await;
    }
    let mut bytes = bytes::BytesMut::new();
    (0..PAGES).for_each(|_| bytes.extend_from_slice(&framed(&sync(0, 2))));
    bytes.extend_from_slice(&framed(&ping()));
    wire.raw(&bytes).await;
    for n in 0..PAGES {
        let page: imd::proto::ResSyncMsg = wire.answer(Cmd::SyncMsg).await;
        assert_eq!(page.msgs.len(), 2);
        // The pages before this one are larger than the buffers of the sockets, so the server has written since the
        // last advance.
        if n % 250 == 249 {
            imd.clock().advance(SECOND * 9).await;
        }
    }
    let pong: imd::proto::Error = wire.answer(Cmd::Ping).await;
    assert_eq!(pong.err_code, 0);
}

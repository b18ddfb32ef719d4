//! An advance of the manual clock returns, whatever a fault holds back.
//!
//! An advance waits until every due tick was handled. These tests have ticks that can't be handled yet, behind frames
//! or calls that a fault, a pause or the store delays. The clock by itself is tested in `contracts/clock`.

use std::time::Duration;

use imd::Imd;
use imd::lab::{Fault, Site};
use imd::proto::{Cmd, ResSendP2pMsg};

use crate::servers::server;
use crate::support::gated_store::start_gated;
use crate::support::{Wire, advance, ephemeral, p2p, ping, start, start_manual, user};
use crate::wait_for_hit;

const SECOND: Duration = Duration::from_secs(1);

fn fault_of_pong() -> Fault {
    Fault::at(Site::AccessReply).cmd(Cmd::Ping)
}

#[tokio::test]
async fn an_advance_returns_while_a_throttled_session_is_paused() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let fault = imd.fault(fault_of_pong().throttle(10));
    ann.send(&ping()).await;
    wait_for_hit(&imd, &fault).await;
    server(&imd, "access-1").pause().await;
    advance(&imd, 5 * SECOND).await;
    assert!(ann.is_silent());
    server(&imd, "access-1").resume().await;
    advance(&imd, 2 * SECOND).await;
    ann.error(Cmd::Ping, 0).await;
}

/// Starts a stack in which a fault holds back a reply behind one that a paused server can't write.
async fn start_held_up(fault: Fault) -> (Imd, Wire) {
    let (imd, store) = start_gated(ephemeral().manual_clock()).await;
    let mut ann = user(&imd, 1).await;
    let fault = imd.fault(fault);
    store.commit.hold();
    let mut bytes = crate::support::framed(&p2p(2, "a", "a"));
    bytes.extend_from_slice(&crate::support::framed(&ping()));
    ann.raw(&bytes).await;
    store.commit.arrived().await;
    server(&imd, "access-1").pause().await;
    store.commit.let_through(1);
    wait_for_hit(&imd, &fault).await;
    fault.keep();
    (imd, ann)
}

#[tokio::test]
async fn an_advance_returns_while_the_frame_before_a_late_one_is_paused() {
    for fault in [fault_of_pong().delay(SECOND), fault_of_pong().throttle(100)] {
        let (imd, mut ann) = start_held_up(fault).await;
        advance(&imd, 5 * SECOND).await;
        assert!(ann.is_silent());
        server(&imd, "access-1").resume().await;
        let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!(reply.err_code, 0);
        advance(&imd, SECOND).await;
        ann.error(Cmd::Ping, 0).await;
    }
}

#[tokio::test]
async fn an_advance_returns_while_the_request_before_a_late_one_is_late_too() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let store = imd.fault(Fault::at(Site::StoreWrite).delay(3 * SECOND));
    let request = Fault::at(Site::AccessRequest).cmd(Cmd::Ping).delay(SECOND);
    let request = imd.fault(request);
    let mut bytes = crate::support::framed(&p2p(2, "a", "a"));
    bytes.extend_from_slice(&crate::support::framed(&ping()));
    ann.raw(&bytes).await;
    wait_for_hit(&imd, &store).await;
    wait_for_hit(&imd, &request).await;
    advance(&imd, 2 * SECOND).await;
    assert_eq!(imd.report().stored, 0);
    advance(&imd, SECOND).await;
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    ann.error(Cmd::Ping, 0).await;
}

#[tokio::test]
async fn an_advance_returns_while_a_late_store_follows_the_gap_of_a_quirk() {
    let mut config = ephemeral().manual_clock();
    config.quirks.notify_before_store = true;
    config.quirks.notify_gap = SECOND;
    let imd = start(config).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    let fault = imd.fault(Fault::at(Site::StoreWrite).delay(5 * SECOND));
    ann.send(&p2p(2, "a", "a")).await;
    assert_eq!(bob.notified().await, (0, 1));
    advance(&imd, SECOND).await;
    wait_for_hit(&imd, &fault).await;
    advance(&imd, 4 * SECOND).await;
    assert_eq!(imd.report().stored, 0);
    advance(&imd, SECOND).await;
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
}

//! A request that is refused changes nothing, whatever stands before it in the same read.
//!
//! All requests of one read go to the store together, so a refusal by a fault must keep its write out of that batch.

use imd::lab::{Fault, Site};
use imd::proto::{Cmd, Code, Payload, ResSyncMsg};
use serde_json::json;

use crate::admin::call;
use crate::contents::both;
use crate::servers::user_at;
use crate::support::gated_store::start_gated;
use crate::support::{Wire, ack, ephemeral, framed, group_msg, group_of, p2p, ping, sync};

/// Sends a request that is stored, and a sync behind it, in one read.
async fn behind<M: Payload>(wire: &mut Wire, first: &M, current: i64) {
    let mut bytes = framed(first);
    bytes.extend_from_slice(&framed(&sync(current, 0)));
    wire.raw(&bytes).await;
}

#[tokio::test]
async fn a_refused_sync_moves_no_read_mark_whatever_comes_before_it() {
    for (imd, _folder) in both().await {
        let mut ann = user_at(&imd, "access-1", 1).await;
        let team = group_of(&imd, &[1, 3]).await;
        for id in ["a", "b", "c"] {
            assert_eq!(ann.p2p(2, id, "x").await.err_code, 0);
        }
        let mut bob = user_at(&imd, "access-2", 2).await;
        bob.notified().await;
        let read = async || call(&imd, "GET", "/v1/inboxes/2", json!(null)).await.1["read"].clone();
        for fault in [
            Fault::at(Site::StoreRead).uid(2).error(Code::ServerError),
            Fault::at(Site::AccessRequest)
                .cmd(Cmd::SyncMsg)
                .uid(2)
                .error(Code::ServerError),
        ] {
            let fault = imd.fault(fault);
            behind(&mut bob, &p2p(1, "own", "x"), 2).await;
            bob.frame().await;
            let refused: ResSyncMsg = bob.recv(Cmd::SyncMsg).await;
            assert_eq!((refused.err_code, refused.current_id), (90001, 2));
            behind(&mut bob, &ack(1, "a"), 3).await;
            bob.frame().await;
            bob.frame().await;
            behind(&mut bob, &group_msg(team, "g", "x"), 3).await;
            bob.frame().await;
            bob.frame().await;
            behind(&mut bob, &ping(), 3).await;
            bob.frame().await;
            bob.frame().await;
            assert_eq!(fault.hits(), 4);
            assert_eq!(read().await, 0);
        }
        // A sync that names another user is refused without a fault.
        let mut bytes = framed(&p2p(1, "other", "x"));
        let mut other = sync(3, 0);
        other.uid = 7;
        bytes.extend_from_slice(&framed(&other));
        bob.raw(&bytes).await;
        bob.frame().await;
        let refused: ResSyncMsg = bob.recv(Cmd::SyncMsg).await;
        assert_eq!(refused.err_code, 93005);
        assert_eq!(read().await, 0);
        // A sync that is not refused moves the read mark, in one commit with the message before it.
        behind(&mut bob, &p2p(1, "last", "x"), 2).await;
        bob.frame().await;
        let page: ResSyncMsg = bob.recv(Cmd::SyncMsg).await;
        assert_eq!((page.err_code, page.msgs.len()), (0, 1));
        assert_eq!(read().await, 2);
    }
}

/// The rule is put in force while the messages before a sync are being stored, together with its read mark. It applies
/// from the next sync on.
#[tokio::test]
async fn a_rule_refuses_no_sync_whose_read_mark_is_stored_already() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut bob = user_at(&imd, "access-1", 2).await;
    for id in ["a", "b"] {
        bob.p2p(2, id, "x").await;
        bob.notified().await;
    }
    store.commit.hold();
    behind(&mut bob, &p2p(2, "c", "x"), 1).await;
    store.commit.arrived().await;
    let fault = imd.fault(Fault::at(Site::StoreRead).error(Code::ServerError));
    store.commit.open();
    store.commit.let_through(1);
    bob.frame().await;
    let page: ResSyncMsg = bob.recv(Cmd::SyncMsg).await;
    assert_eq!((page.err_code, page.msgs.len(), fault.hits()), (0, 2, 0));
    assert_eq!(bob.sync(3, 0).await.err_code, 90001);
    let inbox = call(&imd, "GET", "/v1/inboxes/2", json!(null)).await.1;
    assert_eq!(inbox["read"], 1);
}

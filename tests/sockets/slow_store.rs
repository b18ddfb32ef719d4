//! A store that fails or takes its time: what clients are answered, and what waits for the store.
//!
//! The tests hold the operations of a [gated store](crate::support::gated_store) back, so that a request is in the
//! middle of its work when something else happens: a login, a takeover, a shutdown.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use imd::lab::{Fault, Site};
use imd::proto::{Base, Cmd, Code, ResSendP2pMsg, ResSyncMsg};
use prost::Message;

use crate::support::gated_store::start_gated;
use crate::support::{Wire, access, ephemeral, login, p2p, post, refuses, soon, sync, user};

#[tokio::test]
async fn a_failing_store_is_answered_90001_everywhere() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    store.of_requests().iter().for_each(|gate| gate.fail());

    let reply = ann.p2p(2, "m", "x").await;
    assert_eq!(
        (reply.err_code, reply.err_str.as_str(), reply.target_uid),
        (90001, "server error", 2)
    );
    let reply = ann.group(5, "g", "x").await;
    assert_eq!((reply.err_code, reply.group_id), (90001, 5));
    assert_eq!(ann.accept(2, "m").await.err_code, 90001);
    let reply = ann.sync(7, 0).await;
    assert_eq!((reply.err_code, reply.current_id), (90001, 7));
    let mut bob = Wire::connect(access(&imd)).await;
    bob.send(&login(&imd, 2)).await;
    assert_eq!(bob.error(Cmd::Login, 90001).await, "server error");
    assert!(!imd.is_online(2));
    let (_, answer) = post(imd.user_api_addr(), "/x/user/register", "uid=9").await;
    assert_eq!(answer["code"], 90001);
    ann.ping().await;

    store.of_requests().iter().for_each(|gate| gate.open());
    assert_eq!(ann.p2p(2, "m", "x").await.err_code, 0);
    bob.login(&imd, 2).await;
    assert_eq!(bob.notified().await, (0, 1));
    assert_eq!(imd.report().refused, 2);
}

#[tokio::test]
async fn a_login_that_fails_in_the_store_changes_nothing() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut older = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    store.inbox_state.fail();
    let mut newer = Wire::connect(access(&imd)).await;
    newer.send(&login(&imd, 1)).await;
    newer.error(Cmd::Login, 90001).await;
    // A second login on the same session changes nothing either.
    older.send(&login(&imd, 1)).await;
    older.error(Cmd::Login, 90001).await;
    store.inbox_state.open();
    assert!(imd.is_online(1));
    bob.p2p(1, "m", "x").await;
    assert_eq!(older.notified().await, (0, 1));
}

/// The login reads the state of the inbox again after it has entered the directory. Otherwise a message that is stored
/// between the first look and the entry would not be notified.
#[tokio::test]
async fn a_message_that_is_stored_during_a_login_is_notified() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    store.inbox_state.hold();
    let mut bob = Wire::connect(access(&imd)).await;
    bob.send(&login(&imd, 2)).await;
    store.inbox_state.arrived().await;
    store.inbox_state.let_through(1);
    store.inbox_state.arrived().await;
    // The message is stored between the two looks.
    assert_eq!(ann.p2p(2, "m", "x").await.err_code, 0);
    store.inbox_state.let_through(1);
    assert_eq!(bob.error(Cmd::Login, 0).await, "ok");
    assert_eq!(bob.notified().await, (0, 1));
}

#[tokio::test]
async fn a_message_that_is_stored_while_a_page_is_read_is_notified_after_it() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    ann.p2p(2, "a", "x").await;
    assert_eq!(bob.notified().await, (0, 1));
    store.page_read.hold();
    bob.send(&sync(0, 0)).await;
    store.page_read.arrived().await;
    ann.p2p(2, "b", "x").await;
    store.page_read.let_through(1);
    let page: ResSyncMsg = bob.recv(Cmd::SyncMsg).await;
    assert_eq!((page.current_id, page.total_id), (1, 1));
    assert_eq!(bob.notified().await, (1, 2));
}

#[tokio::test]
async fn a_session_that_is_taken_over_gets_its_replies_and_then_the_reason_of_the_close() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut older = user(&imd, 1).await;
    store.commit.hold();
    older.send(&p2p(2, "m", "x")).await;
    store.commit.arrived().await;
    let _newer = user(&imd, 1).await;
    store.commit.let_through(1);
    let reply: ResSendP2pMsg = older.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    older.error(Cmd::ErrServer, 93004).await;
    older.finished().await;
}

/// A session that is closed while its login waits for the store must not displace the session that is there.
#[tokio::test]
async fn the_login_of_a_session_that_was_closed_meanwhile_displaces_no_session() {
    let (imd, store) = start_gated(ephemeral().manual_clock()).await;
    let mut late = Wire::connect(access(&imd)).await;
    store.inbox_state.hold();
    late.send(&login(&imd, 1)).await;
    store.inbox_state.arrived().await;
    imd.clock().advance(Duration::from_secs(301)).await;
    store.inbox_state.open();
    let mut live = user(&imd, 1).await;
    store.inbox_state.let_through(1);
    late.error(Cmd::Login, 90001).await;
    late.finished().await;
    live.ping().await;
    assert!(imd.is_online(1));
}

#[tokio::test]
async fn time_that_the_store_takes_counts_against_no_deadline_of_the_client() {
    let (imd, store) = start_gated(ephemeral().manual_clock()).await;
    let mut ann = user(&imd, 1).await;
    store.commit.hold();
    let mut bytes = crate::support::framed(&p2p(2, "m", "x"));
    let next = crate::support::framed(&crate::support::ping());
    bytes.extend_from_slice(&next[..3]);
    ann.raw(&bytes).await;
    store.commit.arrived().await;
    imd.clock().advance(Duration::from_secs(600)).await;
    store.commit.let_through(1);
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    ann.raw(&next[3..]).await;
    ann.error(Cmd::Ping, 0).await;
}

#[tokio::test]
async fn a_panic_in_a_handler_ends_its_session_alone() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut bob = user(&imd, 2).await;
    let mut ann = user(&imd, 1).await;
    store.commit.panic();
    ann.send(&p2p(2, "m", "x")).await;
    assert!(ann.try_frame().await.is_none());
    store.commit.open();
    // The socket is closed when the task is dropped, right after the session has left the directory.
    assert!(!imd.is_online(1));
    assert_eq!(imd.access_servers()[0].sessions().len(), 1);
    assert_eq!(bob.p2p(1, "m", "x").await.err_code, 0);
}

#[tokio::test]
async fn a_shutdown_flushes_the_store() {
    let (imd, store) = start_gated(ephemeral()).await;
    assert_eq!(store.closes.load(Ordering::SeqCst), 0);
    soon(imd.shutdown()).await;
    assert_eq!(store.closes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_hung_store_for_ever() {
    let mut config = ephemeral();
    config.shutdown.grace = Duration::from_millis(50);
    let (imd, store) = start_gated(config).await;
    let mut ann = user(&imd, 1).await;
    store.commit.hold();
    ann.send(&p2p(2, "m", "x")).await;
    store.commit.arrived().await;
    assert_eq!(soon(imd.shutdown()).await.unfinished, 1);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_hung_close_for_ever() {
    let mut config = ephemeral();
    config.shutdown.grace = Duration::from_millis(50);
    let (imd, store) = start_gated(config).await;
    store.close.hold();
    assert_eq!(soon(imd.shutdown()).await.unfinished, 0);
    assert_eq!(store.closes.load(Ordering::SeqCst), 1);
}

/// When the store fails for good, the owner of the stack is told, and can still shut it down in order.
#[tokio::test]
async fn a_store_that_fails_for_good_is_reported_and_the_stack_can_be_shut_down() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    store.commit.fail();
    assert_eq!(ann.p2p(2, "m", "x").await.err_code, 90001);
    assert!(
        imd.failed().now_or_never().is_none(),
        "a write that failed is not the end"
    );
    let (first, second, ()) = tokio::join!(imd.failed(), imd.failed(), async {
        store.fail_for_good();
    });
    let later = imd.failed().now_or_never().expect("also who asks later");
    for failed in [first, second, later] {
        assert_eq!(failed.to_string(), "the store has failed: on purpose");
    }
    assert_eq!(ann.p2p(2, "m", "x").await.err_code, 90001);
    assert_eq!(soon(imd.shutdown()).await.unfinished, 0);
    ann.error(Cmd::ErrServer, 90001).await;
    ann.finished().await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_a_shutdown_ends() {
    let (imd, store) = start_gated(crate::support::quiet_ports()).await;
    let mut ann = user(&imd, 1).await;
    store.commit.hold();
    let api = imd.group_api_addr();
    let create = tokio::spawn(async move { post(api, "/x/group/create", "uid=1").await });
    store.commit.arrived().await;
    ann.send(&p2p(2, "m", "x")).await;
    store.commit.arrived().await;
    let shutdown = tokio::spawn(imd.shutdown());
    // A shutdown closes the ports first, so a closed port shows that it has begun.
    soon(async { while !refuses(api).await {} }).await;
    store.commit.let_through(2);
    let (status, answer) = soon(create).await.unwrap();
    assert_eq!((status, &answer["code"]), (200, &serde_json::json!(0)));
    let mut cmds = Vec::new();
    while let Some(frame) = ann.try_frame().await {
        cmds.push(Base::decode(frame).unwrap().cmd);
    }
    assert_eq!(cmds, [20003, 90001]);
    assert_eq!(soon(shutdown).await.unwrap().unfinished, 0);
}

#[tokio::test]
async fn an_http_request_that_the_store_keeps_too_long_is_answered_busy() {
    let mut config = ephemeral();
    config.http.timeout = Duration::from_secs(1);
    let (imd, store) = start_gated(config).await;
    store.commit.hold();
    let (status, answer) = post(imd.group_api_addr(), "/x/group/create", "uid=1").await;
    assert_eq!(status, 200);
    assert_eq!(answer["message"], "server error: busy");
    assert_eq!(answer["code"], 90001);
}

#[tokio::test]
async fn a_message_that_was_not_stored_is_answered_without_a_generated_id() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let refusing = Fault::at(Site::StoreWrite).error(Code::ServerError);
    let refusing = imd.fault(refusing);
    for is_failing in [false, true] {
        if is_failing {
            imd.faults().clear();
            store.commit.fail();
        }
        let reply = ann.p2p(2, "", "x").await;
        assert_eq!((reply.err_code, reply.msg_id.as_str()), (90001, ""));
        assert_eq!((reply.source_uid, reply.target_uid), (1, 2));
        let reply = ann.group(2, "", "x").await;
        assert_eq!((reply.err_code, reply.msg_id.as_str()), (90001, ""));
        let reply = ann.p2p(2, "an id", "x").await;
        assert_eq!((reply.err_code, reply.msg_id.as_str()), (90001, "an id"));
    }
    drop(refusing);
    store.commit.open();
    assert_ne!(ann.p2p(2, "", "x").await.msg_id, "");
}

/// A commit that takes longer than the grace period must not use up the time in which the store is closed.
#[tokio::test]
async fn a_commit_that_hangs_leaves_the_store_time_to_close() {
    let mut config = ephemeral();
    config.shutdown.grace = Duration::from_millis(50);
    let (imd, store) = start_gated(config).await;
    let mut ann = user(&imd, 1).await;
    store.commit.hold();
    store.close.hold();
    ann.send(&p2p(2, "m", "x")).await;
    store.commit.arrived().await;
    let shutdown = tokio::spawn(imd.shutdown());
    store.close.arrived().await;
    // The shutdown waits for the close: it would give up at once if the time were over.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!shutdown.is_finished());
    store.commit.let_through(1);
    store.close.let_through(1);
    assert_eq!(soon(shutdown).await.unwrap().unfinished, 0);
}

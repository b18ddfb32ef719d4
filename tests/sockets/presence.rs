//! Commands 20002 and 20008: how long a user counts as online, and what a logout ends.
//!
//! Presence is only a report: a session is notified for as long as it lives, online or not.

use std::time::Duration;

use imd::proto::{Cmd, ReqLogout, ReqPing, ResLogout};

use crate::support::{start_manual, user};

#[tokio::test]
async fn a_user_is_online_for_15_s_after_the_last_login_or_ping() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    imd.clock().advance(Duration::from_secs(14)).await;
    assert!(imd.is_online(1));
    ann.ping().await;
    imd.clock().advance(Duration::from_secs(14)).await;
    assert!(imd.is_online(1));
    imd.clock().advance(Duration::from_secs(1)).await;
    assert!(!imd.is_online(1));
    ann.ping().await;
    assert!(imd.is_online(1), "a late ping brings the user back");
}

#[tokio::test]
async fn a_user_whose_presence_has_run_out_is_still_notified() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    imd.clock().advance(Duration::from_secs(20)).await;
    assert!(!imd.is_online(1));
    assert_eq!(bob.p2p(1, "m", "hello").await.err_code, 0);
    assert_eq!(ann.notified().await, (0, 1));
}

#[tokio::test]
async fn a_ping_for_another_user_renews_nobody() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let _bob = user(&imd, 2).await;
    imd.clock().advance(Duration::from_secs(14)).await;
    ann.send(&ReqPing {
        cmd: 20002,
        uid: 2,
        ..Default::default()
    })
    .await;
    ann.error(Cmd::Ping, 93005).await;
    imd.clock().advance(Duration::from_secs(1)).await;
    assert!(!imd.is_online(1) && !imd.is_online(2));
    ann.send(&ReqPing {
        cmd: 20002,
        uid: 1,
        ..Default::default()
    })
    .await;
    assert_eq!(ann.error(Cmd::Ping, 0).await, "ok");
}

#[tokio::test]
async fn a_logout_is_answered_and_ends_the_session() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.send(&ReqLogout {
        cmd: 20008,
        uid: 9,
        ..Default::default()
    })
    .await;
    let refused: ResLogout = ann.recv(Cmd::Logout).await;
    assert_eq!(refused.err_code, 93005);
    assert!(imd.is_online(1));
    ann.send(&ReqLogout {
        cmd: 20008,
        ..Default::default()
    })
    .await;
    let reply: ResLogout = ann.recv(Cmd::Logout).await;
    assert_eq!((reply.err_code, reply.err_str.as_str()), (0, "ok"));
    assert!(!imd.is_online(1), "offline from the reply on");
    ann.finished().await;
}

#[tokio::test]
async fn requests_behind_a_logout_in_the_same_read_are_not_carried_out() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut both = crate::support::framed(&ReqLogout {
        cmd: 20008,
        ..Default::default()
    });
    both.extend_from_slice(&crate::support::framed(&crate::support::p2p(
        2, "m", "too late",
    )));
    both.extend_from_slice(&crate::support::framed(&crate::support::ping()));
    ann.raw(&both).await;
    let _: ResLogout = ann.recv(Cmd::Logout).await;
    ann.finished().await;
    assert_eq!(imd.report().stored, 0);
}

#[tokio::test]
async fn a_closed_connection_takes_its_user_offline() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    ann.end().await;
    ann.finished().await;
    assert!(!imd.is_online(1));
}

#[tokio::test]
async fn the_answer_to_a_logout_is_the_last_frame() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut both = crate::support::framed(&crate::support::p2p(1, "m", "to myself"));
    both.extend_from_slice(&crate::support::framed(&ReqLogout {
        cmd: 20008,
        ..Default::default()
    }));
    ann.raw(&both).await;
    let _: imd::proto::ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    let _: ResLogout = ann.recv(Cmd::Logout).await;
    ann.finished().await;
}

//! Command 20003: a message to one user is numbered, stored, answered and notified.
//!
//! Read this file first for what the stack does. It also has the limits of a message, and what counts as sent again.

use imd::proto::{Cmd, ReqSendP2pMsg, ResSendP2pMsg};

use crate::support::{ephemeral, p2p, start, start_manual, user, user_with_mail};

#[tokio::test]
async fn a_message_is_stored_answered_notified_and_synced() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let reply = ann.p2p(2, "m-1", "hello").await;
    let expected = ResSendP2pMsg {
        cmd: 20003,
        err_str: "ok".into(),
        source_uid: 1,
        target_uid: 2,
        msg_id: "m-1".into(),
        ..Default::default()
    };
    assert_eq!(reply, expected, "with the ids, and without the text");
    assert_eq!(bob.notified().await, (0, 1));
    let page = bob.sync(0, 0).await;
    assert_eq!((page.err_code, page.err_str.as_str()), (0, "ok"));
    assert_eq!((page.current_id, page.total_id), (1, 1));
    let entry = &page.msgs[0];
    assert_eq!(
        (entry.source_uid, entry.target_uid, entry.group_id),
        (1, 2, 0)
    );
    assert_eq!(
        (entry.msg_type.as_str(), entry.msg_id.as_str()),
        ("p2p", "m-1")
    );
    assert_eq!((entry.msg.as_str(), entry.increment_id), ("hello", 1));
    assert_eq!(entry.send_time, imd.clock().unix_ms());
    assert_eq!(page.msgs.len(), 1);
}

#[tokio::test]
async fn the_same_message_sent_again_is_answered_0_and_stored_once() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    assert_eq!(ann.p2p(2, "m", "hello").await.err_code, 0);
    assert_eq!(ann.p2p(2, "m", "another text").await.err_code, 0);
    // The id belongs to the user, so it is remembered for the user's other sessions too.
    let mut ann = user(&imd, 1).await;
    assert_eq!(ann.p2p(2, "m", "hello").await.err_code, 0);
    bob.notified().await;
    assert_eq!(crate::support::texts(&bob.sync(0, 0).await.msgs), ["hello"]);
}

#[tokio::test]
async fn an_empty_msg_id_gets_a_snowflake() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let first: i64 = ann.p2p(1, "", "a").await.msg_id.parse().unwrap();
    let _ = ann.notified().await;
    let second: i64 = ann.p2p(1, "", "a").await.msg_id.parse().unwrap();
    assert!(second > first);
    assert_eq!(first >> 22, imd.clock().unix_ms());
    let _ = ann.notified().await;
    assert_eq!(ann.sync(0, 0).await.msgs.len(), 2);
}

#[tokio::test]
async fn the_sender_is_the_sessions_user_and_no_other() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let forged = ReqSendP2pMsg {
        source_uid: 3,
        ..p2p(2, "m", "forged")
    };
    ann.send(&forged).await;
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(
        (reply.err_code, reply.source_uid, reply.target_uid),
        (93005, 3, 2)
    );
    assert_eq!(reply.msg_id, "m");
    assert!(reply.msg.is_empty());
    let own = ReqSendP2pMsg {
        source_uid: 1,
        ..p2p(2, "m", "own")
    };
    ann.send(&own).await;
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    let report = imd.report();
    assert_eq!((report.stored, report.refused), (1, 1));
}

#[tokio::test]
async fn limits_are_refused_with_what_was_wrong() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let long_id = "i".repeat(129);
    let cases = [
        (p2p(0, "m", "a"), "request err: targetUID 0 is not positive"),
        (
            p2p(-5, "m", "a"),
            "request err: targetUID -5 is not positive",
        ),
        (
            p2p(2, &long_id, "a"),
            "request err: msgID has 129 bytes, at most 128",
        ),
        (
            p2p(2, "m", &"x".repeat(32_769)),
            "request err: msg has 32769 bytes, at most 32768",
        ),
    ];
    for (request, text) in cases {
        ann.send(&request).await;
        let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!((reply.err_code, reply.err_str.as_str()), (10001, text));
        assert_eq!(
            (reply.target_uid, reply.msg_id),
            (request.target_uid, request.msg_id)
        );
    }
    let longest = ann.p2p(1, &"i".repeat(128), &"x".repeat(32_768)).await;
    assert_eq!(longest.err_code, 0);
    let _ = ann.notified().await;
    assert_eq!(ann.sync(0, 0).await.msgs[0].msg.len(), 32_768);
}

#[tokio::test]
async fn an_id_that_is_too_long_to_be_echoed_is_still_answered() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let long = "i".repeat(60_000);
    assert_eq!(ann.p2p(2, &long, "").await.msg_id, long);
    let reply = ann.p2p(2, &"i".repeat(65_500), "").await;
    assert_eq!(
        (reply.err_code, reply.target_uid, reply.msg_id.as_str()),
        (10001, 2, "")
    );
}

#[tokio::test]
async fn invalid_utf8_is_replaced_before_the_length_limit_applies() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let bad_text = |n: usize| {
        let mut frame = crate::support::framed(&p2p(1, "", &"?".repeat(n)));
        frame
            .iter_mut()
            .filter(|byte| **byte == b'?')
            .for_each(|byte| *byte = 0xff);
        frame
    };
    ann.raw(&bad_text(3)).await;
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    let _ = ann.notified().await;
    assert_eq!(ann.sync(0, 0).await.msgs[0].msg, "\u{fffd}\u{fffd}\u{fffd}");
    // Each of these bytes becomes U+FFFD, which has three bytes: 20,000 become 60,000.
    ann.raw(&bad_text(20_000)).await;
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 10001);
}

#[tokio::test]
async fn a_full_store_refuses_with_90001() {
    let mut config = ephemeral();
    config.store.memory_limit = 1 << 17;
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    let text = "x".repeat(30_000);
    let mut stored = 0;
    let refused = loop {
        let reply = ann.p2p(2, &format!("m{stored}"), &text).await;
        if reply.err_code != 0 {
            break reply;
        }
        stored += 1;
    };
    assert_eq!(refused.err_code, 90001);
    assert!(
        refused
            .err_str
            .starts_with("server error: the store is full")
            && refused.err_str.contains("memory_limit"),
        "{}",
        refused.err_str
    );
    assert_eq!(stored, 4);
    let mut bob = user_with_mail(&imd, 2, (0, 4)).await;
    assert_eq!(bob.sync(0, 0).await.msgs.len(), 2, "logins and syncs go on");
}

//! Command 20004: the receiver of a message accepts it, and its sender gets an entry of the type `ack`.
//!
//! Proves the paragraph on 20004 in docs/protocol.md: accepting twice is stored once, and only a message that was
//! received can be accepted.

use imd::proto::{Cmd, ReqAcceptP2pMsgAck, ResAcceptP2pMsgAck};

use crate::support::{ack, ephemeral, group_of, start, start_manual, user};

#[tokio::test]
async fn the_sender_finds_the_ack_in_its_inbox() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    ann.p2p(2, "m", "hello").await;
    let _ = bob.notified().await;
    let reply = bob.accept(1, "m").await;
    let ok = ResAcceptP2pMsgAck {
        cmd: 20004,
        err_str: "ok".into(),
        ..Default::default()
    };
    assert_eq!(reply, ok);
    assert_eq!(ann.notified().await, (0, 1));
    let page = ann.sync(0, 0).await;
    let entry = &page.msgs[0];
    assert_eq!(
        (entry.source_uid, entry.target_uid, entry.group_id),
        (2, 1, 0)
    );
    assert_eq!(
        (
            entry.msg_type.as_str(),
            entry.msg_id.as_str(),
            entry.msg.as_str()
        ),
        ("ack", "m", "")
    );
    assert_eq!(
        (entry.increment_id, entry.send_time),
        (1, imd.clock().unix_ms())
    );
}

#[tokio::test]
async fn accepting_twice_is_stored_once() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    ann.p2p(2, "m", "hello").await;
    let _ = bob.notified().await;
    assert_eq!(bob.accept(1, "m").await.err_code, 0);
    assert_eq!(bob.accept(1, "m").await.err_code, 0);
    let _ = ann.notified().await;
    assert_eq!(ann.sync(0, 0).await.msgs.len(), 1);
}

#[tokio::test]
async fn a_message_that_was_never_received_can_not_be_accepted() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    let mut eve = user(&imd, 9).await;
    ann.p2p(2, "m", "hello").await;
    let _ = bob.notified().await;
    let none = bob.accept(1, "other").await;
    assert_eq!(
        (none.err_code, none.err_str.as_str()),
        (91001, "no data found")
    );
    assert_eq!(bob.accept(1, "").await.err_code, 91001);
    assert_eq!(eve.accept(1, "m").await.err_code, 91001);
    assert_eq!(bob.accept(0, "m").await.err_code, 10001);
    assert_eq!(bob.accept(1, &"i".repeat(129)).await.err_code, 10001);
    eve.send(&ReqAcceptP2pMsgAck {
        target_uid: 2,
        ..ack(1, "m")
    })
    .await;
    let forged: ResAcceptP2pMsgAck = eve.recv(Cmd::AcceptP2PMsgAck).await;
    assert_eq!(forged.err_code, 93005);
    assert_eq!(imd.report().stored, 1);
}

#[tokio::test]
async fn a_group_message_can_be_accepted_by_its_receivers() {
    let imd = start(ephemeral()).await;
    let gid = group_of(&imd, &[1, 2]).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    ann.group(gid, "g", "hello").await;
    let _ = ann.notified().await;
    let _ = bob.notified().await;
    assert_eq!(bob.accept(1, "g").await.err_code, 0);
    assert_eq!(ann.notified().await, (0, 2));
}

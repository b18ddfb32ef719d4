//! Command 20006: pages of an inbox, how far they go, and the read mark that a request sets.
//!
//! Also: a sync in the same read as sends sees them, and a request from an earlier life of the server starts from the
//! first message.

use std::sync::atomic::Ordering;

use imd::id::{MsgId, Uid, Version};
use imd::proto::{Cmd, ReqSyncMsg, ResSendP2pMsg, ResSyncMsg};
use prost::Message;

use crate::support::gated_store::start_gated;
use crate::support::{ephemeral, framed, p2p, start, sync, texts, user, user_with_mail, versions};

/// Ann sends `count` messages of `size` bytes to Bob, who is offline.
async fn send_offline(imd: &imd::Imd, count: usize, size: usize) {
    let mut ann = user(imd, 1).await;
    for n in 0..count {
        let text = format!("{n:0>size$}");
        assert_eq!(ann.p2p(2, &n.to_string(), &text).await.err_code, 0);
    }
}

#[tokio::test]
async fn pages_end_by_count_and_are_followed_by_a_notify_until_the_end() {
    let imd = start(ephemeral()).await;
    send_offline(&imd, 5, 1).await;
    let mut bob = user_with_mail(&imd, 2, (0, 5)).await;
    let page = bob.sync(0, 2).await;
    assert_eq!(
        (versions(&page), page.current_id, page.total_id),
        (vec![1, 2], 2, 5)
    );
    assert_eq!(bob.notified().await, (2, 5));
    let page = bob.sync(2, 2).await;
    assert_eq!(
        (versions(&page), page.current_id, page.total_id),
        (vec![3, 4], 4, 5)
    );
    assert_eq!(bob.notified().await, (4, 5));
    let page = bob.sync(4, 2).await;
    assert_eq!(
        (versions(&page), page.current_id, page.total_id),
        (vec![5], 5, 5)
    );
    // No notify comes: the next frame is the reply to the next request.
    let page = bob.sync(5, 2).await;
    assert_eq!(
        (versions(&page), page.current_id, page.total_id),
        (vec![], 5, 5)
    );
}

#[tokio::test]
async fn pages_end_by_bytes_at_the_frame_limit() {
    let imd = start(ephemeral()).await;
    send_offline(&imd, 30, 10_000).await;
    let mut bob = user(&imd, 2).await;
    let _ = bob.notified().await;
    let (mut current, mut got) = (0, Vec::new());
    loop {
        let page = bob.sync(current, 0).await;
        let size = page.encoded_len();
        assert!(size <= 65_535);
        got.extend(versions(&page));
        current = page.current_id;
        if current == page.total_id {
            break;
        }
        assert!(
            size > 65_535 - 10_100,
            "a page of {size} bytes had room for another message"
        );
        assert_eq!(bob.notified().await, (current, 30));
    }
    assert_eq!(got, (1..=30).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test]
async fn the_longest_messages_are_served_one_in_a_page() {
    let imd = start(ephemeral()).await;
    send_offline(&imd, 3, 32_768).await;
    let mut bob = user(&imd, 2).await;
    for n in 0..3 {
        assert_eq!(bob.notified().await, (n, 3));
        assert_eq!(versions(&bob.sync(n, 0).await), [n + 1]);
    }
}

#[tokio::test]
async fn a_sync_beyond_the_newest_version_starts_from_the_first_message() {
    let imd = start(ephemeral()).await;
    send_offline(&imd, 2, 1).await;
    let mut bob = user(&imd, 2).await;
    let _ = bob.notified().await;
    let page = bob.sync(99, 0).await;
    assert_eq!(
        (versions(&page), page.current_id, page.total_id),
        (vec![1, 2], 2, 2)
    );
    let page = bob.sync(-3, 0).await;
    assert_eq!(versions(&page), [1, 2]);
    // The request has not moved the read mark: a new session is told of everything.
    user_with_mail(&imd, 2, (0, 2)).await;
}

#[tokio::test]
async fn an_empty_inbox_answers_0() {
    let imd = start(ephemeral()).await;
    let mut bob = user(&imd, 2).await;
    for current in [0, -1, 5] {
        let page = bob.sync(current, 0).await;
        assert_eq!((page.msgs.len(), page.current_id, page.total_id), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_sync_for_another_user_is_refused_with_its_current_id() {
    let imd = start(ephemeral()).await;
    send_offline(&imd, 1, 1).await;
    let mut eve = user(&imd, 9).await;
    eve.send(&ReqSyncMsg {
        uid: 2,
        ..sync(7, 0)
    })
    .await;
    let refused: ResSyncMsg = eve.recv(Cmd::SyncMsg).await;
    assert_eq!(
        (refused.err_code, refused.current_id, refused.msgs.len()),
        (93005, 7, 0)
    );
    eve.send(&ReqSyncMsg {
        uid: 9,
        ..sync(0, 0)
    })
    .await;
    let own: ResSyncMsg = eve.recv(Cmd::SyncMsg).await;
    assert_eq!(own.err_code, 0);
}

#[tokio::test]
async fn the_next_session_is_notified_of_the_read_mark() {
    let imd = start(ephemeral()).await;
    send_offline(&imd, 5, 1).await;
    for (asked, newest) in [(0, 0), (3, 3), (1, 3)] {
        let mut bob = user(&imd, 2).await;
        let _ = bob.notified().await;
        bob.sync(asked, 0).await;
        let mut again = user(&imd, 2).await;
        assert_eq!(
            again.notified().await,
            (newest, 5),
            "after a sync from {asked}"
        );
    }
    let mut bob = user(&imd, 2).await;
    let _ = bob.notified().await;
    bob.sync(5, 0).await;
    // Everything is read, so no notify follows the login.
    let mut again = user(&imd, 2).await;
    again.ping().await;
}

/// The client syncs from the currentID of the last frame and keeps nothing else, as existing clients do.
#[tokio::test]
async fn a_client_that_only_follows_notifies_sees_each_message_once() {
    let imd = start(ephemeral()).await;
    send_offline(&imd, 20, 9_000).await;
    let mut bob = user(&imd, 2).await;
    let mut ann = user(&imd, 1).await;
    let mut got = Vec::new();
    let mut later = 0;
    while got.len() < 25 {
        let (current, _) = bob.notified().await;
        let page = bob.sync(current, 0).await;
        got.extend(versions(&page));
        if got.len() >= 20 && later < 5 {
            ann.send(&p2p(2, &format!("later {later}"), "x")).await;
            later += 1;
        }
    }
    assert_eq!(got, (1..=25).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_sync_sees_the_sends_before_it_in_the_same_read() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let mut bytes = crate::support::framed(&p2p(1, "a", "first"));
    bytes.extend_from_slice(&crate::support::framed(&p2p(1, "b", "second")));
    bytes.extend_from_slice(&crate::support::framed(&sync(0, 0)));
    bytes.extend_from_slice(&crate::support::framed(&p2p(1, "c", "third")));
    ann.raw(&bytes).await;
    for id in ["a", "b"] {
        let reply: imd::proto::ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
        assert_eq!(reply.msg_id, id);
    }
    let page: ResSyncMsg = ann.recv(Cmd::SyncMsg).await;
    assert_eq!(texts(&page.msgs), ["first", "second"]);
    let reply: imd::proto::ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.msg_id, "c");
    assert_eq!(ann.notified().await, (2, 3));
}

/// A page ends where it fits the frame together with its own fields.
#[tokio::test]
async fn a_page_that_would_miss_the_frame_by_a_few_bytes_ends_earlier() {
    let imd = crate::support::start_manual().await;
    let mut ann = user(&imd, 1).await;
    let size = |version, len| {
        let (kind, text) = (imd::store::Kind::P2p, "x".repeat(len));
        let message =
            imd::store::Message::new(kind, Uid(1), None, MsgId("a"), &text, imd.clock().unix_ms());
        imd::store::Entry {
            version,
            message: message.into(),
        }
        .in_page(Uid(100))
        .size()
    };
    // Of this length, the entries alone fit a frame, but not together with the other fields of the page.
    let second = (1..32_768)
        .find(|&len| size(Version(1), 32_768) + size(Version(2), len) == 65_530)
        .unwrap();
    for (uid, len, in_first) in [(100, second - 25, 2), (101, second, 1)] {
        let mut bob = user(&imd, uid).await;
        assert_eq!(ann.p2p(uid, "a", &"x".repeat(32_768)).await.err_code, 0);
        assert_eq!(ann.p2p(uid, "b", &"x".repeat(len)).await.err_code, 0);
        bob.send(&sync(0, 0)).await;
        let page: ResSyncMsg = bob.answer(Cmd::SyncMsg).await;
        assert_eq!((page.msgs.len(), page.total_id), (in_first, 2));
        bob.send(&sync(page.current_id, 0)).await;
        let rest: ResSyncMsg = bob.answer(Cmd::SyncMsg).await;
        assert_eq!(rest.msgs.len(), 2 - in_first);
    }
}

/// The read mark is stored together with the messages of the same read.
#[tokio::test]
async fn a_sync_behind_a_send_in_one_segment_moves_the_read_mark() {
    let imd = start(ephemeral()).await;
    send_offline(&imd, 4, 1).await;
    // The sync may name the UID or leave it out.
    for (uid, read) in [(2, 1), (0, 3)] {
        let mut bob = user(&imd, 2).await;
        let sync = ReqSyncMsg {
            uid,
            ..sync(read, 0)
        };
        let mut segment = framed(&p2p(3, &read.to_string(), "hello"));
        segment.extend_from_slice(&framed(&sync));
        bob.raw(&segment).await;
        bob.answer::<ResSendP2pMsg>(Cmd::SendP2PMsg).await;
        let page: ResSyncMsg = bob.answer(Cmd::SyncMsg).await;
        assert_eq!((page.current_id, page.total_id), (4, 4));
        bob.end().await;
        bob.finished().await;
        let _bob = user_with_mail(&imd, 2, (read, 4)).await;
    }
}

#[tokio::test]
async fn a_page_too_long_for_a_frame_is_answered_with_the_error_of_the_command() {
    let (imd, store) = start_gated(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    for n in 0..3 {
        let sent = ann.p2p(2, &format!("{n}"), &"x".repeat(32_000)).await;
        assert_eq!(sent.err_code, 0);
    }
    store.ignores_page_limit.store(true, Ordering::SeqCst);
    let mut bob = user_with_mail(&imd, 2, (0, 3)).await;
    let refused = bob.sync(0, 0).await;
    assert_eq!(
        (refused.err_code, refused.current_id, refused.msgs.len()),
        (90001, 0, 0)
    );
    // No notify claims that this reader is further than that.
    bob.ping().await;
    store.ignores_page_limit.store(false, Ordering::SeqCst);
    assert_eq!(versions(&bob.sync(0, 0).await), [1, 2]);
}

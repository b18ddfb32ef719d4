//! `[delivery] push`: a message to one user is also pushed to a receiver who is logged in, as a frame of command 20003 with a
//! text. The notify comes besides, and a page brings the message as it does without the push.

use imd::client::{Client, Event};
use imd::proto::{Cmd, ReqSendP2pMsg, ResNotify, ResSendGroupMsg, ResSendP2pMsg, ResSyncMsg};
use imd::{Config, Imd};
use prost::Message;

use crate::support::gated_store::start_gated;
use crate::support::{
    Wire, ephemeral, group_of, p2p, ping, soon, start, sync, texts, until, user, versions,
};

fn pushing() -> Config {
    let mut config = ephemeral();
    config.delivery.push = true;
    config
}

/// Waits for the next frame, which must be a pushed message.
async fn pushed(wire: &mut Wire) -> ResSendP2pMsg {
    let message: ResSendP2pMsg = wire.recv(Cmd::SendP2PMsg).await;
    assert!(!message.msg.is_empty(), "a reply: {message:?}");
    message
}

/// Checks that the stack has sent everything, and that nothing of it is left for this client.
async fn nothing_left(imd: &Imd, wire: &mut Wire) {
    soon(imd.settled()).await;
    wire.ping().await;
}

#[tokio::test]
async fn a_stored_message_is_pushed_to_its_receiver_and_notified() {
    let imd = start(pushing()).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    ann.p2p(2, "an id", "hello").await;
    let expected = ResSendP2pMsg {
        cmd: 20003,
        err_str: "ok".into(),
        source_uid: 1,
        target_uid: 2,
        msg_id: "an id".into(),
        msg: "hello".into(),
        ..Default::default()
    };
    assert_eq!(pushed(&mut bob).await, expected);
    assert_eq!(bob.notified().await, (0, 1));
    // A push moves neither the read mark nor the pages.
    let page = bob.sync(0, 0).await;
    assert_eq!(
        (versions(&page), texts(&page.msgs)),
        (vec![1], vec!["hello"])
    );
    let report = imd.report();
    assert_eq!((report.stored, report.delivered, report.pushed), (1, 1, 1));
    assert!(report.to_string().contains("pushed 1"), "{report}");
}

#[tokio::test]
async fn nothing_is_pushed_by_default() {
    assert!(!Config::default().delivery.push);
    let imd = start(ephemeral()).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    ann.p2p(2, "a", "hello").await;
    assert_eq!(bob.notified().await, (0, 1));
    nothing_left(&imd, &mut bob).await;
    assert_eq!(imd.report().pushed, 0);
    assert!(!imd.report().to_string().contains("pushed"));
}

#[tokio::test]
async fn the_messages_of_one_read_are_pushed_in_their_order_before_one_notify() {
    let imd = start(pushing()).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    let messages: Vec<ReqSendP2pMsg> = (0..100).map(|n| p2p(2, &n.to_string(), "x")).collect();
    ann.send_all(&messages).await;
    for n in 0..100 {
        assert_eq!(pushed(&mut bob).await.msg_id, n.to_string());
    }
    assert_eq!(bob.notified().await, (0, 100));
    nothing_left(&imd, &mut bob).await;
}

/// The reply has no text, and comes first.
#[tokio::test]
async fn who_writes_to_oneself_gets_the_reply_and_then_the_message() {
    let imd = start(pushing()).await;
    let mut ann = user(&imd, 1).await;
    let reply = ann.p2p(1, "a", "a note").await;
    assert_eq!((reply.msg_id.as_str(), reply.msg.as_str()), ("a", ""));
    assert_eq!(pushed(&mut ann).await.msg, "a note");
    assert_eq!(ann.notified().await, (0, 1));
}

#[tokio::test]
async fn only_new_messages_with_a_text_to_one_user_are_pushed() {
    let imd = start(pushing()).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    // Without a text, the frame would be the reply to a message of the receiver.
    ann.p2p(2, "empty", "").await;
    assert_eq!(bob.notified().await, (0, 1));
    ann.p2p(2, "a", "hello").await;
    assert_eq!(pushed(&mut bob).await.msg_id, "a");
    assert_eq!(bob.notified().await, (0, 2));
    // Sent again, it is answered and not stored.
    ann.p2p(2, "a", "hello").await;
    let team = group_of(&imd, &[1, 2]).await;
    let _: ResSendGroupMsg = ann.group(team, "g", "to all").await;
    assert_eq!(bob.notified().await, (0, 3));
    assert_eq!(ann.notified().await, (0, 1));
    bob.accept(1, "a").await;
    assert_eq!(ann.notified().await, (0, 2));
    nothing_left(&imd, &mut ann).await;
    nothing_left(&imd, &mut bob).await;
    assert_eq!(imd.report().pushed, 1);
}

#[tokio::test]
async fn a_message_to_a_user_who_is_not_logged_in_comes_by_notify_and_page_only() {
    let imd = start(pushing()).await;
    user(&imd, 1).await.p2p(2, "a", "hello").await;
    let mut bob = user(&imd, 2).await;
    assert_eq!(bob.notified().await, (0, 1));
    assert_eq!(versions(&bob.sync(0, 0).await), [1]);
    nothing_left(&imd, &mut bob).await;
}

/// The message is stored, and the page is read behind it; the sender is answered, and the receiver's session told of the
/// message, while that page is on its way.
#[tokio::test]
async fn a_message_that_a_page_in_progress_contains_is_not_pushed() {
    let (imd, store) = start_gated(pushing()).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    store.committed.hold();
    ann.send(&p2p(2, "a", "hello")).await;
    store.committed.arrived().await;
    store.page_read.hold();
    bob.send(&sync(0, 0)).await;
    store.page_read.arrived().await;
    store.committed.let_through(1);
    let reply: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    assert_eq!(reply.err_code, 0);
    ann.ping().await;
    store.page_read.let_through(1);
    let page: ResSyncMsg = bob.recv(Cmd::SyncMsg).await;
    assert_eq!(versions(&page), [1]);
    nothing_left(&imd, &mut bob).await;
    assert_eq!(imd.report().pushed, 0);
}

/// The page is served first, and the sender's commit returns only then.
#[tokio::test]
async fn a_message_that_a_page_has_brought_is_not_pushed() {
    let (imd, store) = start_gated(pushing()).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    store.committed.hold();
    ann.send(&p2p(2, "a", "hello")).await;
    store.committed.arrived().await;
    assert_eq!(versions(&bob.sync(0, 0).await), [1]);
    store.committed.let_through(1);
    let _: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    nothing_left(&imd, &mut bob).await;
    assert_eq!(imd.report().pushed, 0);
}

/// The page was read before the message was stored, and is served after that.
#[tokio::test]
async fn a_message_that_is_stored_during_a_sync_is_pushed_behind_the_page_without_it() {
    let (imd, store) = start_gated(pushing()).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    store.page_read.hold();
    bob.send(&sync(0, 0)).await;
    store.page_read.arrived().await;
    ann.p2p(2, "a", "hello").await;
    store.page_read.let_through(1);
    let page: ResSyncMsg = bob.recv(Cmd::SyncMsg).await;
    assert_eq!((page.msgs.len(), page.current_id), (0, 0));
    assert_eq!(pushed(&mut bob).await.msg, "hello");
    assert_eq!(bob.notified().await, (0, 1));
    nothing_left(&imd, &mut bob).await;
}

/// Whatever the timing, a message is not pushed on a session once a page of that session has brought it.
#[tokio::test(flavor = "multi_thread")]
async fn pages_and_pushes_race_and_no_push_repeats_a_page() {
    const SENT: i64 = 2_000;
    let imd = start(pushing()).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    let sending = tokio::spawn(async move {
        for first in (1..=SENT).step_by(10) {
            let batch: Vec<_> = (first..first + 10)
                .map(|n| p2p(2, &n.to_string(), "x"))
                .collect();
            ann.send_all(&batch).await;
            for _ in &batch {
                let _: ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
            }
        }
    });
    let (mut paged, mut pushes) = (0, 0);
    bob.send(&sync(0, 0)).await;
    while paged < SENT {
        let frame = bob.frame().await;
        match Cmd::of(&frame).unwrap() {
            Cmd::SyncMsg => {
                let page = ResSyncMsg::decode(frame).unwrap();
                assert!(versions(&page).into_iter().eq(paged + 1..=page.current_id));
                paged = page.current_id;
                bob.send(&sync(paged, 0)).await;
            }
            Cmd::SendP2PMsg => {
                let message = ResSendP2pMsg::decode(frame).unwrap();
                // The ids are the versions.
                assert!(message.msg_id.parse::<i64>().unwrap() > paged);
                pushes += 1;
            }
            cmd => assert_eq!(cmd, Cmd::Notify),
        }
    }
    sending.await.unwrap();
    assert!(pushes > 0);
}

/// The receiver reads nothing. Its session keeps a bounded number of bytes, and falls back to the notify.
#[tokio::test]
async fn a_receiver_that_does_not_read_is_notified_alone() {
    const SENT: i64 = 200;
    let config = pushing();
    let high_water = config.limits.outbound / 2;
    let imd = start(config).await;
    let mut bob = user(&imd, 1).await;
    bob.p2p(1, "m", &"x".repeat(32_000)).await;
    assert_eq!(pushed(&mut bob).await.msg.len(), 32_000);
    assert_eq!(bob.notified().await, (0, 1));
    let requests: Vec<_> = (0..1_000).map(|_| sync(0, 0)).collect();
    bob.send_all(&requests).await;
    let server = imd.access_servers().remove(0);
    let session = server.sessions().sessions().next().unwrap();
    until(|| session.queued() > high_water).await;
    let mut ann = user(&imd, 2).await;
    for n in 0..SENT {
        let id = format!("small {n}");
        ann.p2p(1, &id, &"y".repeat(10_000)).await;
        // The replies to one more request may come on top, as without pushed messages.
        assert!(session.queued() <= high_water + 2 * 65_537);
    }
    assert!(imd.report().pushed < 10, "{}", imd.report());
    let mut newest = 0;
    while newest < SENT + 1 {
        let frame = bob.frame().await;
        match Cmd::of(&frame).unwrap() {
            Cmd::Notify => newest = ResNotify::decode(frame).unwrap().total_id,
            cmd => assert!(matches!(cmd, Cmd::SyncMsg | Cmd::SendP2PMsg), "{cmd}"),
        }
    }
}

/// The receiver's socket takes nothing any more, but little waits to be written: messages are pushed up to the high-water
/// mark, and no further.
#[tokio::test]
async fn pushed_messages_wait_up_to_the_high_water_mark() {
    const LEN: usize = 30_000;
    let mut config = pushing();
    config.limits.outbound = 2 * 65_535;
    let high_water = config.limits.outbound / 2;
    let imd = start(config).await;
    let bob = user(&imd, 2).await;
    let mut ann = user(&imd, 1).await;
    let server = imd.access_servers().remove(0);
    let mut sessions = server.sessions().sessions().collect::<Vec<_>>().into_iter();
    let session = sessions.find(|s| s.uid() == Some(2.into())).unwrap();
    let (mut most, mut sent) = (0, 0);
    // More than the buffers of the sockets hold.
    while imd.report().pushed + 50 > sent {
        ann.p2p(2, &sent.to_string(), &"x".repeat(LEN)).await;
        sent += 1;
        most = most.max(session.queued());
    }
    assert!(most > LEN && most <= high_water, "{most} bytes");
    // Every message is pushed or not, and all are in the pages.
    drop(bob);
    let mut bob = user(&imd, 2).await;
    assert_eq!(bob.notified().await.1, i64::try_from(sent).unwrap());
}

/// A push is no reply: the client matches its requests with their own replies, and passes the others on as events.
#[tokio::test]
async fn the_client_gets_the_message_as_an_event_and_then_in_a_page() {
    let mut config = pushing();
    config.with_websockets();
    let imd = start(config.clone()).await;
    let bob = Client::connect(imd.gateway_addr()).await.unwrap();
    client_is_pushed_to(imd, bob).await;
    let imd = start(config).await;
    let gateway = imd.gateway_ws_addr().unwrap();
    let bob = Client::connect(format!("ws://{gateway}")).await.unwrap();
    client_is_pushed_to(imd, bob).await;
}

async fn client_is_pushed_to(imd: Imd, mut bob: Client) {
    bob.login(2, &imd.token(2)).await.unwrap();
    let mut ann = user(&imd, 1).await;
    ann.p2p(2, "a", "hello").await;
    soon(imd.settled()).await;
    // The event arrives before the reply.
    let sent = bob.send_p2p_as(1, "b", "and hello").await.unwrap();
    assert_eq!(sent.msg_id, "b");
    let Event::Message(message) = soon(bob.next_event()).await.unwrap() else {
        panic!("no pushed message");
    };
    assert_eq!((message.source, message.version), (1, 0));
    assert_eq!((&*message.msg_id, &*message.text), ("a", "hello"));
    let notify = Event::Notify {
        current: 0,
        total: 1,
    };
    assert_eq!(soon(bob.next_event()).await.unwrap(), notify);
    let page = bob.sync(0, 0).await.unwrap();
    assert_eq!((page.messages.len(), page.current), (1, 1));
    assert_eq!(page.messages[0].msg_id, "a");
    assert_eq!(pushed(&mut ann).await.msg, "and hello");
}

/// Only the session that is notified is pushed to.
#[tokio::test]
async fn an_older_session_that_stays_open_is_not_pushed_to() {
    let mut config = pushing();
    config.session.second_login = imd::config::SecondLogin::Demote;
    let imd = start(config).await;
    let (mut older, mut newer) = (user(&imd, 2).await, user(&imd, 2).await);
    user(&imd, 1).await.p2p(2, "a", "hello").await;
    assert_eq!(pushed(&mut newer).await.msg, "hello");
    assert_eq!(newer.notified().await, (0, 1));
    older.send(&ping()).await;
    older.error(Cmd::Ping, 0).await;
    nothing_left(&imd, &mut older).await;
}

//! Command 20007: a notify says how far the inbox goes, so several for one session merge into the newest one.
//!
//! That is why a reader who does not read costs the server a constant amount of memory, which is tested here too.

use imd::proto::{Base, Cmd, ReqSendP2pMsg, ReqSyncMsg, ResNotify, ResSendGroupMsg, ResSyncMsg};
use prost::Message;
use tokio::net::TcpSocket;

use crate::support::{
    Wire, access, ephemeral, group_msg, group_of, p2p, ping, post, soon, start, sync, until, user,
};

#[tokio::test]
async fn the_notifies_of_one_read_are_one_frame_after_the_replies() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let messages: Vec<ReqSendP2pMsg> = (0..100).map(|n| p2p(1, &n.to_string(), "x")).collect();
    ann.send_all(&messages).await;
    for _ in 0..100 {
        let _: imd::proto::ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
    }
    assert_eq!(ann.notified().await, (0, 100));
    ann.ping().await;
}

/// The receiver asks for pages without reading them. However many messages arrive meanwhile, one notify is pending.
#[tokio::test]
async fn a_receiver_that_does_not_read_costs_one_notify() {
    const SENT: i64 = 3_000;
    let imd = start(ephemeral()).await;
    let mut bob = user(&imd, 2).await;
    let mut ann = user(&imd, 1).await;
    for n in 0..2 {
        ann.p2p(2, &format!("big {n}"), &"x".repeat(32_000)).await;
        let _ = bob.notified().await;
    }
    // The pages are far larger than the buffers of the sockets, so Bob's session can't write any more from here on.
    let requests: Vec<ReqSyncMsg> = (0..400).map(|_| sync(0, 2)).collect();
    bob.send_all(&requests).await;
    for first in (0..SENT).step_by(100) {
        let messages: Vec<_> = (first..first + 100)
            .map(|n| p2p(2, &n.to_string(), "x"))
            .collect();
        ann.send_all(&messages).await;
        for _ in 0..100 {
            let reply: imd::proto::ResSendP2pMsg = ann.recv(Cmd::SendP2PMsg).await;
            assert_eq!(reply.err_code, 0);
        }
    }
    let (mut pages, mut notifies, mut newest) = (0, 0, 0);
    while pages < requests.len() || newest < SENT + 2 {
        let frame = soon(bob.frame()).await;
        match Cmd::from_number(Base::decode(frame.clone()).unwrap().cmd).unwrap() {
            Cmd::SyncMsg => {
                assert_eq!(ResSyncMsg::decode(frame).unwrap().msgs.len(), 2);
                pages += 1;
            }
            Cmd::Notify => {
                let notify = ResNotify::decode(frame).unwrap();
                assert!(notify.total_id >= newest, "a level never sinks");
                newest = notify.total_id;
                notifies += 1;
            }
            other => panic!("an unexpected {other}"),
        }
    }
    assert_eq!((pages, newest), (400, SENT + 2));
    assert!(
        notifies <= pages + 1,
        "{notifies} notifies for {SENT} messages"
    );
    bob.send(&ping()).await;
    let pong: imd::proto::Error = bob.answer(Cmd::Ping).await;
    assert_eq!(pong.err_code, 0);
}

#[tokio::test]
async fn a_notify_has_the_read_position_of_the_session() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    ann.p2p(2, "a", "x").await;
    assert_eq!(bob.notified().await, (0, 1));
    assert_eq!(bob.sync(0, 0).await.current_id, 1);
    ann.p2p(2, "b", "x").await;
    // The currentID is 1, the end of the last page, although no request has moved the read mark there: with 0, the client would
    // get message 1 twice.
    assert_eq!(bob.notified().await, (1, 2));
}

/// Each reader asks for page after page without reading, while the inboxes grow. The server keeps a bounded number of
/// bytes for each, serves everybody else, and delivers everything to those that read in the end.
#[tokio::test(flavor = "multi_thread")]
async fn many_readers_who_do_not_read_cost_a_bounded_amount_each() {
    const READERS: i64 = 20;
    const PAGES: usize = 80;
    const SENT: i64 = 250;
    let config = ephemeral().manual_clock();
    let max_queued = config.limits.outbound / 2 + 2 * 65_537;
    let imd = start(config).await;
    let uids: Vec<i64> = (1..=READERS).collect();
    let group = group_of(&imd, &uids).await;
    let mut ann = user(&imd, READERS + 1).await;
    let joined = format!("uid={}&gid={group}", READERS + 1);
    post(imd.group_api_addr(), "/x/group/join", &joined).await;
    let send = |n: i64, text: &str| group_msg(group, &n.to_string(), text);
    let sent = |wire: Wire, messages: Vec<_>| async move {
        let mut wire = wire;
        wire.send_all(&messages).await;
        for _ in &messages {
            let reply: ResSendGroupMsg = wire.answer(Cmd::SendGroupMsg).await;
            assert_eq!(reply.err_code, 0);
        }
        wire
    };
    ann = sent(ann, (0..2).map(|n| send(n, &"x".repeat(32_000))).collect()).await;
    let mut readers = Vec::new();
    for uid in uids {
        // A small receive buffer, so that the server's side fills up soon.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream = soon(socket.connect(access(&imd))).await.unwrap();
        let mut reader = Wire::over(stream).await;
        reader.login(&imd, uid).await;
        let requests: Vec<_> = (0..PAGES).map(|_| sync(0, 2)).collect();
        reader.send_all(&requests).await;
        readers.push(reader);
    }
    let servers = imd.access_servers();
    let queued = || -> Vec<usize> {
        let manager = servers[0].sessions();
        let sessions = manager.sessions();
        sessions.map(|session| session.queued()).collect()
    };
    let high_water = max_queued - 2 * 65_537;
    let congested = || {
        queued()
            .iter()
            .filter(|queued| **queued > high_water)
            .count()
    };
    until(|| congested() >= readers.len()).await;
    for first in (2..SENT).step_by(31) {
        ann = sent(ann, (first..first + 31).map(|n| send(n, "y")).collect()).await;
        let queued = queued();
        assert!(
            queued.iter().all(|queued| *queued <= max_queued),
            "{queued:?}"
        );
    }
    ann.send(&ping()).await;
    let _: imd::proto::Error = ann.answer(Cmd::Ping).await;
    for mut reader in readers {
        let (mut pages, mut newest, mut notifies) = (0, 0, 0);
        while pages < PAGES || newest < SENT {
            let frame = reader.frame().await;
            if Cmd::of(&frame) == Some(Cmd::SyncMsg) {
                assert_eq!(ResSyncMsg::decode(frame).unwrap().msgs.len(), 2);
                pages += 1;
                continue;
            }
            let notify = ResNotify::decode(frame).unwrap();
            assert_eq!(notify.cmd, Cmd::Notify.number());
            assert!(notify.total_id >= newest, "a level never sinks");
            newest = notify.total_id;
            notifies += 1;
        }
        assert!(notifies <= PAGES + 1, "{notifies} notifies");
    }
}

//! The order of messages when several clients send at once: versions have no gaps, and each sender's messages keep
//! their order.

use std::sync::Arc;

use crate::support::{Wire, addr_of, ephemeral, group_of, p2p, start, sync, user, versions};

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_gapless_and_in_each_senders_order_under_concurrent_senders() {
    const SENDERS: i64 = 8;
    const EACH: usize = 60;
    let imd = Arc::new(start(ephemeral()).await);
    let members: Vec<i64> = (1..=SENDERS).chain([100]).collect();
    let gid = group_of(&imd, &members).await;
    let mut tasks = Vec::new();
    for uid in 1..=SENDERS {
        let imd = Arc::clone(&imd);
        tasks.push(tokio::spawn(async move {
            let addr = addr_of(&imd.access_servers()[uid as usize % 3]);
            let mut wire = Wire::connect(addr).await;
            wire.login(&imd, uid).await;
            for n in 0..EACH {
                let mut bytes = crate::support::framed(&p2p(100, &format!("p{n}"), &n.to_string()));
                let group = crate::support::group_msg(gid, &format!("g{n}"), &n.to_string());
                bytes.extend_from_slice(&crate::support::framed(&group));
                wire.raw(&bytes).await;
                let mut replies = 0;
                while replies < 2 {
                    let frame = wire.frame().await;
                    let cmd = prost::Message::decode(frame).map(|base: imd::proto::Base| base.cmd);
                    replies += usize::from(cmd.unwrap() != 20007);
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut reader = user(&imd, 100).await;
    let (mut got, mut entries) = (0, Vec::new());
    loop {
        reader.send(&sync(got, 0)).await;
        let page: imd::proto::ResSyncMsg = reader.answer(imd::proto::Cmd::SyncMsg).await;
        assert_eq!(
            versions(&page),
            (got + 1..=page.current_id).collect::<Vec<_>>()
        );
        got = page.current_id;
        entries.extend(page.msgs);
        if got == page.total_id {
            break;
        }
    }
    assert_eq!(entries.len(), SENDERS as usize * EACH * 2);
    for uid in 1..=SENDERS {
        for kind in ["p2p", "group"] {
            let of_one = entries
                .iter()
                .filter(|e| e.source_uid == uid && e.msg_type == kind);
            let order: Vec<usize> = of_one.map(|entry| entry.msg.parse().unwrap()).collect();
            assert_eq!(
                order,
                (0..EACH).collect::<Vec<_>>(),
                "of user {uid}, {kind}"
            );
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let messages: Vec<_> = (0..2_000).map(|n| p2p(2, &n.to_string(), "x")).collect();
    ann.send_all(&messages).await;
    for n in 0..2_000 {
        let reply: imd::proto::ResSendP2pMsg = ann.recv(imd::proto::Cmd::SendP2PMsg).await;
        assert_eq!(reply.msg_id, n.to_string());
    }
}

//! Messages to a user who is offline: they wait in the inbox until the user logs in.
//!
//! A client that stores the currentID of its last page misses no message and sees none twice, over any number of
//! connections.

use imd::proto::{Cmd, ResSyncMsg};

use crate::support::{Wire, addr_of, ephemeral, start, sync, texts, user};

#[tokio::test]
async fn messages_wait_for_their_receiver() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    for n in 0..3 {
        assert_eq!(
            ann.p2p(2, &n.to_string(), &format!("m{n}")).await.err_code,
            0
        );
    }
    let mut bob = user(&imd, 2).await;
    assert_eq!(bob.notified().await, (0, 3), "after the login's reply");
    assert_eq!(texts(&bob.sync(0, 0).await.msgs), ["m0", "m1", "m2"]);
}

#[tokio::test]
async fn a_reconnect_misses_nothing_and_repeats_nothing() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let mut current = 0;
    let mut got = Vec::new();
    for round in 0..4 {
        ann.p2p(2, &format!("{round}a"), &format!("{round}a")).await;
        let mut bob = Wire::connect(addr_of(&imd.access_servers()[round % 3])).await;
        bob.login(&imd, 2).await;
        ann.p2p(2, &format!("{round}b"), &format!("{round}b")).await;
        let newest = 2 * (round as i64 + 1);
        while current < newest {
            // Two messages make one notify or two, depending on which task is faster.
            bob.send(&sync(current, 0)).await;
            let page: ResSyncMsg = bob.answer(Cmd::SyncMsg).await;
            got.extend(page.msgs.into_iter().map(|entry| entry.msg));
            current = page.current_id;
        }
        // The connection is dropped here without a logout.
    }
    assert_eq!(got, ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b"]);
}

#[tokio::test]
async fn the_report_counts_undelivered_messages_as_pending() {
    let imd = start(ephemeral()).await;
    let mut ann = user(&imd, 1).await;
    let mut bob = user(&imd, 2).await;
    ann.p2p(2, "a", "x").await;
    let _ = bob.notified().await;
    bob.sync(0, 0).await;
    ann.p2p(2, "b", "x").await;
    ann.p2p(0, "c", "x").await;
    let report = imd.shutdown().await;
    assert_eq!(
        (
            report.stored,
            report.delivered,
            report.pending,
            report.refused
        ),
        (2, 1, 1, 1)
    );
    assert_eq!(report.unfinished, 0);
}

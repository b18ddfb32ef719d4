//! `store.keep` and `store.max_inbox` in a running stack: the daemon cleans the store once a minute.
//!
//! What a cleaning removes is the contract of the store, and is tested in `contracts/store/retention`. Here is what
//! clients see of it, and what happens when a cleaning fails, hangs, or meets a shutdown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use imd::{Config, Imd};

use crate::support::gated_store::{StoreGates, start_gated};
use crate::support::{
    ephemeral, group_of, refuses, soon, start, texts, user, user_with_mail, versions,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Returns a config with a manual clock and without deadlines that would end a session in the course of hours.
fn config() -> Config {
    let mut config = ephemeral().manual_clock();
    config.session.idle = 1_000 * HOUR;
    config
}

#[tokio::test]
async fn old_messages_are_removed_and_an_earlier_sync_starts_at_the_oldest_left() {
    let mut config = config();
    config.store.keep = Some(2 * HOUR);
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    let group = group_of(&imd, &[1, 2]).await;
    ann.p2p(2, "a", "first").await;
    ann.group(group, "b", "second").await;
    assert_eq!(ann.notified().await, (0, 1));
    imd.clock().advance(HOUR).await;
    ann.p2p(2, "c", "third").await;
    imd.clock().advance(HOUR).await;
    // The first message is as old as `keep` allows. A minute later it is removed.
    let mut bob = user_with_mail(&imd, 2, (0, 3)).await;
    imd.clock().advance(MINUTE).await;
    ann.p2p(2, "d", "fourth").await;
    assert_eq!(bob.notified().await, (2, 4));
    let page = bob.sync(0, 0).await;
    assert_eq!(texts(&page.msgs), ["third", "fourth"]);
    assert_eq!(versions(&page), [3, 4]);
    assert_eq!((page.current_id, page.total_id), (4, 4));
    // The id of a removed message is remembered, so the message is not stored a second time.
    assert_eq!(ann.p2p(2, "a", "first").await.err_code, 0);
    assert_eq!(bob.accept(1, "a").await.err_code, 0);
    assert_eq!(ann.notified().await, (1, 2));
    assert_eq!(bob.sync(4, 0).await.total_id, 4);
    let report = imd.report();
    assert_eq!((report.stored, report.delivered), (6, 2));
    assert_eq!((report.removed, report.pending), (3, 1));
    assert_eq!(
        report.to_string(),
        "stored 6   delivered 2   pending 1   refused 0   removed unread 3"
    );
}

#[tokio::test]
async fn a_leap_of_the_wall_clock_forgets_no_id() {
    let mut config = config();
    config.store.keep = Some(HOUR);
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    ann.p2p(2, "a", "first").await;
    let day_ms = 24 * 3_600_000;
    imd.clock().skew(2 * day_ms).unwrap();
    for _ in 0..23 {
        imd.clock().advance(HOUR).await;
        ann.p2p(2, "a", "first").await;
        assert_eq!(imd.report().stored, 1);
    }
    // Once the message is older than a day by every clock, both the message and its id are removed.
    imd.clock().advance(2 * HOUR).await;
    assert_eq!(imd.report().removed, 1);
    ann.p2p(2, "a", "first").await;
    assert_eq!(imd.report().stored, 2);
    // A leap back makes nothing older.
    imd.clock().skew(-2 * day_ms).unwrap();
    imd.clock().advance(HOUR).await;
    ann.p2p(2, "a", "first").await;
    assert_eq!(imd.report().stored, 2);
}

#[tokio::test]
async fn removed_messages_are_not_notified() {
    let mut config = config();
    config.store.keep = Some(HOUR);
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    for id in ["a", "b", "c"] {
        ann.p2p(2, id, id).await;
    }
    let mut bob = user_with_mail(&imd, 2, (0, 3)).await;
    imd.clock().advance(HOUR + MINUTE).await;
    // No notify follows the login: the next frame is the reply to the next request.
    let mut again = user(&imd, 2).await;
    bob.error(imd::proto::Cmd::ErrServer, 93004).await;
    for current in [0, 2, 3, 9] {
        let page = again.sync(current, 0).await;
        assert!(page.msgs.is_empty());
        assert_eq!((page.current_id, page.total_id), (3, 3), "from {current}");
    }
    ann.p2p(2, "d", "d").await;
    assert_eq!(again.notified().await, (3, 4));
    assert_eq!(versions(&again.sync(1, 0).await), [4]);
}

#[tokio::test]
async fn an_inbox_keeps_its_newest_messages() {
    let mut config = config();
    config.store.max_inbox = Some(3);
    let imd = start(config).await;
    let mut ann = user(&imd, 1).await;
    for n in 1..=5 {
        ann.p2p(2, &n.to_string(), "x").await;
    }
    imd.clock().advance(MINUTE - Duration::from_millis(1)).await;
    // The next cleaning comes at the end of the minute.
    let _bob = user_with_mail(&imd, 2, (0, 5)).await;
    imd.clock().advance(Duration::from_millis(1)).await;
    let mut bob = user_with_mail(&imd, 2, (2, 5)).await;
    // Behind the removed messages, pages follow each other as usual.
    let page = bob.sync(0, 2).await;
    assert_eq!((versions(&page), page.current_id), (vec![3, 4], 4));
    assert_eq!(bob.notified().await, (4, 5));
    assert_eq!(versions(&bob.sync(4, 2).await), [5]);
}

#[tokio::test]
async fn without_limits_nothing_is_cleaned() {
    let (imd, store) = start_gated(config()).await;
    imd.clock().advance(HOUR).await;
    assert_eq!(store.cleanings.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_cleaning_that_fails_is_tried_again_at_the_next_minute() {
    let mut config = config();
    config.store.max_inbox = Some(1);
    let (imd, store) = start_gated(config).await;
    let mut ann = user(&imd, 1).await;
    for n in 1..=3 {
        ann.p2p(2, &n.to_string(), "x").await;
    }
    store.clean.fail();
    imd.clock().advance(2 * MINUTE).await;
    assert_eq!(store.cleanings.load(Ordering::SeqCst), 2);
    user_with_mail(&imd, 2, (0, 3)).await;
    store.clean.open();
    imd.clock().advance(MINUTE).await;
    user_with_mail(&imd, 2, (2, 3)).await;
}

/// Starts a stack whose store is in the middle of a cleaning.
async fn start_cleaning(mut config: Config) -> (Imd, Arc<StoreGates>) {
    config = config.manual_clock();
    config.store.max_inbox = Some(1);
    let (imd, store) = start_gated(config).await;
    let clock = Arc::clone(imd.clock());
    store.clean.hold();
    // The call returns when the cleaning is over.
    tokio::spawn(async move { clock.advance(MINUTE).await });
    store.clean.arrived().await;
    (imd, store)
}

#[tokio::test]
async fn a_cleaning_under_way_ends_before_the_store_is_closed() {
    let (imd, store) = start_cleaning(crate::support::quiet_ports()).await;
    let api = imd.group_api_addr();
    let shutdown = tokio::spawn(imd.shutdown());
    // A shutdown closes the ports first, so a closed port shows that it has begun.
    soon(async { while !refuses(api).await {} }).await;
    assert_eq!(store.closes.load(Ordering::SeqCst), 0);
    store.clean.let_through(1);
    assert_eq!(soon(shutdown).await.unwrap().unfinished, 0);
    assert_eq!(store.closes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_cleaning_that_hangs_is_cut_off_after_the_grace() {
    let mut config = ephemeral();
    config.shutdown.grace = Duration::from_millis(50);
    let (imd, store) = start_cleaning(config).await;
    assert_eq!(soon(imd.shutdown()).await.unfinished, 0);
    assert_eq!(store.closes.load(Ordering::SeqCst), 1);
}

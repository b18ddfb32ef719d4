//! The contract of `StoreAdmin::clean`: which entries and message ids a store removes, and what it says of them
//! afterwards.
//!
//! Look here for `store.keep`, `store.max_inbox`, and for the day for which the id of a removed message is remembered.
//! When the daemon cleans is tested in `sockets/retention`.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::*;
use imd::id::{Uid, Version};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The time at which the tests begin, in Unix milliseconds.
const START: i64 = 1_700_000_000_000;

const NONE: [i64; 0] = [];

/// Keeps everything for `ms` milliseconds.
fn keep(ms: i64) -> Retention {
    Retention {
        keep: Some(Duration::from_millis(ms.unsigned_abs())),
        max_inbox: None,
    }
}

/// Keeps the newest `count` entries of each inbox.
fn newest(count: u64) -> Retention {
    Retention {
        keep: None,
        max_inbox: Some(count),
    }
}

/// Returns a write whose message was sent at the time `at`.
fn sent(at: i64, mut write: Write) -> Write {
    if let Write::P2p { message, .. } | Write::Group { message } | Write::Ack { message, .. } =
        &mut write
    {
        Arc::make_mut(message).sent_at = at;
    }
    write
}

/// User 1 sends messages to user 2, one at each of these times after the start. Their ids are 1, 2, and so on.
async fn filled(store: &dyn Store, times: &[i64]) {
    let ids = (1..).map(|n: i32| n.to_string());
    let writes = ids.zip(times);
    let batch = writes.map(|(id, after)| sent(START + after, p2p(1, 2, &id)));
    assert!(
        commit(store, batch.collect())
            .await
            .results
            .iter()
            .all(Result::is_ok)
    );
}

/// Cleans the store `after` milliseconds after the start.
async fn clean(store: &dyn Store, after: i64) -> u64 {
    store.clean(START + after).await.unwrap()
}

async fn versions(store: &dyn Store, uid: i64) -> Vec<i64> {
    inbox(store, uid).await.iter().map(|row| row.0).collect()
}

async fn inbox_state(store: &dyn Store, uid: i64) -> (i64, i64) {
    let state = store.inbox_state(Uid(uid)).await.unwrap();
    (state.read.0, state.total.0)
}

pub async fn without_limits_nothing_is_removed(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let store = make(Retention::default()).await;
    filled(&*store, &[0, 0, 0]).await;
    assert_eq!(clean(&*store, 100_000 * DAY).await, 0);
    assert_eq!(versions(&*store, 2).await, [1, 2, 3]);
    assert_eq!(inbox_state(&*store, 2).await, (0, 3));
}

pub async fn entries_older_than_keep_are_removed(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let store = make(keep(HOUR)).await;
    filled(&*store, &[0, 30 * MINUTE, 2 * HOUR]).await;
    one(&*store, sent(START, p2p(1, 3, "other"))).await.unwrap();
    assert_eq!(clean(&*store, HOUR).await, 0, "an hour is not more than it");
    assert_eq!(clean(&*store, HOUR + 1).await, 2);
    assert_eq!(versions(&*store, 2).await, [2, 3]);
    assert_eq!(versions(&*store, 3).await, NONE);
    assert_eq!(clean(&*store, HOUR + 1).await, 0);
    assert_eq!(clean(&*store, 9 * HOUR).await, 2);
    assert_eq!(versions(&*store, 2).await, NONE);
    assert_eq!(clean(&*store, 9 * HOUR).await, 0);
}

pub async fn a_clock_that_stepped_back_removes_nothing_behind_a_young_entry(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(keep(HOUR)).await;
    filled(&*store, &[0, 2 * HOUR, 0]).await;
    assert_eq!(clean(&*store, -DAY).await, 0);
    assert_eq!(clean(&*store, 2 * HOUR).await, 1);
    assert_eq!(versions(&*store, 2).await, [2, 3]);
    assert_eq!(clean(&*store, 0).await, 0);
    assert_eq!(clean(&*store, 4 * HOUR).await, 2);
}

pub async fn the_newest_of_each_inbox_are_kept(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let store = make(newest(3)).await;
    filled(&*store, &[0, 1, 2, 3, 4]).await;
    commit(&*store, vec![p2p(1, 3, "a"), p2p(1, 3, "b")]).await;
    assert_eq!(versions(&*store, 2).await, [1, 2, 3, 4, 5], "until cleaned");
    assert_eq!(clean(&*store, 100_000 * DAY).await, 2);
    assert_eq!(versions(&*store, 2).await, [3, 4, 5]);
    assert_eq!(versions(&*store, 3).await, [1, 2]);
    assert_eq!(clean(&*store, 100_000 * DAY).await, 0);
}

pub async fn the_stricter_of_two_limits_holds(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let both = Retention {
        max_inbox: Some(3),
        ..keep(HOUR)
    };
    let store = make(both).await;
    filled(&*store, &[0, 1, 2, HOUR, HOUR]).await;
    assert_eq!(clean(&*store, 0).await, 2, "by their number");
    assert_eq!(versions(&*store, 2).await, [3, 4, 5]);
    assert_eq!(clean(&*store, 2 * HOUR).await, 1, "by their age");
    assert_eq!(versions(&*store, 2).await, [4, 5]);
}

pub async fn versions_continue_after_a_cleaning(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let store = make(keep(HOUR)).await;
    filled(&*store, &[0, 0]).await;
    assert_eq!(clean(&*store, 2 * HOUR).await, 2);
    assert_eq!(inbox_state(&*store, 2).await, (2, 2));
    let committed = commit(&*store, vec![sent(START + 2 * HOUR, p2p(1, 2, "next"))]).await;
    let grown = InboxState {
        uid: Uid(2),
        read: Version(2),
        total: Version(3),
    };
    assert_eq!(committed.grown_inboxes, [grown]);
    assert_eq!(
        inbox(&*store, 2).await,
        [(3, Kind::P2p, 1, "next".to_owned())]
    );
}

pub async fn removed_entries_count_as_read(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let store = make(keep(HOUR)).await;
    filled(&*store, &[0, 0, 0, 2 * HOUR, 2 * HOUR]).await;
    store.read_page(Uid(2), Version(1), ALL).await.unwrap();
    assert_eq!(clean(&*store, 2 * HOUR).await, 3);
    assert_eq!(inbox_state(&*store, 2).await, (3, 5));
    let committed = commit(&*store, vec![sent(START + 2 * HOUR, p2p(1, 2, "next"))]).await;
    assert_eq!(committed.grown_inboxes[0].read, 3);
    // A page from before the removed entries moves no mark back, and later pages move it on as usual.
    store.read_page(Uid(2), Version(2), ALL).await.unwrap();
    assert_eq!(inbox_state(&*store, 2).await, (3, 6));
    store.read_page(Uid(2), Version(5), ALL).await.unwrap();
    assert_eq!(inbox_state(&*store, 2).await, (5, 6));
    assert_eq!(clean(&*store, 3 * HOUR).await, 0);
    assert_eq!(inbox_state(&*store, 2).await, (5, 6));
    assert_eq!(clean(&*store, 4 * HOUR).await, 3);
    assert_eq!(inbox_state(&*store, 2).await, (6, 6));
}

pub async fn a_sync_from_before_the_cut_begins_at_the_oldest_left(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(newest(3)).await;
    filled(&*store, &[0; 6]).await;
    assert_eq!(clean(&*store, 0).await, 3);
    // A version beyond the newest one counts as 0, which is before the oldest entry too.
    for after in [i64::MIN, -1, 0, 1, 2, 3, 7, i64::MAX] {
        let page = store.read_page(Uid(2), Version(after), ALL).await.unwrap();
        let versions: Vec<_> = page.entries.iter().map(|entry| entry.version).collect();
        assert_eq!(versions, [4, 5, 6], "from {after}");
        let ids: Vec<_> = page.entries.iter().map(|e| e.message.msg_id()).collect();
        assert_eq!(ids, ["4", "5", "6"], "from {after}");
        assert_eq!(page.current, 6, "from {after}");
        assert_eq!(page.total, 6, "from {after}");
        assert_eq!(inbox_state(&*store, 2).await, (3, 6), "from {after}");
    }
    let limit = |entries, bytes| PageLimit { entries, bytes };
    let page = store
        .read_page(Uid(2), Version(1), limit(2, usize::MAX))
        .await
        .unwrap();
    assert_eq!((page.entries.len(), page.current), (2, Version(5)));
    let page = store
        .read_page(Uid(2), Version(1), limit(0, 0))
        .await
        .unwrap();
    assert_eq!((page.entries.len(), page.current), (0, Version(3)));
    let page = store.read_page(Uid(2), Version(5), ALL).await.unwrap();
    assert_eq!((page.entries.len(), page.current), (1, Version(6)));
}

pub async fn a_sync_where_nothing_is_left_says_the_total(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(keep(HOUR)).await;
    filled(&*store, &[0; 3]).await;
    assert_eq!(clean(&*store, DAY).await, 3);
    for after in [-1, 0, 2, 3, 4] {
        let page = store.read_page(Uid(2), Version(after), ALL).await.unwrap();
        assert_eq!(page.entries, []);
        assert_eq!((page.current, page.total), (Version(3), Version(3)));
    }
    assert_eq!(inbox_state(&*store, 2).await, (3, 3));
}

pub async fn a_message_id_is_remembered_for_a_day(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let store = make(keep(HOUR)).await;
    filled(&*store, &[0, 1]).await;
    let again = |after| sent(START + after, p2p(1, 2, "1"));
    for after in [2 * HOUR, DAY] {
        clean(&*store, after).await;
        let committed = commit(&*store, vec![again(after)]).await;
        assert_eq!(committed.accepted(), [Ok(())]);
        assert_eq!(committed.grown_inboxes, []);
        assert_eq!(inbox_state(&*store, 2).await, (2, 2));
    }
    assert_eq!(clean(&*store, DAY + 1).await, 0);
    one(&*store, again(DAY + 1)).await.unwrap();
    assert_eq!(versions(&*store, 2).await, [3]);
    // The second message was sent a millisecond later, so its id is still remembered.
    one(&*store, sent(START + DAY + 1, p2p(1, 2, "2")))
        .await
        .unwrap();
    assert_eq!(versions(&*store, 2).await, [3]);
    // The first id names a new message now, and is remembered as long as that one.
    clean(&*store, DAY + 2).await;
    one(&*store, again(DAY + 2)).await.unwrap();
    assert_eq!(versions(&*store, 2).await, [3]);
}

pub async fn a_message_id_is_remembered_as_long_as_its_message(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(newest(2)).await;
    filled(&*store, &[0, 0, 0]).await;
    assert_eq!(clean(&*store, 9 * DAY).await, 1);
    let late = 9 * DAY;
    let again = |id| sent(START + late, p2p(1, 2, id));
    let committed = commit(&*store, vec![again("2"), again("3"), again("1")]).await;
    assert_eq!(committed.accepted(), [Ok(()); 3]);
    assert_eq!(
        ids(&*store, 2).await,
        ["2", "3", "1"],
        "the one that was gone, and more than a day old"
    );
    // The id of the older message is forgotten together with it, and that of the younger one stays for a day.
    assert_eq!(clean(&*store, late).await, 1);
    one(&*store, again("4")).await.unwrap();
    one(&*store, again("5")).await.unwrap();
    assert_eq!(clean(&*store, late).await, 2);
    let committed = commit(&*store, vec![again("2"), again("3"), again("1")]).await;
    assert_eq!(committed.accepted(), [Ok(()); 3]);
    assert_eq!(ids(&*store, 2).await, ["4", "5", "2", "3"]);
}

pub async fn a_group_message_is_remembered_until_no_inbox_has_it(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(newest(1)).await;
    let group = |at| sent(START + at, to_group(1, 50, "g"));
    commit(
        &*store,
        vec![create(50, 1), join(50, 2), join(50, 3), group(0)],
    )
    .await;
    let push_out = |uid, id| sent(START + 2 * DAY, p2p(9, uid, id));
    // The message is removed from two inboxes. The third one still has it, although its user has left the group.
    commit(&*store, vec![push_out(1, "a"), push_out(2, "a")]).await;
    one(&*store, quit(50, 3)).await.unwrap();
    assert_eq!(clean(&*store, 2 * DAY).await, 2);
    let committed = commit(&*store, vec![group(2 * DAY)]).await;
    assert_eq!(
        (committed.accepted(), committed.grown_inboxes),
        (vec![Ok(())], vec![])
    );
    assert_eq!(ids(&*store, 3).await, ["g"]);
    // The message is removed from the last inbox.
    one(&*store, push_out(3, "a")).await.unwrap();
    assert_eq!(clean(&*store, 2 * DAY).await, 1);
    one(&*store, group(2 * DAY)).await.unwrap();
    assert_eq!(ids(&*store, 1).await, ["a", "g"]);
    assert_eq!(ids(&*store, 2).await, ["a", "g"]);
    assert_eq!(ids(&*store, 3).await, ["a"]);
    // The new message is removed from all inboxes within a day, so its id is still remembered.
    commit(&*store, vec![push_out(1, "b"), push_out(2, "b")]).await;
    assert_eq!(clean(&*store, 2 * DAY).await, 4);
    one(&*store, group(2 * DAY)).await.unwrap();
    assert_eq!(clean(&*store, 3 * DAY).await, 0);
    one(&*store, group(3 * DAY)).await.unwrap();
    assert_eq!(ids(&*store, 1).await, ["b"]);
    assert_eq!(clean(&*store, 3 * DAY + 1).await, 0);
    one(&*store, group(3 * DAY + 1)).await.unwrap();
    assert_eq!(ids(&*store, 1).await, ["b", "g"]);
}

pub async fn a_removed_message_can_be_accepted_while_its_id_is_remembered(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(keep(HOUR)).await;
    commit(
        &*store,
        vec![
            create(50, 1),
            join(50, 2),
            join(50, 3),
            sent(START, to_group(1, 50, "g")),
            sent(START, p2p(1, 2, "p")),
        ],
    )
    .await;
    assert_eq!(clean(&*store, DAY).await, 4);
    let accept = |by, id, after| sent(START + after, ack(by, 1, id));
    let committed = commit(
        &*store,
        vec![
            accept(2, "p", DAY),
            accept(2, "g", DAY),
            accept(2, "g", DAY),
            accept(3, "p", DAY),
        ],
    )
    .await;
    let unknown = Err(Rejected::NoSuchMessage);
    assert_eq!(committed.accepted(), [Ok(()), Ok(()), Ok(()), unknown]);
    assert_eq!(ids(&*store, 1).await, ["p", "g"]);
    assert_eq!(clean(&*store, DAY + 1).await, 0);
    let later = vec![accept(3, "g", DAY + 1), accept(2, "p", DAY + 1)];
    assert_eq!(commit(&*store, later).await.accepted(), [unknown, unknown]);
    assert_eq!(ids(&*store, 1).await, ["p", "g"]);
}

pub async fn unread_entries_that_are_removed_are_no_longer_pending(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(newest(1)).await;
    filled(&*store, &[0; 5]).await;
    let first_two = PageLimit {
        entries: 2,
        bytes: usize::MAX,
    };
    store
        .read_page(Uid(2), Version(0), first_two)
        .await
        .unwrap();
    assert_eq!(clean(&*store, 0).await, 4);
    let ledger = |delivered, removed| Ledger {
        stored: 5,
        delivered,
        removed,
    };
    assert_eq!(store.ledger(), ledger(2, 2));
    store.read_page(Uid(2), Version(2), ALL).await.unwrap();
    assert_eq!(store.ledger(), ledger(3, 2));
    assert_eq!(clean(&*store, 0).await, 0);
    assert_eq!(store.ledger(), ledger(3, 2));
}

/// Two users send and one reads page after page, while the store is cleaned again and again.
pub async fn clients_are_served_during_a_cleaning(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    const EACH: usize = 300;
    let store = make(newest(10)).await;
    commit(&*store, vec![create(50, 1), join(50, 2)]).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let removed = Arc::new(AtomicU64::new(0));
    let cleaner = {
        let (store, is_over, removed) = (store.clone(), is_over.clone(), removed.clone());
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let count = store.clean(START).await.unwrap();
                removed.fetch_add(count, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    };
    let reader = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut current = Version(0);
            while current < Version(4 * EACH as i64) {
                let page = store.read_page(Uid(2), current, ALL).await.unwrap();
                let versions = page.entries.iter().map(|entry| entry.version.0);
                let first = page.current - page.entries.len() as i64 + 1;
                assert!(first > current, "{first} after {current}");
                assert!(versions.eq(first.0..=page.current.0));
                assert!(page.current <= page.total);
                current = page.current;
                tokio::task::yield_now().await;
            }
        })
    };
    let senders: Vec<_> = (1..=2)
        .map(|source| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..EACH {
                    let direct = sent(START, p2p(source, 2, &format!("p{n}")));
                    let group = sent(START, to_group(source, 50, &format!("g{n}")));
                    let results = commit(&*store, vec![direct, group]).await.accepted();
                    assert_eq!(results, [Ok(()), Ok(())]);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    reader.await.unwrap();
    is_over.store(true, Ordering::SeqCst);
    cleaner.await.unwrap();
    store.clean(START).await.unwrap();
    let total = 4 * EACH as i64;
    assert_eq!(inbox_state(&*store, 2).await.1, total);
    assert!(versions(&*store, 2).await.into_iter().eq(total - 9..=total));
    assert_eq!(inbox_state(&*store, 1).await.1, total / 2);
    assert_eq!(versions(&*store, 1).await.len(), 10);
}

/// The contents are replaced at each step of a cleaning. What the cleaning has read of the old contents does not apply to the
/// new ones.
pub async fn a_cleaning_leaves_replaced_contents_alone(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(newest(3)).await;
    filled(&*store, &[0; 3]).await;
    let few = store.snapshot(usize::MAX).await.unwrap();
    filled(&*store, &[0; 1_100]).await;
    let many_entries = store.snapshot(usize::MAX).await.unwrap();
    assert_eq!(clean(&*store, 0).await, 1_097);
    let many_ids = store.snapshot(usize::MAX).await.unwrap();
    for (old, after) in [(many_entries, 0), (many_ids, DAY + 1)] {
        for steps in 1..=2 {
            store.replace(old.clone()).await.unwrap();
            let mut cleaning = store.clean(START + after);
            for _ in 0..steps {
                step(cleaning.as_mut()).await;
            }
            store.replace(few.clone()).await.unwrap();
            cleaning.await.unwrap();
            assert_eq!(versions(&*store, 2).await, [1, 2, 3], "{after} {steps}");
            // The ids of the new messages are remembered.
            filled(&*store, &[0; 3]).await;
            assert_eq!(versions(&*store, 2).await, [1, 2, 3], "{after} {steps}");
        }
    }
}

/// Polls a future that is not ready, until it is woken.
async fn step(mut future: Pin<&mut (impl Future + ?Sized)>) {
    let mut has_begun = false;
    poll_fn(|context| {
        if mem::replace(&mut has_begun, true) {
            return Poll::Ready(());
        }
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Pending
    })
    .await;
}

/// The runtime has one thread, on which other tasks run only when the cleaning yields.
#[tokio::test]
async fn a_large_cleaning_of_the_memory_store_takes_turns() {
    let store = Arc::new(MemoryStore::new(1 << 30, newest(1)));
    let batch = (0..50_000)
        .map(|n: i32| p2p(1, 2, &n.to_string()))
        .collect();
    commit(&*store, batch).await;
    let turns = Arc::new(AtomicU64::new(0));
    let other = {
        let turns = Arc::clone(&turns);
        tokio::spawn(async move {
            loop {
                turns.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    };
    assert_eq!(clean(&*store, 0).await, 49_999);
    other.abort();
    assert!(turns.load(Ordering::SeqCst) >= 10);
    assert_eq!(versions(&*store, 2).await, [50_000]);
}

#[tokio::test]
async fn a_memory_store_that_is_cleaned_has_room_again() {
    let store = MemoryStore::new(1 << 16, newest(2));
    commit(&store, vec![create(50, 1), join(50, 2)]).await;
    let big = |n: i64| {
        let mut message = message(Kind::Group, 1, 50, &n.to_string(), &"x".repeat(8_000));
        Arc::make_mut(&mut message).sent_at = START + n * HOUR;
        Write::Group { message }
    };
    // The messages are many times what the store may hold. It also holds the ids of a day.
    for n in 0..1_000 {
        assert_eq!(one(&store, big(n)).await, Ok(()), "message {n}");
        clean(&store, n * HOUR).await;
    }
    assert_eq!(versions(&store, 2).await, [999, 1_000]);
}

#[tokio::test]
async fn the_ids_that_a_memory_store_remembers_take_room_for_a_day() {
    let store = MemoryStore::new(1 << 16, newest(1));
    let mut stored = 0;
    while one(&store, sent(START, p2p(1, 2, &stored.to_string()))).await == Ok(()) {
        stored += 1;
        clean(&store, DAY).await;
        assert!(stored < 1_000, "the ids take no room");
    }
    clean(&store, DAY).await;
    assert_eq!(
        one(&store, sent(START, p2p(1, 2, "next"))).await,
        Err(Rejected::Full)
    );
    clean(&store, DAY + 1).await;
    one(&store, sent(START, p2p(1, 2, "next"))).await.unwrap();
}

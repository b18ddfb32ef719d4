//! The contract of looking at a store and of replacing it: peeks, lists, ledgers, snapshots and `StoreAdmin::replace`.
//!
//! Looking leaves no trace, a snapshot goes from any store to any other, and a replacement is one commit. What damaged
//! snapshot files do is tested in `lab/bad_snapshots`.

use super::*;
use imd::id::{GroupId, Uid, Version};
use imd::store::{Group, ReplaceError, SaveError};

const EMPTY: InboxState = InboxState {
    uid: Uid(2),
    read: Version(0),
    total: Version(0),
};

async fn saved(store: &dyn Store) -> Snapshot {
    store.snapshot(usize::MAX).await.unwrap()
}

/// Returns a snapshot of the contents that was written to a file and read again.
async fn filed(store: &dyn Store) -> Snapshot {
    let mut file = Vec::new();
    saved(store).await.write(&mut file).unwrap();
    Snapshot::read(&file).unwrap()
}

/// Fills a store with everything that it can hold: members who joined and quit, read marks, acks, and removed messages.
async fn fill(store: &dyn Store) {
    let batch = vec![
        register(1),
        register(2),
        create(50, 1),
        join(50, 2),
        to_group(1, 50, "to 1 and 2"),
        join(50, 3),
        to_group(2, 50, "to all"),
        quit(50, 2),
        to_group(3, 50, "to 1 and 3"),
        join(50, 2),
        to_group(1, 50, "to all again"),
        quit(50, 3),
        create(60, 3),
        p2p(1, 2, "a"),
        p2p(3, 2, "a"),
        p2p(1, 2, "b \"quoted\", and\nbroken"),
        ack(2, 1, "a"),
    ];
    let results = commit(store, batch).await.accepted();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    store.read_page(Uid(2), Version(3), ALL).await.unwrap();
}

pub async fn a_peek_leaves_no_trace(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let store = make(Retention::default()).await;
    fill(&*store).await;
    let before = (store.ledger(), store.inbox_state(Uid(2)).await.unwrap());
    for (after, entries) in [(-1, 0), (0, 2), (2, 0), (6, 0), (99, 0), (99, 1)] {
        let limit = PageLimit { entries, ..ALL };
        let peeked = store.peek(Uid(2), Version(after), limit).await.unwrap();
        let now = (store.ledger(), store.inbox_state(Uid(2)).await.unwrap());
        assert_eq!(now, before, "{after}");
        // The peeked page is equal to the page of a sync, which moves the read mark.
        let twin = make(Retention::default()).await;
        fill(&*twin).await;
        assert_eq!(
            peeked,
            twin.read_page(Uid(2), Version(after), limit).await.unwrap()
        );
    }
    assert_eq!(store.peek(Uid(99), Version(0), ALL).await.unwrap().total, 0);
}

pub async fn users_and_groups_are_listed_in_parts(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let store = make(Retention::default()).await;
    for uid in [7, 3, i64::MAX, 5] {
        one(&*store, register(uid)).await.unwrap();
    }
    let uids = async |after, max_users| {
        let users = store.users(after, max_users).await.unwrap();
        assert!(
            users
                .iter()
                .all(|(uid, user)| user.name == format!("user {uid}"))
        );
        users.into_iter().map(|(uid, _)| uid).collect::<Vec<_>>()
    };
    assert_eq!(uids(Uid(0), 2).await, [3, 5]);
    assert_eq!(uids(Uid(5), 9).await, [7, i64::MAX]);
    assert!(uids(Uid(i64::MAX), 9).await.is_empty());
    assert!(uids(Uid(0), 0).await.is_empty());

    commit(
        &*store,
        vec![create(60, 9), create(50, 2), join(50, 1), quit(50, 2)],
    )
    .await;
    let group = |gid, owner, members: &[i64]| Group {
        gid,
        name: "team".into(),
        owner: Some(Uid(owner)),
        members: members.iter().copied().map(Uid).collect(),
    };
    assert_eq!(
        store.groups(GroupId(0), 9).await.unwrap(),
        [group(GroupId(50), 2, &[1]), group(GroupId(60), 9, &[9])]
    );
    assert_eq!(
        store.groups(GroupId(50), 1).await.unwrap(),
        [group(GroupId(60), 9, &[9])]
    );
}

pub async fn each_inbox_is_counted(make: impl AsyncFn(Retention) -> Arc<dyn Store>) {
    let max_inbox = Some(1);
    let keep = None;
    let store = make(Retention { keep, max_inbox }).await;
    commit(
        &*store,
        vec![
            p2p(1, 2, "a"),
            p2p(1, 2, "b"),
            p2p(1, 2, "c"),
            p2p(1, 3, "a"),
        ],
    )
    .await;
    let limit = PageLimit { entries: 1, ..ALL };
    store.read_page(Uid(2), Version(0), limit).await.unwrap();
    store.clean(2).await.unwrap();
    let two = Ledger {
        stored: 3,
        delivered: 1,
        removed: 1,
    };
    let three = Ledger {
        stored: 1,
        delivered: 0,
        removed: 0,
    };
    assert_eq!(store.ledgers(Uid(0), 9), [(Uid(2), two), (Uid(3), three)]);
    assert_eq!((two.pending(), store.ledger().pending()), (1, 2));
    assert_eq!(store.ledgers(Uid(0), 1), [(Uid(2), two)]);
    assert_eq!(store.ledgers(Uid(2), 9), [(Uid(3), three)]);
}

/// Otherwise a list of the first inboxes with counts would need many calls after a large snapshot was loaded.
pub async fn inboxes_without_counts_are_not_listed(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(Retention::default()).await;
    fill(&*store).await;
    store.replace(saved(&*store).await).await.unwrap();
    assert_eq!(store.ledgers(Uid(0), 9), []);
    one(&*store, p2p(1, 9, "a")).await.unwrap();
    let one_to_come = Ledger {
        stored: 1,
        ..Ledger::default()
    };
    assert_eq!(store.ledgers(Uid(0), 1), [(Uid(9), one_to_come)]);
}

pub async fn an_empty_snapshot_replaces_everything(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(Retention::default()).await;
    fill(&*store).await;
    let (key, newest) = (
        store.signing_key().await.unwrap(),
        store.latest_time_ms().await.unwrap(),
    );
    store.replace(Snapshot::default()).await.unwrap();
    assert_eq!(store.signing_key().await.unwrap(), key);
    assert_eq!(store.latest_time_ms().await.unwrap(), newest);
    assert_eq!(store.ledger(), Ledger::default());
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap(), EMPTY);
    assert!(inbox(&*store, 2).await.is_empty());
    assert!(store.user(Uid(1)).await.unwrap().is_none());
    assert!(store.users(Uid(0), 9).await.unwrap().is_empty());
    assert!(store.groups(GroupId(0), 9).await.unwrap().is_empty());
    let gone = Err(Rejected::NoSuchGroup);
    assert_eq!(one(&*store, to_group(1, 50, "x")).await, gone);
    assert_eq!(
        one(&*store, ack(2, 1, "a")).await,
        Err(Rejected::NoSuchMessage)
    );
    // The same contents can be stored again, and versions begin at 1.
    fill(&*store).await;
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().read, 3);
    assert_eq!(ids(&*store, 2).await[3], "a");
    assert_eq!(
        store.ledger().stored,
        store
            .ledgers(Uid(0), 9)
            .iter()
            .map(|(_, l)| l.stored)
            .sum::<u64>()
    );
}

pub async fn a_snapshot_goes_from_any_store_to_any_other(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let retention = Retention {
        keep: None,
        max_inbox: Some(4),
    };
    let store = make(retention).await;
    fill(&*store).await;
    store.clean(2).await.unwrap();
    let snapshot = filed(&*store).await;
    assert!(snapshot == saved(&*store).await);
    for other in [
        memory(retention).await,
        #[cfg(feature = "durable")]
        folder::make(retention).await,
    ] {
        one(&*other, p2p(8, 9, "was there before")).await.unwrap();
        other.replace(snapshot.clone()).await.unwrap();
        assert!(saved(&*other).await == snapshot);
        assert_eq!(other.ledger(), Ledger::default());
        assert_eq!(other.inbox_state(Uid(9)).await.unwrap().total, 0);
        assert!(other.latest_time_ms().await.unwrap() >= store.latest_time_ms().await.unwrap());
        for uid in 1..4 {
            assert_eq!(
                other.inbox_state(Uid(uid)).await.unwrap(),
                store.inbox_state(Uid(uid)).await.unwrap()
            );
            assert_eq!(inbox(&*other, uid).await, inbox(&*store, uid).await);
        }
        // Both stores go on from the snapshot alike.
        for store in [&store, &other] {
            one(&**store, p2p(3, 2, "new")).await.unwrap();
            assert_eq!(store.clean(2).await.unwrap(), 1);
            // The contents are those of the snapshot again.
            store.replace(snapshot.clone()).await.unwrap();
        }
    }
}

pub async fn clients_go_on_after_a_snapshot_was_loaded(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let from = make(Retention::default()).await;
    fill(&*from).await;
    let store = make(Retention::default()).await;
    store.replace(filed(&*from).await).await.unwrap();
    // Messages from before the snapshot are recognised when they are sent again.
    let again = vec![
        p2p(1, 2, "a"),
        to_group(1, 50, "to 1 and 2"),
        ack(2, 1, "a"),
        join(50, 2),
    ];
    let committed = commit(&*store, again).await;
    assert!(committed.results.iter().all(Result::is_ok) && committed.grown_inboxes.is_empty());
    assert_eq!(one(&*store, register(1)).await, Err(Rejected::UserExists));
    assert_eq!(
        store.user(Uid(1)).await.unwrap().unwrap().password_hash,
        "hash"
    );
    // Versions and read marks continue behind those of the snapshot.
    let before = store.inbox_state(Uid(2)).await.unwrap();
    assert_eq!(before.read, 3);
    let committed = commit(&*store, vec![to_group(2, 50, "n"), p2p(1, 2, "n")]).await;
    assert_eq!(committed.grown_inboxes.len(), 2);
    assert_eq!(
        store.inbox_state(Uid(2)).await.unwrap().total,
        before.total + 2
    );
    let page = store.read_page(Uid(2), before.total, ALL).await.unwrap();
    assert_eq!(page.entries.len(), 2);
    // The messages of the snapshot are not counted.
    assert_eq!((store.ledger().stored, store.ledger().delivered), (3, 2));
}

pub async fn the_receivers_of_a_group_message_are_known_after_a_load(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let from = make(Retention::default()).await;
    fill(&*from).await;
    let store = make(Retention::default()).await;
    store.replace(saved(&*from).await).await.unwrap();
    let missing = Err(Rejected::NoSuchMessage);
    for (by, from, id, expected) in [
        (2, 1, "to 1 and 2", Ok(())),
        (3, 1, "to 1 and 2", missing),
        (3, 2, "to all", Ok(())),
        (2, 3, "to 1 and 3", missing),
        (1, 3, "to 1 and 3", Ok(())),
        (3, 1, "to all again", Ok(())),
        (2, 1, "to all again", Ok(())),
    ] {
        assert_eq!(one(&*store, ack(by, from, id)).await, expected, "{by} {id}");
    }
    let not_member = Err(Rejected::NotAMember);
    assert_eq!(one(&*store, to_group(3, 50, "x")).await, not_member);
}

pub async fn a_snapshot_beyond_its_limit_is_refused(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(Retention::default()).await;
    fill(&*store).await;
    let refused = store.snapshot(1_000).await;
    assert!(matches!(refused, Err(SaveError::TooLarge { limit: 1_000 })));
    let mut file = Vec::new();
    saved(&*store).await.write(&mut file).unwrap();
    assert!(store.snapshot(2 * file.len()).await.is_ok());
}

pub async fn a_batch_during_a_replacement_is_stored_whole_or_not_at_all(
    make: impl AsyncFn(Retention) -> Arc<dyn Store>,
) {
    let store = make(Retention::default()).await;
    let senders: Vec<_> = (1..=4)
        .map(|source| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..50 {
                    let batch = vec![
                        p2p(source, 9, &format!("{n}")),
                        p2p(source, 8, &format!("{n}")),
                    ];
                    let committed = commit(&*store, batch).await;
                    assert_eq!(committed.accepted(), [Ok(()), Ok(())]);
                }
            })
        })
        .collect();
    let mut snapshot = Snapshot::default();
    for _ in 0..10 {
        store.replace(snapshot).await.unwrap();
        snapshot = filed(&*store).await;
    }
    for sender in senders {
        sender.await.unwrap();
    }
    // The snapshot is valid, and both inboxes have the same messages.
    filed(&*store).await;
    let sent = async |uid| {
        let entries = inbox(&*store, uid).await.into_iter();
        entries
            .map(|(_, _, source, id)| (source, id))
            .collect::<Vec<_>>()
    };
    assert_eq!(sent(8).await, sent(9).await);
}

#[tokio::test]
async fn a_memory_store_refuses_a_snapshot_beyond_its_limit() {
    let from = memory_store(1 << 20);
    let text = "x".repeat(8_000);
    for n in 0..20 {
        let message = message(Kind::P2p, 1, 0, &n.to_string(), &text);
        one(
            &from,
            Write::P2p {
                target: Uid(2),
                message,
            },
        )
        .await
        .unwrap();
    }
    let store = memory_store(1 << 16);
    one(&store, p2p(1, 2, "kept")).await.unwrap();
    let refused = store.replace(saved(&from).await).await;
    assert!(matches!(refused, Err(ReplaceError::Full)), "{refused:?}");
    assert_eq!(ids(&store, 2).await, ["kept"]);
}

/// A long batch is done in parts, and other calls are done between them.
#[tokio::test]
async fn a_batch_that_a_replacement_interrupts_leaves_nothing() {
    let store = memory_store(1 << 30);
    let mut batch = vec![create(50, 1)];
    batch.extend((2..=1_000).map(|uid| join(50, uid)));
    batch.extend((0..20).map(|n| to_group(1, 50, &n.to_string())));
    batch.push(register(7));
    let long = store.commit(batch);
    tokio::pin!(long);
    assert!(futures_util::poll!(&mut long).is_pending());
    store.replace(Snapshot::default()).await.unwrap();
    assert!(long.await.is_err());
    assert!(saved(&store).await == Snapshot::default().with_latest_time(1));
}

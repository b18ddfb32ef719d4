//! What was stored is there again after a close, a crash and a replacement.
//!
//! Read this file first: it shows everything that the durable store promises to keep, on a folder that is in order.

use imd::id::{Uid, Version};
use imd::store::{
    AccountStore, DurableStore, InboxState, Inspection, Kind, MessageStore, Rejected, Snapshot,
    StoreAdmin,
};

use crate::fixture::{
    ack, crashed, create, inbox, join, one, open, open_small, p2p, register, to_group,
};

/// Stores something of every kind: a user, a group, messages, an ack and a read mark.
async fn fill(store: &DurableStore) {
    let batch = vec![
        register(1),
        create(9, 1),
        join(9, 2),
        p2p(1, 2, "a"),
        to_group(2, 9, "b"),
        ack(2, 1, "a"),
    ];
    let committed = store.commit(batch).await.unwrap();
    assert!(committed.results.iter().all(Result::is_ok));
    store
        .read_page(Uid(2), Version(2), crate::fixture::ALL)
        .await
        .unwrap();
    // The commit of another message takes the read mark along.
    let committed = store.commit(vec![p2p(1, 2, "c")]).await.unwrap();
    assert_eq!(committed.grown_inboxes[0].read, Version(2));
}

/// Checks that everything that [`fill`] has stored is there.
async fn check(store: &DurableStore) {
    let row = |version, kind, source, id: &str| (version, kind, source, id.to_owned());
    let ones = [row(1, Kind::Group, 2, "b"), row(2, Kind::Ack, 2, "a")];
    let twos = [
        row(1, Kind::P2p, 1, "a"),
        row(2, Kind::Group, 2, "b"),
        row(3, Kind::P2p, 1, "c"),
    ];
    assert_eq!(inbox(store, 1).await, ones);
    assert_eq!(inbox(store, 2).await, twos);
    let state = InboxState {
        uid: Uid(2),
        read: Version(2),
        total: Version(3),
    };
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap(), state);
    let user = store.user(Uid(1)).await.unwrap().unwrap();
    assert_eq!(
        (user.name.as_str(), user.password_hash.as_str()),
        ("user 1", "hash")
    );
    assert_eq!(store.user(Uid(2)).await.unwrap(), None);
}

/// Checks that the store continues behind what [`fill`] has stored: no message is stored twice, versions follow, and members
/// can send.
async fn go_on(store: &DurableStore) {
    let again = vec![
        p2p(1, 2, "a"),
        to_group(2, 9, "b"),
        ack(2, 1, "a"),
        ack(2, 1, "c"),
    ];
    let committed = store.commit(again).await.unwrap();
    assert!(committed.results.iter().all(Result::is_ok));
    assert_eq!(
        committed.grown_inboxes,
        [InboxState {
            uid: Uid(1),
            read: Version(0),
            total: Version(3)
        }]
    );
    assert_eq!(one(store, register(1)).await, Err(Rejected::UserExists));
    assert_eq!(
        one(store, to_group(3, 9, "d")).await,
        Err(Rejected::NotAMember)
    );
    assert_eq!(one(store, to_group(1, 9, "d")).await, Ok(()));
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 4);
}

#[tokio::test]
async fn everything_is_there_after_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let key = store.signing_key().await.unwrap();
    fill(&store).await;
    store.close().await.unwrap();
    let store = open(folder.path()).unwrap();
    assert_eq!(store.signing_key().await.unwrap(), key);
    check(&store).await;
    go_on(&store).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn everything_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let key = store.signing_key().await.unwrap();
    fill(&store).await;
    let copy = crashed(folder.path());
    let survivor = open(copy.path()).unwrap();
    assert_eq!(survivor.signing_key().await.unwrap(), key);
    check(&survivor).await;
    go_on(&survivor).await;
}

#[tokio::test]
async fn many_crashes_and_closes_leave_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = None;
    for run in 0..5 {
        // Runs end with a crash and with a close in turn.
        let here = match &last {
            Some(copy) => tempfile::TempDir::path(copy),
            None => folder.path(),
        };
        let store = open_small(here);
        for n in 0..300 {
            one(&store, p2p(1, 2, &format!("{run}-{n}"))).await.unwrap();
        }
        if run % 2 == 0 {
            let copy = crashed(here);
            last = Some(copy);
        } else {
            store.close().await.unwrap();
        }
    }
    let last = last.unwrap();
    let store = open(last.path()).unwrap();
    let found = inbox(&store, 2).await;
    let expected = (0..1_500).map(|n| (n + 1, Kind::P2p, 1, format!("{}-{}", n / 300, n % 300)));
    assert_eq!(found, expected.collect::<Vec<_>>());
    store.close().await.unwrap();
    let inspection = Inspection::open(last.path()).unwrap();
    let findings = inspection.check();
    assert_eq!(
        (findings.entries, findings.ids, findings.wrong),
        (1_500, 1_500, 0)
    );
}

#[tokio::test]
async fn a_batch_that_is_not_awaited_is_stored_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    one(&store, create(9, 1)).await.unwrap();
    one(&store, join(9, 2)).await.unwrap();
    {
        // The batch is submitted, and its future dropped before the answer.
        let commit = store.commit(vec![to_group(1, 9, "a"), p2p(1, 2, "b")]);
        tokio::pin!(commit);
        let once = futures_util::poll!(&mut commit);
        assert!(once.is_pending());
    }
    // Batches are stored in the order in which they are submitted, so the batch above is stored by now or never.
    one(&store, p2p(1, 3, "c")).await.unwrap();
    assert_eq!(inbox(&store, 1).await.len(), 1);
    assert_eq!(inbox(&store, 2).await.len(), 2);
}

#[tokio::test]
async fn the_text_of_a_group_message_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    one(&store, create(9, 1)).await.unwrap();
    let joins = (2..=1_000).map(|uid| join(9, uid)).collect();
    store.commit(joins).await.unwrap();
    one(&store, to_group(1, 9, "a")).await.unwrap();
    assert_eq!(inbox(&store, 1_000).await.len(), 1);
    store.close().await.unwrap();
    let findings = Inspection::open(folder.path()).unwrap().check();
    assert_eq!((findings.entries, findings.group_messages), (1_000, 1));
    assert_eq!(findings.problems, Vec::<String>::new());
}

/// The numbers of the commits continue across a replacement, so that a folder which has lost the newest commits is still
/// refused.
#[tokio::test]
async fn a_replacement_survives_a_crash_and_nothing_from_before_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    fill(&store).await;
    let snapshot = store.snapshot(usize::MAX).await.unwrap();
    store.replace(Snapshot::default()).await.unwrap();
    one(&store, p2p(8, 9, "x")).await.unwrap();
    let emptied = crashed(folder.path());
    store.replace(snapshot.clone()).await.unwrap();
    let loaded = crashed(folder.path());
    store.close().await.unwrap();
    let commits = |path| {
        let findings = Inspection::open(path).unwrap().check();
        assert_eq!(findings.problems, Vec::<String>::new());
        findings.commits
    };
    let closed = commits(folder.path());
    assert!(closed > commits(emptied.path()));
    assert_eq!(closed, commits(loaded.path()));

    let store = open(emptied.path()).unwrap();
    assert_eq!(inbox(&store, 9).await.len(), 1);
    assert!(inbox(&store, 2).await.is_empty());
    assert_eq!(
        one(&store, to_group(2, 9, "b")).await,
        Err(Rejected::NoSuchGroup)
    );
    for path in [loaded.path(), folder.path()] {
        let store = open(path).unwrap();
        assert!(store.snapshot(usize::MAX).await.unwrap() == snapshot);
        check(&store).await;
        assert!(inbox(&store, 9).await.is_empty());
    }
}

/// The contents are so large that a replacement makes the engine drop whole tables.
#[tokio::test]
async fn a_large_store_is_emptied_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_small(folder.path());
    for batch in 0..10 {
        let sends = (0..1_000).map(|n| p2p(1, 2, &format!("{batch}-{n}")));
        store.commit(sends.collect()).await.unwrap();
    }
    let snapshot = store.snapshot(usize::MAX).await.unwrap();
    store.replace(Snapshot::default()).await.unwrap();
    assert!(inbox(&store, 2).await.is_empty());
    store.replace(snapshot).await.unwrap();
    assert_eq!(inbox(&store, 2).await.len(), 10_000);
    one(&store, p2p(1, 2, "0-0")).await.unwrap();
    one(&store, p2p(1, 2, "new")).await.unwrap();
    store.close().await.unwrap();
    let findings = Inspection::open(folder.path()).unwrap().check();
    assert_eq!((findings.entries, findings.wrong), (10_001, 0));
}

//! Tests what is stored and what is refused on a disk that has little space, or whose space is not known.

use super::*;

#[tokio::test]
async fn without_space_nothing_is_stored_and_everything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &free);
    assert_eq!(send(&store, "a").await, Ok(()));
    assert_eq!(send(&store, "b").await, Ok(()));

    free.store(FLOOR - 1, Ordering::SeqCst);
    assert_eq!(send(&store, "c").await, Err(Rejected::DiskFull));
    // Read marks are small, and the space below the floor is for them.
    assert_eq!(
        store
            .read_page(Uid(2), Version(1), ALL)
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().read, 1);
    // Entries can still be removed, because that is what makes space.
    assert_eq!(store.clean(2).await.unwrap(), 1);

    free.store(0, Ordering::SeqCst);
    assert_eq!(
        store
            .read_page(Uid(2), Version(2), ALL)
            .await
            .unwrap()
            .total,
        2
    );
    // The mark is shown, and waits in memory for a commit.
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().read, 2);
    assert_eq!(store.user(Uid(2)).await.unwrap(), None);
    assert_eq!(store.clean(2).await.unwrap(), 0);

    free.store(FLOOR, Ordering::SeqCst);
    assert_eq!(send(&store, "c").await, Ok(()));
    assert_eq!(
        store
            .read_page(Uid(2), Version(2), ALL)
            .await
            .unwrap()
            .total,
        3
    );
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().read, 2);
    store.close().await.unwrap();
}

#[tokio::test]
async fn without_space_nothing_is_loaded_and_everything_can_go() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &free);
    send(&store, "a").await.unwrap();
    let snapshot = store.snapshot(usize::MAX).await.unwrap();
    send(&store, "b").await.unwrap();
    for bytes in [FLOOR - 1, 0] {
        free.store(bytes, Ordering::SeqCst);
        let refused = store.replace(snapshot.clone()).await;
        assert!(matches!(refused, Err(ReplaceError::Full)), "{refused:?}");
        assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 2);
    }
    let refused = store.replace(Snapshot::default()).await;
    assert!(matches!(refused, Err(ReplaceError::Full)), "{refused:?}");
    free.store(FLOOR - 1, Ordering::SeqCst);
    store.replace(Snapshot::default()).await.unwrap();
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 0);
    free.store(FLOOR, Ordering::SeqCst);
    store.replace(snapshot).await.unwrap();
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1);
}

#[tokio::test]
async fn where_there_is_plenty_a_disk_that_fills_up_is_seen_soon() {
    const BIG: usize = 64 << 10;
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(FLOOR + PLENTY));
    let store = open(folder.path(), &free);
    let big = |n: usize| {
        let message = message(Uid(1), &n.to_string()).with_text(&"x".repeat(BIG));
        Write::P2p {
            target: Uid(2),
            message: message.into(),
        }
    };
    for round in [0, 1_000] {
        free.store(FLOOR + PLENTY, Ordering::SeqCst);
        assert_eq!(send(&store, &format!("first of {round}")).await, Ok(()));
        free.store(FLOOR - 1, Ordering::SeqCst);
        let mut stored = 0;
        let refused = loop {
            let committed = store.commit(vec![big(round + stored)]).await.unwrap();
            match committed.accepted()[0] {
                Ok(()) => stored += 1,
                Err(rejected) => break rejected,
            }
            assert!(stored <= BYTES_PER_CHECK / BIG + 1);
        };
        assert_eq!(refused, Rejected::DiskFull);
    }
    // The system is asked again after a while, however little is written.
    free.store(FLOOR + PLENTY, Ordering::SeqCst);
    assert_eq!(send(&store, "small").await, Ok(()));
    free.store(FLOOR - 1, Ordering::SeqCst);
    // A duplicate writes nothing, so it is the time and not the size that makes the store ask again.
    let refused = async {
        loop {
            if let Err(rejected) = send(&store, "small").await {
                break rejected;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await;
    assert_eq!(refused, Ok(Rejected::DiskFull));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_cleaning_without_space_ends() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &free);
    // More entries than one commit removes.
    let writes = (0..1_200).map(|n| p2p(Uid(1), Uid(2), &n.to_string()));
    store.commit(writes.collect()).await.unwrap();
    free.store(0, Ordering::SeqCst);
    assert_eq!(store.clean(2).await.unwrap(), 0);
    free.store(FLOOR, Ordering::SeqCst);
    assert_eq!(store.clean(2).await.unwrap(), 1_199);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_disk_whose_space_is_not_known_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let is_known = Arc::new(AtomicU64::new(1));
    let free = {
        let is_known = Arc::clone(&is_known);
        move |_: &Path| match is_known.load(Ordering::SeqCst) {
            0 => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(FLOOR),
        }
    };
    let config = config::Store {
        min_free: FLOOR,
        ..config::Store::default()
    };
    let store = DurableStore::open_with(folder.path(), &config, std::sync::Arc::new(free)).unwrap();
    assert_eq!(send(&store, "a").await, Ok(()));
    assert_eq!(store.shortage(), None);
    is_known.store(0, Ordering::SeqCst);
    assert_eq!(send(&store, "b").await, Err(Rejected::DiskFull));
    let shortage = store.shortage().unwrap();
    assert!(shortage.contains("is not known"), "{shortage}");
    is_known.store(1, Ordering::SeqCst);
    assert_eq!(send(&store, "b").await, Ok(()));
    store.close().await.unwrap();
}

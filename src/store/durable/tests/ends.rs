//! Tests a store that has failed, and one that is dropped without a close.

use super::*;

#[tokio::test]
async fn a_store_that_has_failed_answers_nothing_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    assert_eq!(send(&store, "a").await, Ok(()));
    let waits = store.failed();
    tokio::pin!(waits);
    assert!(futures_util::poll!(&mut waits).is_pending());

    let broken = io::Error::other("the disk is broken");
    store.shared.fail(broken.into());
    let why = "the store has failed: the disk is broken";
    assert_eq!(waits.await.to_string(), why);
    assert_eq!(store.failed().await.to_string(), why);
    let refused = store.commit(vec![p2p(Uid(1), Uid(2), "b")]).await;
    assert_eq!(refused.unwrap_err().to_string(), why);
    assert_eq!(
        store
            .read_page(Uid(2), Version(0), ALL)
            .await
            .unwrap_err()
            .to_string(),
        why
    );
    assert_eq!(
        store
            .read_page(Uid(2), Version(1), ALL)
            .await
            .unwrap_err()
            .to_string(),
        why
    );
    assert_eq!(
        store.inbox_state(Uid(2)).await.unwrap_err().to_string(),
        why
    );
    assert_eq!(store.close().await.unwrap_err().to_string(), why);
    // The acknowledged message is still stored.
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_engine_that_waits_for_space_is_not_taken_for_a_closed_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    assert_eq!(send(&store, "a").await, Ok(()));
    // As after a try to open a poisoned engine again that has found no space.
    store.shared.forget_recent();
    drop(store.shared.engine.write().take());
    let refused = store.inbox_state(Uid(2)).await;
    assert!(
        matches!(refused, Err(StoreError::EngineNotReopened)),
        "{refused:?}"
    );
    store.close().await.unwrap();
    let refused = store.inbox_state(Uid(2)).await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
}

#[tokio::test]
async fn a_store_that_is_dropped_lets_its_folder_go() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &free);
    assert_eq!(send(&store, "a").await, Ok(()));
    let gone = Arc::downgrade(&store.shared);
    drop(store);
    // A dropped store leaves the end of its writer to itself, so the test waits for it, with a deadline.
    tokio::time::timeout(PATIENCE, async {
        while gone.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let store = open(folder.path(), &free);
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1);
    store.close().await.unwrap();
}

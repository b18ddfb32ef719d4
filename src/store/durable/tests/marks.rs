//! Tests that read marks are noted without a wait for the disk, are visible at once, and are stored soon.

use futures_util::FutureExt;

use super::super::answers::{Outcome, PendingAnswer};
use super::super::marks::ReadMarks;
use super::*;

/// Opens a store whose writer waits at a gate before each commit, and puts two messages into the inbox of user 2.
async fn open_gated(path: &Path) -> (DurableStore, Gate) {
    let (store, gate) = Gate::open(path);
    let mut sent = store.commit(vec![
        p2p(Uid(1), Uid(2), "first"),
        p2p(Uid(1), Uid(2), "second"),
    ]);
    assert!(futures_util::poll!(&mut sent).is_pending());
    gate.wait();
    gate.let_go();
    assert_eq!(sent.await.unwrap().accepted(), [Ok(()), Ok(())]);
    (store, gate)
}

/// Returns the read mark of user 2 that the last commit has left.
fn stored_mark(store: &DurableStore) -> Version {
    let engine = store.shared.engine.read();
    let view = engine.as_ref().unwrap().view();
    InboxBounds::read(&view, Uid(2)).unwrap().read
}

/// Returns the read mark of user 2 that clients are shown.
async fn shown_mark(store: &DurableStore) -> Version {
    store.inbox_state(Uid(2)).await.unwrap().read
}

/// Reads the inbox of user 2 after a version, which moves the read mark there.
async fn read(store: &DurableStore, after: i64) -> Page {
    let page = store.read_page(Uid(2), Version(after), ALL);
    page.await.unwrap()
}

#[tokio::test]
async fn a_page_is_answered_while_the_writer_is_held_up() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = open_gated(folder.path()).await;
    let mut other = store.commit(vec![p2p(Uid(1), Uid(2), "third")]);
    assert!(futures_util::poll!(&mut other).is_pending());
    gate.wait();
    // The page is ready when it is polled for the first time.
    let page = read(&store, 1).now_or_never().unwrap();
    assert_eq!((page.entries.len(), page.total), (1, Version(2)));
    assert_eq!(shown_mark(&store).now_or_never(), Some(Version(1)));
    assert_eq!(stored_mark(&store), 0);
    gate.let_go();
    // The commit of another user's message has stored the mark, and its answer shows it.
    let committed = other.await.unwrap();
    assert_eq!(committed.grown_inboxes[0].read, 1);
    assert_eq!(stored_mark(&store), 1);
    assert!(store.shared.recent.lock().marks.is_empty());
    drop(gate);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_mark_is_visible_at_once_wherever_one_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = open_gated(folder.path()).await;
    let other = store.commit(vec![p2p(Uid(1), Uid(2), "third")]);
    tokio::pin!(other);
    assert!(futures_util::poll!(&mut other).is_pending());
    gate.wait();
    // The first mark is set by a page from memory, and the second by one from the engine.
    for (mark, is_from_engine) in [(1, false), (2, true)] {
        if is_from_engine {
            store.shared.forget_recent();
        }
        read(&store, mark).await;
        assert_eq!(shown_mark(&store).await, Version(mark));
        store.shared.forget_recent();
        assert_eq!(shown_mark(&store).await, Version(mark));
        let snapshot = store.snapshot(usize::MAX).await.unwrap();
        assert_eq!(snapshot.inboxes[0].read, Version(mark));
    }
    assert_eq!(stored_mark(&store), 0);
    // An older page moves nothing, and neither does one from beyond the inbox.
    read(&store, 1).await;
    read(&store, 9).await;
    assert_eq!(shown_mark(&store).await, Version(2));
    drop(gate);
    assert_eq!(other.await.unwrap().grown_inboxes[0].read, 2);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_mark_beyond_the_inbox_is_not_noted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    assert_eq!(send(&store, "a").await, Ok(()));
    read(&store, 2).await;
    store.shared.forget_recent();
    read(&store, 2).await;
    assert!(store.shared.recent.lock().marks.is_empty());
    assert_eq!(shown_mark(&store).await, Version(0));
    store.close().await.unwrap();
}

/// The answer of a commit was drafted before the mark was noted, and is given after it was shown.
#[test]
fn the_answer_of_a_commit_shows_the_marks_that_were_noted_meanwhile() {
    let (answer, mut answered) = oneshot::channel();
    let state = |uid, read, total| InboxState {
        uid: Uid(uid),
        read: Version(read),
        total: Version(total),
    };
    let mut pending = PendingAnswer::Batch {
        sender: answer,
        committed: Committed {
            results: Vec::new(),
            grown_inboxes: vec![state(1, 0, 5), state(2, 3, 5), state(3, 0, 5)],
        },
        stored: 0,
    };
    let mut marks = ReadMarks::default();
    for (uid, read) in [(1, 4), (2, 2), (3, 7)] {
        marks.note(Uid(uid), Version(read));
    }
    pending.show_marks(&marks);
    pending.send(&Outcome::Stored, None);
    let (committed, _) = answered.try_recv().unwrap();
    let shown = [state(1, 4, 5), state(2, 3, 5), state(3, 5, 5)];
    assert_eq!(committed.unwrap().grown_inboxes, shown);
}

/// No other job comes, so the writer is at the gate because of the mark alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_mark_that_no_commit_takes_along_gets_one_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = open_gated(folder.path()).await;
    for mark in 1..=2 {
        read(&store, mark).await;
        gate.wait();
        assert_eq!(stored_mark(&store), mark - 1);
        gate.let_go();
        let stored = async {
            while stored_mark(&store) < Version(mark) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, stored).await.unwrap();
    }
    drop(gate);
    store.close().await.unwrap();
}

#[tokio::test]
async fn marks_survive_a_close_and_a_drop() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &free);
    let writes = ["a", "b", "c"].map(|id| p2p(Uid(1), Uid(2), id));
    store.commit(writes.to_vec()).await.unwrap();
    read(&store, 1).await;
    store.close().await.unwrap();
    // A closed store answers no page whose mark it could not keep.
    let refused = store.read_page(Uid(2), Version(2), ALL).await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");

    let store = open(folder.path(), &free);
    assert_eq!(shown_mark(&store).await, Version(1));
    read(&store, 2).await;
    let shared = Arc::downgrade(&store.shared);
    drop(store);
    // The writer of a dropped store ends by itself.
    tokio::time::timeout(PATIENCE, async {
        while shared.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let store = open(folder.path(), &free);
    assert_eq!(shown_mark(&store).await, Version(2));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_page_that_is_read_while_the_store_closes_is_not_answered_unless_its_mark_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = open_gated(folder.path()).await;
    let mut held = store.commit(vec![p2p(Uid(1), Uid(3), "held")]);
    assert!(futures_util::poll!(&mut held).is_pending());
    gate.wait();
    read(&store, 1).await;
    let mut closed = store.close();
    assert!(futures_util::poll!(&mut closed).is_pending());
    let refused = store.read_page(Uid(2), Version(2), ALL).await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    drop(gate);
    closed.await.unwrap();
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    assert_eq!(shown_mark(&store).await, Version(1));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_mark_does_not_go_back_when_a_commit_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = open_gated(folder.path()).await;
    let mut refused = store.commit(vec![p2p(Uid(1), Uid(2), "refused")]);
    assert!(futures_util::poll!(&mut refused).is_pending());
    gate.wait();
    read(&store, 1).await;
    poison(&store, folder.path());
    drop(gate);
    assert_eq!(refused.await.unwrap().accepted(), [Err(Rejected::DiskFull)]);
    assert_eq!(shown_mark(&store).await, Version(1));
    assert_eq!(stored_mark(&store), 0);
    assert_eq!(store.shared.recent.lock().marks.get(Uid(2)), 1);
}

#[tokio::test]
async fn without_space_marks_wait_for_the_next_commit() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &free);
    assert_eq!(send(&store, "a").await, Ok(()));
    free.store(FLOOR / 2 - 1, Ordering::SeqCst);
    read(&store, 1).await;
    assert_eq!(send(&store, "b").await, Err(Rejected::DiskFull));
    assert_eq!(
        (shown_mark(&store).await, stored_mark(&store)),
        (Version(1), Version(0))
    );
    free.store(FLOOR, Ordering::SeqCst);
    assert_eq!(send(&store, "b").await, Ok(()));
    assert_eq!(stored_mark(&store), 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_replaced_store_forgets_its_marks() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    assert_eq!(send(&store, "a").await, Ok(()));
    let snapshot = store.snapshot(usize::MAX).await.unwrap();
    let generation = store.shared.generation();
    read(&store, 1).await;
    store.replace(snapshot).await.unwrap();
    assert_eq!(shown_mark(&store).await, Version(0));
    // The mark of a page that was read before the replacement comes too late.
    store.note_read(generation, Uid(2), Version(1)).unwrap();
    assert_eq!(shown_mark(&store).await, Version(0));
    store.close().await.unwrap();

    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    assert_eq!(shown_mark(&store).await, Version(0));
    store.close().await.unwrap();
}

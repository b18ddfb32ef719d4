//! Tests that the space of removed records goes back to the disk while the store is in use. How much space the disk has
//! is decided by the test, in some tests by the name of the thread that asks.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::config;
use crate::id::{MsgId, Uid, Version};
use crate::store::durable::{DurableStore, FreeSpaceProbe, disk};
use crate::store::{Kind, Message, MessageStore, PageLimit, Rejected, Snapshot, StoreAdmin, Write};

const FLOOR: u64 = 8 << 20;

/// The time limit of every wait. It is generous, since only a failed test uses it up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The length of the text of each message, in bytes.
const TEXT: usize = 4_096;

/// Opens a store that keeps one message of each user, and flushes a table after each 64 KiB.
fn open(path: &Path, space: FreeSpaceProbe) -> DurableStore {
    let config = config::Store {
        min_free: FLOOR,
        max_inbox: Some(1),
        buffer: 1 << 16,
        ..config::Store::default()
    };
    DurableStore::open_with(path, &config, space).unwrap()
}

fn space_of(bytes: &Arc<AtomicU64>) -> FreeSpaceProbe {
    let bytes = Arc::clone(bytes);
    Arc::new(move |_| Ok(bytes.load(Ordering::SeqCst)))
}

fn write(id: usize) -> Write {
    let message = Message::new(
        Kind::P2p,
        Uid(1),
        None,
        MsgId(&id.to_string()),
        &"x".repeat(TEXT),
        1,
    );
    Write::P2p {
        target: Uid(2),
        message: message.into(),
    }
}

async fn send(store: &DurableStore, id: usize) -> Result<(), Rejected> {
    store.commit(vec![write(id)]).await.unwrap().accepted()[0]
}

async fn fill(store: &DurableStore, messages: usize) {
    let ids: Vec<_> = (0..messages).collect();
    for ids in ids.chunks(20) {
        let writes = ids.iter().map(|&id| write(id)).collect();
        let committed = store.commit(writes).await.unwrap();
        assert!(committed.results.iter().all(|stored| stored.is_ok()));
    }
}

/// Cleans until this many messages are removed. A cleaning ends early while the engine is being opened anew.
async fn clean_all(store: &DurableStore, messages: u64) {
    let mut removed = 0;
    while removed < messages {
        removed += store.clean(2).await.unwrap();
    }
    assert_eq!(removed, messages);
}

/// Returns the bytes that the engine's files take on the disk.
fn on_disk(path: &Path) -> u64 {
    let engine = path.join("engine");
    disk::size_of(&engine) + disk::size_of(&engine.join("keyspaces/1/tables"))
}

/// Waits until the store is at the given step and `and` holds.
async fn until(
    store: &DurableStore,
    step: ReclaimStep,
    and: impl Fn(ReclaimProgress) -> bool,
) -> ReclaimProgress {
    tokio::time::timeout(PATIENCE, async {
        loop {
            let reclaim = store.reclaim_progress().unwrap();
            if reclaim.step == step && and(reclaim) {
                return reclaim;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{step:?} expected: {:?}", store.reclaim_progress()))
}

/// Asserts that the newest of `sent` messages is the only one left, and that the next one gets the following version.
async fn check(store: &DurableStore, sent: usize) {
    let all = PageLimit {
        entries: 0,
        bytes: usize::MAX,
    };
    let page = store.peek(Uid(2), Version(0), all).await.unwrap();
    assert_eq!((page.entries.len(), page.total), (1, Version(sent as i64)));
    assert_eq!(send(store, sent).await, Ok(()));
    assert_eq!(
        store.inbox_state(Uid(2)).await.unwrap().total,
        sent as i64 + 1
    );
}

#[tokio::test]
async fn below_the_floor_what_was_removed_goes_back_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let space = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), space_of(&space));
    fill(&store, 1_000).await;
    let before = on_disk(folder.path());
    // Below half of the floor, only removals are allowed.
    space.store(FLOOR / 2 - 1, Ordering::SeqCst);
    assert_eq!(send(&store, 1_000).await, Err(Rejected::DiskFull));
    clean_all(&store, 999).await;
    until(&store, ReclaimStep::Idle, |reclaim| {
        reclaim.reclaimed > before / 2 && on_disk(folder.path()) < before / 10
    })
    .await;
    space.store(FLOOR, Ordering::SeqCst);
    check(&store, 1_000).await;
    store.close().await.unwrap();
    // The store has the same contents when it is opened again.
    let store = open(folder.path(), space_of(&space));
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1_001);
    store.close().await.unwrap();
}

#[tokio::test]
async fn with_space_too_what_was_removed_goes_back_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let space = Arc::new(AtomicU64::new(u64::MAX));
    let store = open(folder.path(), space_of(&space));
    fill(&store, 1_000).await;
    let tables = folder.path().join("engine/keyspaces/1/tables");
    let before = disk::size_of(&tables);
    clean_all(&store, 999).await;
    // The engine may compact by itself in between, and a snapshot may keep files for a while. The next cleaning deletes
    // them.
    tokio::time::timeout(PATIENCE, async {
        while disk::size_of(&tables) > before / 4 {
            store.clean(2).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    check(&store, 1_000).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_reset_gives_its_space_back_beside_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let space = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), space_of(&space));
    fill(&store, 1_000).await;
    let before = on_disk(folder.path());
    space.store(FLOOR - 1, Ordering::SeqCst);
    store.replace(Snapshot::default()).await.unwrap();
    store.clean(2).await.unwrap();
    until(&store, ReclaimStep::Idle, |_| {
        on_disk(folder.path()) < before / 10
    })
    .await;
    space.store(FLOOR, Ordering::SeqCst);
    assert_eq!(send(&store, 1).await, Ok(()));
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn without_any_space_it_waits_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let space = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), space_of(&space));
    // Enough to be worth a compaction, and some of it in the memtable.
    fill(&store, 110).await;
    space.store(0, Ordering::SeqCst);
    assert_eq!(store.clean(2).await.unwrap(), 0);
    let waiting = until(&store, ReclaimStep::Waiting, |_| true).await;
    assert!(waiting.reclaimable > 0, "{waiting:?}");
    space.store(FLOOR - 1, Ordering::SeqCst);
    clean_all(&store, 109).await;
    until(&store, ReclaimStep::Idle, |reclaim| reclaim.reclaimed > 0).await;
    space.store(FLOOR, Ordering::SeqCst);
    check(&store, 110).await;
    store.close().await.unwrap();
}

/// Returns a probe of a disk with `bytes` bytes of free space. To the engine's compactions it has no space, and the
/// store's own compaction blocks until the test tells it how much there is.
fn held_compaction(bytes: &Arc<AtomicU64>) -> (FreeSpaceProbe, Receiver<()>, Sender<u64>) {
    let (asking, asks) = channel();
    let (go, goes) = channel();
    let goes = Mutex::new(goes);
    let others = space_of(bytes);
    let space: FreeSpaceProbe = Arc::new(move |path: &Path| match thread::current().name() {
        Some("imd-reclaim") => {
            let _ = asking.send(());
            Ok(goes.lock().recv().unwrap_or(FLOOR - 1))
        }
        Some("fjall:worker") => Ok(0),
        _ => others(path),
    });
    (space, asks, go)
}

/// Creates a folder with messages that retention can remove.
async fn filled(path: &Path) {
    let space = Arc::new(AtomicU64::new(FLOOR));
    let store = open(path, space_of(&space));
    fill(&store, 1_000).await;
    store.close().await.unwrap();
    // There are few tables afterwards, so that no commit waits for a compaction of the engine.
    Engine::open(&path.join("engine"), 1 << 16)
        .unwrap()
        .compact()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_lacks_space_ends_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let before = on_disk(folder.path());
    let bytes = Arc::new(AtomicU64::new(FLOOR));
    let (space, asks, go) = held_compaction(&bytes);
    let store = open(folder.path(), space);
    clean_all(&store, 999).await;
    bytes.store(FLOOR - 1, Ordering::SeqCst);
    store.clean(2).await.unwrap();
    asks.recv_timeout(PATIENCE).unwrap();
    // Pages and read marks go on beside a compaction.
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1_000);
    go.send(0).unwrap();
    drop(go);
    // When the engine is opened anew, its own compactions may find the space.
    tokio::time::timeout(PATIENCE, async {
        while store.reclaim_progress().unwrap().step == ReclaimStep::Compacting {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(on_disk(folder.path()) <= before + before / 4);
    store.close().await.unwrap();
    let space = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), space_of(&space));
    check(&store, 1_000).await;
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_closed_while_it_compacts() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let bytes = Arc::new(AtomicU64::new(FLOOR));
    let (space, asks, go) = held_compaction(&bytes);
    let store = Arc::new(open(folder.path(), space));
    clean_all(&store, 999).await;
    bytes.store(FLOOR - 1, Ordering::SeqCst);
    store.clean(2).await.unwrap();
    asks.recv_timeout(PATIENCE).unwrap();
    let closing = Arc::clone(&store);
    let closed = tokio::spawn(async move { closing.close().await });
    drop(go);
    closed.await.unwrap().unwrap();
    let space = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), space_of(&space));
    check(&store, 1_000).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_compaction_of_the_engine_that_waits_for_space_is_not_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let space = Arc::new(AtomicU64::new(FLOOR));
    let (compactions_have_none, asks) = compactions_without_space(&space);
    let store = open(folder.path(), compactions_have_none);
    fill_until_a_compaction_waits(&store, &asks).await;
    space.store(FLOOR / 4, Ordering::SeqCst);
    clean_all(&store, 119).await;
    until(&store, ReclaimStep::Idle, |reclaim| reclaim.reclaimed > 0).await;
    space.store(FLOOR, Ordering::SeqCst);
    check(&store, 120).await;
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_was_begun_with_space_ends_when_space_gets_short() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Arc::new(AtomicU64::new(FLOOR * 16));
    let (space, asks) = compactions_without_space(&bytes);
    let store = open(folder.path(), space);
    removed_beside_a_waiting_compaction(&store, &asks).await;
    // The store's compaction waits for that of the engine, which waits for the space that the store's one gives back.
    bytes.store(FLOOR / 4, Ordering::SeqCst);
    tokio::time::timeout(PATIENCE, async {
        while store.reclaim_progress().unwrap().step == ReclaimStep::Compacting {
            store.clean(2).await.unwrap();
        }
    })
    .await
    .unwrap();
    until(&store, ReclaimStep::Idle, |reclaim| reclaim.reclaimed > 0).await;
    bytes.store(FLOOR * 16, Ordering::SeqCst);
    check(&store, 120).await;
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_closed_while_its_compaction_waits_for_one_of_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Arc::new(AtomicU64::new(FLOOR * 16));
    let (space, asks) = compactions_without_space(&bytes);
    let store = open(folder.path(), space);
    removed_beside_a_waiting_compaction(&store, &asks).await;
    tokio::time::timeout(PATIENCE, store.close())
        .await
        .unwrap()
        .unwrap();
    let store = open(folder.path(), space_of(&bytes));
    check(&store, 120).await;
    store.close().await.unwrap();
}

/// Returns a probe of a disk with `bytes` bytes of free space, but none for the engine's own compactions. The receiver
/// gets a message each time such a compaction asks.
fn compactions_without_space(bytes: &Arc<AtomicU64>) -> (FreeSpaceProbe, Receiver<()>) {
    let (asking, asks) = channel();
    let others = space_of(bytes);
    let space: FreeSpaceProbe = Arc::new(move |path: &Path| match thread::current().name() {
        Some("fjall:worker") => {
            let _ = asking.send(());
            Ok(0)
        }
        _ => others(path),
    });
    (space, asks)
}

/// Stores 120 messages in 6 tables: enough that the engine wants to compact them, and too few for commits to wait for
/// it. Returns when the compaction has begun: it waits for space then, and every other compaction waits for it.
async fn fill_until_a_compaction_waits(store: &DurableStore, asks: &Receiver<()>) {
    for table in 0..6 {
        let writes = (table * 20..table * 20 + 20).map(write).collect();
        store.commit(writes).await.unwrap();
        // A flush makes one table of all memtables that wait for it.
        let engine = store.shared.engine.read();
        engine.as_ref().unwrap().flush().unwrap();
    }
    asks.recv_timeout(PATIENCE).unwrap();
}

/// Has the store begin a compaction with space, while one of the engine waits for space.
///
/// Without the engine's compaction before it, the store's could end for want of free space by itself as soon as space
/// gets short, and would be begun again a minute later.
async fn removed_beside_a_waiting_compaction(store: &DurableStore, asks: &Receiver<()>) {
    fill_until_a_compaction_waits(store, asks).await;
    clean_all(store, 119).await;
    until(store, ReclaimStep::Compacting, |_| true).await;
}

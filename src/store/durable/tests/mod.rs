//! Tests that need access to the inside of the store: a disk with a given amount of free space, a writer that waits at
//! a gate, or records that no program writes any more.

mod answers;
mod batches;
mod ends;
mod formats;
mod free_space;
mod ids;
mod marks;
mod pages;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use futures_util::future::BoxFuture;
use proptest::prelude::*;

use super::record::Record;
use super::writer::{BYTES_PER_CHECK, MAX_COST, PLENTY};
use super::*;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{Kind, Message, Rejected};

const FLOOR: u64 = 1_000;

/// The time limit of every wait. It is generous, since only a failed test uses it up.
const PATIENCE: Duration = Duration::from_secs(120);

fn message(source: Uid, id: &str) -> Message {
    Message::new(Kind::P2p, source, None, MsgId(id), "hello", 1)
}

fn p2p(source: Uid, target: Uid, id: &str) -> Write {
    Write::P2p {
        target,
        message: message(source, id).into(),
    }
}

/// Opens a store on a disk that has `free` bytes of free space.
fn open(path: &Path, free: &Arc<AtomicU64>) -> DurableStore {
    let config = config::Store {
        min_free: FLOOR,
        max_inbox: Some(1),
        ..config::Store::default()
    };
    let free = Arc::clone(free);
    DurableStore::open_with(
        path,
        &config,
        Arc::new(move |_| Ok(free.load(Ordering::SeqCst))),
    )
    .unwrap()
}

/// Holds the writer of a store before each commit, when it asks for the free space.
struct Gate {
    asks: Receiver<()>,
    go: Sender<()>,
}

impl Gate {
    fn open(path: &Path) -> (DurableStore, Gate) {
        let (asking, asks) = channel();
        let (go, goes) = channel();
        let goes = Mutex::new(goes);
        let free = move |_: &Path| {
            // Both calls fail once the gate was dropped, so the writer goes on without waiting.
            let _ = asking.send(());
            let _ = goes.lock().recv();
            Ok(FLOOR)
        };
        let config = config::Store {
            min_free: FLOOR,
            ..config::Store::default()
        };
        let store = DurableStore::open_with(path, &config, Arc::new(free)).unwrap();
        (store, Gate { asks, go })
    }

    /// Waits until the writer has reached the gate. By then it has answered all jobs of the last commit.
    fn wait(&self) {
        self.asks.recv_timeout(PATIENCE).unwrap();
    }

    /// Submits two batches that the writer stores in one commit. The writer answers the second one, whose answer
    /// carries that of the first.
    async fn hold_two<'a>(
        &self,
        store: &'a DurableStore,
    ) -> [BoxFuture<'a, Result<Committed, StoreError>>; 2] {
        let mut one = store.commit(vec![p2p(Uid(1), Uid(2), "a")]);
        let mut holder = store.commit(vec![p2p(Uid(1), Uid(2), "b")]);
        assert!(futures_util::poll!(&mut one).is_pending());
        self.wait();
        assert!(futures_util::poll!(&mut holder).is_pending());
        [one, holder]
    }

    fn let_go(&self) {
        self.go.send(()).unwrap();
    }
}

async fn send(store: &DurableStore, id: &str) -> Result<(), Rejected> {
    store
        .commit(vec![p2p(Uid(1), Uid(2), id)])
        .await
        .unwrap()
        .accepted()[0]
}

const ALL: PageLimit = PageLimit {
    entries: 0,
    bytes: usize::MAX,
};

/// Poisons the engine of a store: the folder of its tables is moved away while a table is written.
fn poison(store: &DurableStore, path: &Path) {
    let tables = path.join("engine/keyspaces/1/tables");
    let away = path.join("engine/keyspaces/1/away");
    std::fs::rename(&tables, &away).unwrap();
    let engine = store.shared.engine.read();
    let flushed = engine.as_ref().unwrap().flush();
    std::fs::rename(&away, &tables).unwrap();
    assert!(
        matches!(flushed, Err(fjall::Error::Poisoned)),
        "{flushed:?}"
    );
}

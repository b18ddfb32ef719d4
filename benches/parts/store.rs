//! Benchmarks of `imd::store`: commits of batches, and pages, in memory and in a folder.
//!
//! The store in a folder syncs each batch to the disk, so its figures depend on the disk of the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use imd::config;
use imd::id::{GroupId, MsgId, Uid, Version};
use imd::store::{DurableStore, Kind, MemoryStore, Message, PageLimit, Retention, Store, Write};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::TEXT;

const RECEIVER: Uid = Uid(1);
const GROUP: GroupId = GroupId(1);
const MEMBERS: i64 = 1_000;

/// A store, with a runtime to call it on.
struct Bench {
    runtime: Runtime,
    store: Arc<dyn Store>,
    next: AtomicI64,
    /// The folder of the store. Declared last, so that it is removed after the store is closed.
    _folder: Option<TempDir>,
}

impl Bench {
    fn memory() -> Self {
        Bench::new(
            Arc::new(MemoryStore::new(usize::MAX, Retention::default())),
            None,
        )
    }

    fn durable() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DurableStore::open(folder.path(), &config::Store::default());
        Bench::new(Arc::new(store.expect("a new store")), Some(folder))
    }

    fn new(store: Arc<dyn Store>, folder: Option<TempDir>) -> Self {
        let runtime = Builder::new_current_thread().build();
        Bench {
            runtime: runtime.expect("a runtime"),
            store,
            next: AtomicI64::new(1),
            _folder: folder,
        }
    }

    fn message(&self, kind: Kind, group: Option<GroupId>) -> Arc<Message> {
        let msg_id = format!("{:010}", self.next.fetch_add(1, Ordering::Relaxed));
        let text = "x".repeat(TEXT);
        let message = Message::new(
            kind,
            RECEIVER,
            group,
            MsgId(&msg_id),
            &text,
            1_700_000_000_000,
        );
        Arc::new(message)
    }

    fn p2p(&self) -> Write {
        Write::P2p {
            target: RECEIVER,
            message: self.message(Kind::P2p, None),
        }
    }

    fn commit(&self, batch: Vec<Write>) {
        let committed = self.runtime.block_on(self.store.commit(batch));
        let results = committed.expect("a store that works").results;
        assert!(results.iter().all(Result::is_ok));
    }

    fn bench_batch(&self, bencher: Bencher, messages: usize) {
        bencher
            .counter(ItemsCount::new(messages))
            .with_inputs(|| (0..messages).map(|_| self.p2p()).collect())
            .bench_local_values(|batch| self.commit(batch));
    }

    fn bench_group(&self, bencher: Bencher) {
        let create = Write::CreateGroup {
            group: GROUP,
            name: String::new(),
            owner: RECEIVER,
            members: Vec::new(),
            made_at: 0,
        };
        let join = |uid| Write::Join {
            group: GROUP,
            uids: vec![uid],
            max_members: MEMBERS as usize,
        };
        let joins = (1..=MEMBERS).map(Uid).map(join);
        self.commit(std::iter::once(create).chain(joins).collect());
        bencher
            .counter(ItemsCount::new(MEMBERS as usize))
            .with_inputs(|| {
                let message = self.message(Kind::Group, Some(GROUP));
                vec![Write::Group { message }]
            })
            .bench_local_values(|batch| self.commit(batch));
    }

    /// Reads pages at the end of an inbox, where clients read. The inbox has `stored` messages.
    fn bench_page(&self, bencher: Bencher, stored: i64, entries: usize) {
        for _ in 0..stored / 1_000 {
            self.commit((0..1_000).map(|_| self.p2p()).collect());
        }
        let limit = PageLimit {
            entries,
            bytes: usize::from(u16::MAX),
        };
        let after = Version(stored - entries as i64);
        bencher.counter(ItemsCount::new(entries)).bench_local(|| {
            let page = self
                .runtime
                .block_on(self.store.read_page(RECEIVER, after, limit));
            let page = page.expect("a store that works");
            assert_eq!(page.entries.len(), entries);
            page
        });
    }
}

/// How many messages a batch has: the messages of one read.
const BATCHES: [usize; 2] = [1, 16];
/// Pairs of the number of messages in an inbox, and of those in a page of it.
const PAGES: [(i64, usize); 3] = [(1_000, 1), (1_000, 50), (100_000, 50)];

#[divan::bench(args = BATCHES)]
fn batch_memory(bencher: Bencher, messages: usize) {
    Bench::memory().bench_batch(bencher, messages);
}

#[divan::bench(args = BATCHES)]
fn batch_durable(bencher: Bencher, messages: usize) {
    Bench::durable().bench_batch(bencher, messages);
}

/// Commits a message to a group of 1,000 members.
#[divan::bench]
fn group_memory(bencher: Bencher) {
    Bench::memory().bench_group(bencher);
}

#[divan::bench]
fn group_durable(bencher: Bencher) {
    Bench::durable().bench_group(bencher);
}

#[divan::bench(args = PAGES)]
fn page_memory(bencher: Bencher, (stored, entries): (i64, usize)) {
    Bench::memory().bench_page(bencher, stored, entries);
}

#[divan::bench(args = PAGES)]
fn page_durable(bencher: Bencher, (stored, entries): (i64, usize)) {
    Bench::durable().bench_page(bencher, stored, entries);
}

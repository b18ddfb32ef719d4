//! The engine of the store: fjall, an LSM tree with a journal (its write-ahead log).
//!
//! Serves the writer, which alone writes to it once the store is open, and the readers, which get [views](View) of its
//! published state. A commit is appended to the journal and to the memtable. Full memtables are rotated and flushed to
//! tables, and compactions put few large tables in the place of many; the engine's own threads do both. This module
//! bounds how far they may fall behind, so that the engine never blocks a commit: on a full disk it would do so for
//! ever.

mod error;
mod view;

pub use self::error::{EngineError, in_words};
pub use self::view::View;
pub use super::kv::{Change, Key, Value};

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fjall::config::PartitioningPolicy;
use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
    Snapshot as EngineSnapshot,
};
use parking_lot::RwLock;

use super::brake::{Brake, MayContinue};
use super::disk;
use super::layout::TABLES;
use crate::store::file_budget;

/// The name of the keyspace with the store's records.
pub const RECORDS: &str = "records";

/// How many rotated memtables may wait for their flush. With 4 the engine blocks commits.
const MAX_ROTATED: usize = 2;

/// How many tables may wait for their first compaction. With 20 the engine slows commits down, with 30 it blocks them.
const MAX_UNMERGED: usize = 16;

/// The interval at which [`Engine::wait_until`] asks again.
const POLL: Duration = Duration::from_millis(1);

/// The size of the cache for blocks of tables, in bytes.
const CACHE: u64 = 8 << 20;

/// An open engine.
pub struct Engine {
    folder: PathBuf,
    db: Database,
    records: Keyspace,
    /// The state that readers see: everything up to the last commit that was published.
    published: RwLock<Arc<EngineSnapshot>>,
    /// Bytes in the memtable: written since it was last rotated.
    in_memory: AtomicU64,
    /// How many bytes the memtable may have before it is rotated.
    memtable_limit: u64,
    /// Tombstones in the memtable: records that were removed since it was last rotated.
    tombstones: AtomicU64,
    /// Records that were removed since the engine was opened.
    removed: AtomicU64,
    /// The bytes of their values, as far as they are known.
    removed_bytes: AtomicU64,
    /// Pauses and stops compactions.
    brake: Brake,
}

/// The sizes of the engine's tables, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableSizes {
    /// All tables that are in use.
    pub used: u64,
    /// The part of `used` that removed records take, as an estimate: a compaction of all tables gives it back.
    pub dead: u64,
    /// Tables that are no longer in use. The engine deletes those that it has compacted as soon as no snapshot needs
    /// them, and those of a compaction that failed when it is opened again.
    pub stale: u64,
    /// The memtable, which becomes a table when it is flushed.
    pub in_memory: u64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the engine's folder, or creates it. The memtable is rotated when it has `memtable_limit` bytes.
    ///
    /// # Errors
    ///
    /// The error of the engine, when its files can't be read or created.
    pub fn open(folder: &Path, memtable_limit: u64) -> Result<Engine, fjall::Error> {
        let brake = Brake::default();
        let factory = Arc::new(brake.clone());
        let db = Database::builder(folder)
            .with_compaction_filter_factories(Arc::new(move |_| Some(factory.clone())))
            .cache_size(CACHE)
            .manual_journal_persist(true)
            .worker_threads(2)
            .max_cached_files(Some(file_budget::tables(disk::file_limit())))
            .open()?;
        let records = db.keyspace(RECORDS, options)?;
        Ok(Engine {
            folder: folder.to_owned(),
            published: RwLock::new(Arc::new(db.snapshot())),
            // The journals were replayed into the memtable.
            in_memory: AtomicU64::new(db.write_buffer_size()),
            db,
            records,
            memtable_limit,
            tombstones: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            removed_bytes: AtomicU64::new(0),
            brake,
        })
    }

    /// Pauses compactions of the engine's own threads whenever `may_continue` returns false.
    pub fn pause_compactions_unless(&self, may_continue: Arc<MayContinue>) {
        self.brake.pause_others_unless(may_continue);
    }

    /// Ends the compactions of the engine's own threads. If one was running, the engine takes no more commits.
    pub fn stop_compactions(&self) {
        self.brake.stop_others();
    }

    /// Returns the state that readers see.
    pub fn view(&self) -> View<'_> {
        View::new(&self.records, Arc::clone(&self.published.read()))
    }

    /// Makes everything that was written visible to readers.
    pub fn publish(&self) {
        *self.published.write() = Arc::new(self.db.snapshot());
    }

    /// Counts the bytes of the values that a commit has removed, for the estimate in
    /// [`table_sizes`](Self::table_sizes).
    pub fn count_removed_bytes(&self, bytes: u64) {
        self.removed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Writes all changes or none. Afterwards the operating system has them.
    ///
    /// # Errors
    ///
    /// The error of the engine, which takes no more commits then.
    pub fn write(&self, changes: Vec<Change>) -> Result<(), fjall::Error> {
        let batch = OwnedWriteBatch::with_capacity(self.db.clone(), changes.len());
        let mut batch = batch.durability(Some(PersistMode::Buffer));
        let mut bytes = 0;
        let mut removed = 0;
        for (key, value) in changes {
            bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
            match value {
                Some(value) => batch.insert(&self.records, key, value),
                None => {
                    removed += 1;
                    batch.remove(&self.records, key);
                }
            }
        }
        batch.commit()?;
        self.tombstones.fetch_add(removed, Ordering::Relaxed);
        self.removed.fetch_add(removed, Ordering::Relaxed);
        self.in_memory.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Brings everything that was written to the disk.
    ///
    /// # Errors
    ///
    /// The error of the engine. Another sync must not be tried: the system may report a lost write once only.
    pub fn sync(&self) -> Result<(), fjall::Error> {
        self.db.persist(PersistMode::SyncData)
    }

    /// Rotates the memtable if it is full.
    ///
    /// # Errors
    ///
    /// The error of the engine, which may be poisoned then.
    pub fn rotate_if_full(&self) -> Result<(), fjall::Error> {
        if self.in_memory.load(Ordering::Relaxed) < self.memtable_limit {
            return Ok(());
        }
        self.rotate()
    }

    /// Rotates the memtable: the engine's own threads flush it while an empty one takes the next commits. A flush also
    /// deletes the files of compacted tables, as far as no snapshot needs them.
    ///
    /// # Errors
    ///
    /// The error of the engine, which may be poisoned then.
    pub fn rotate(&self) -> Result<(), fjall::Error> {
        self.in_memory.store(0, Ordering::Relaxed);
        self.tombstones.store(0, Ordering::Relaxed);
        self.records.rotate_memtable()?;
        Ok(())
    }

    /// Rotates the memtable, and waits until all are flushed. The next start has no journal to replay then.
    ///
    /// # Errors
    ///
    /// The error of the engine; [`fjall::Error::Poisoned`] when it fails to flush.
    pub fn flush(&self) -> Result<(), fjall::Error> {
        self.rotate()?;
        self.wait_for_flushes(&|| true)
    }

    /// Waits until all rotated memtables are flushed, or `may_continue` returns false.
    fn wait_for_flushes(&self, may_continue: &MayContinue) -> Result<(), fjall::Error> {
        self.wait_until(|| self.records.sealed_memtable_count() == 0 || !may_continue())
    }

    /// Blocks until `is_done` returns true.
    ///
    /// fjall has no event for the end of a flush or a compaction, nor for the end of its threads: its own waits, in
    /// `rotate_memtable_and_wait` and before a write, sleep for 10 ms to 100 ms and look again. So this is a loop too,
    /// the only one of the store. The caller goes on [`POLL`] after the event at the latest.
    ///
    /// # Errors
    ///
    /// [`fjall::Error::Poisoned`] when the engine is poisoned. Its threads are gone then, and nothing would ever be
    /// done.
    pub fn wait_until(&self, is_done: impl Fn() -> bool) -> Result<(), fjall::Error> {
        while !is_done() {
            if self.is_poisoned() {
                return Err(fjall::Error::Poisoned);
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Returns whether so many flushes or compactions are due that commits should wait for them.
    pub fn is_behind(&self) -> bool {
        self.records.sealed_memtable_count() > MAX_ROTATED
            || self.records.l0_table_count() > MAX_UNMERGED
    }

    /// Returns whether the engine is poisoned after an error: it takes no more commits, and has to be opened again.
    pub fn is_poisoned(&self) -> bool {
        matches!(
            self.db.persist(PersistMode::Buffer),
            Err(fjall::Error::Poisoned)
        )
    }

    /// Compacts all tables, and the memtable if the engine is not behind. The files of removed records are stale
    /// afterwards. Commits and reads go on meanwhile; the engine's own compactions wait.
    ///
    /// `may_continue` is asked every few records. When it returns false, the compaction ends with an error. The engine
    /// works on then, and the tables that the compaction has begun are stale. With `is_alone`, compactions of the
    /// engine's own threads are stopped, because they may wait for the space that this one gives back. If one was
    /// running, the engine takes no more commits and has to be opened again.
    ///
    /// # Errors
    ///
    /// The error of the engine, and an error when the compaction was stopped.
    pub fn compact_while(
        &self,
        may_continue: Arc<MayContinue>,
        is_alone: bool,
    ) -> Result<(), fjall::Error> {
        // The older memtables are flushed first: with one more, there could be so many that commits have to wait.
        self.wait_for_flushes(&*may_continue)?;
        if !self.is_behind() {
            self.rotate()?;
            self.wait_for_flushes(&*may_continue)?;
        }
        if is_alone {
            self.brake.stop_others();
        }
        let _braked = self.brake.watch(may_continue);
        self.records.major_compact()
    }

    /// Compacts everything into new tables, which gives the space of removed records back.
    ///
    /// # Errors
    ///
    /// The error of the engine; [`fjall::Error::Poisoned`] when it fails to flush.
    pub fn compact(&self) -> Result<(), fjall::Error> {
        self.flush()?;
        self.records.major_compact()
    }

    /// Returns how many bytes of the disk the journals take. They are given back when the engine is closed and opened
    /// again.
    pub fn journal_bytes(&self) -> u64 {
        disk::size_of(&self.folder)
    }

    /// Returns how large the tables are, and how much of them a compaction would give back.
    pub fn table_sizes(&self) -> TableSizes {
        let tree = &self.records.tree;
        let used = tree.disk_space();
        let in_tables = tree.approximate_len() - tree.active_memtable().len();
        let in_tables = in_tables as u64;
        // Each tombstone hides one record. It is taken to be as large as the average record, or as the average of those
        // that were removed since the engine was opened, whichever is larger.
        let tombstones = tree.tombstone_count();
        let values = in_tables.saturating_sub(tombstones).max(1);
        let hidden = tombstones + self.tombstones.load(Ordering::Relaxed);
        let average = u128::from(used) / u128::from(values);
        let removed = u128::from(self.removed.load(Ordering::Relaxed));
        let average_removed = u128::from(self.removed_bytes.load(Ordering::Relaxed))
            .checked_div(removed)
            .unwrap_or_default();
        let dead = u128::from(hidden) * average.max(average_removed);
        TableSizes {
            used,
            dead: u64::try_from(dead).unwrap_or(used).min(used),
            stale: disk::size_of(&self.records.path().join(TABLES)).saturating_sub(used),
            in_memory: self.in_memory.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The drop of the database waits for its threads, and that of a paused compaction would not end.
        self.brake.close();
    }
}

/// Returns the options of the keyspace. Filters and indexes of all levels but the first, which are kept in memory, are
/// split into parts: the filter of a large table as one block does not fit the cache, and would be read anew for each
/// id that is looked up.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .filter_block_partitioning_policy(PartitioningPolicy::new([false, true]))
        .index_block_partitioning_policy(PartitioningPolicy::new([false, false, true]))
}

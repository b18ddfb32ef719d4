//! The engine under the folder: the only file that speaks to fjall.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fjall::config::PartitioningPolicy;
use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
    Readable, Snapshot,
};
use parking_lot::RwLock;

use super::brake::{Brake, GoOn};
use super::disk;
use super::layout::TABLES;
use super::record::{Damaged, Record, STATE, StateRecord};
use crate::id::{Uid, Version};
use crate::store::files;

/// Sealed tables that wait to be written. At 4 the engine itself would wait, for ever if the disk is full.
const MOST_SEALED: usize = 2;

/// Tables that were not merged yet. At 20 the engine itself would slow down, at 30 wait.
const MOST_UNMERGED: usize = 16;

/// How often it is looked whether the engine's own threads have come further; they tell nobody.
pub const POLL: Duration = Duration::from_millis(1);

/// The share of memory that is spent on reading again what was read before.
const CACHE: u64 = 8 << 20;

/// Why the engine did not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It could not be read or written.
    #[error("{}", in_words(.0))]
    Engine(#[from] fjall::Error),
    /// What was read is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// An inbox lacks an entry.
    #[error("the inbox of {uid} lacks version {version}")]
    Missing {
        /// Whose inbox.
        uid: Uid,
        /// What is not there.
        version: Version,
    },
    /// An entry's text is not there.
    #[error("text {0} is missing")]
    NoText(u64),
}

/// What an error of the engine means, where it has words for it.
pub fn in_words(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            error.to_string()
        }
        fjall::Error::Poisoned => "the engine has given up, after an error of the disk".into(),
        fjall::Error::Storage(error) => format!("the engine's files are damaged ({error:?})"),
        error => error.to_string(),
    }
}

pub use fjall::{UserKey as Key, UserValue as Value};

/// What was changed: a key, and its new value or none.
pub type Change = (Key, Option<Value>);

/// An open engine.
pub struct Engine {
    folder: PathBuf,
    db: Database,
    records: Keyspace,
    /// What is visible to readers: everything up to the last commit that was published.
    published: RwLock<Arc<Snapshot>>,
    /// Bytes that were written since the table in memory was last sealed.
    collected: AtomicU64,
    /// So many are collected.
    buffer: u64,
    /// Records that were removed since the table in memory was last sealed.
    removed: AtomicU64,
    /// All records that were removed since the engine was opened.
    all_removed: AtomicU64,
    /// Their bytes, as far as they are known.
    freed: AtomicU64,
    /// Holds merges back where there is too little room for them.
    brake: Brake,
}

/// The sizes of the engine's tables, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableSizes {
    /// All tables that are in use.
    pub used: u64,
    /// The part of `used` that removed records take, as an estimate: a merge of all tables gives it back.
    pub dead: u64,
    /// Files of tables that are no longer in use: the engine deletes them when no snapshot needs them any more, and the
    /// remains of a merge that failed when it is opened again.
    pub stale: u64,
    /// What is in memory, and becomes a table when it is sealed.
    pub in_memory: u64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the engine's folder, or creates it.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn open(folder: &Path, buffer: u64) -> Result<Engine, fjall::Error> {
        let brake = Brake::default();
        let factory = Arc::new(brake.clone());
        let db = Database::builder(folder)
            .with_compaction_filter_factories(Arc::new(move |_| Some(factory.clone())))
            .cache_size(CACHE)
            .manual_journal_persist(true)
            .worker_threads(2)
            .max_cached_files(Some(files::tables(disk::file_limit())))
            .open()?;
        let records = db.keyspace("records", options)?;
        Ok(Engine {
            folder: folder.to_owned(),
            published: RwLock::new(Arc::new(db.snapshot())),
            // What the journals have brought back is in memory too.
            collected: AtomicU64::new(db.write_buffer_size()),
            db,
            records,
            buffer,
            removed: AtomicU64::new(0),
            all_removed: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            brake,
        })
    }

    /// Lets merges of the engine's own threads wait whenever `has_room` says no.
    pub fn mind_room(&self, has_room: Arc<GoOn>) {
        self.brake.slow_others(has_room);
    }

    /// Ends the merges of the engine's own threads. It takes no more commits then, if there was one.
    pub fn stop_merges(&self) {
        self.brake.stop_others();
    }

    /// What is visible to readers.
    pub fn view(&self) -> View<'_> {
        View {
            engine: self,
            snapshot: Arc::clone(&self.published.read()),
        }
    }

    /// Makes what was written visible to readers.
    pub fn publish(&self) {
        *self.published.write() = Arc::new(self.db.snapshot());
    }

    /// Notes the bytes of what a commit has removed.
    pub fn freed(&self, bytes: u64) {
        self.freed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Writes changes as one: all of them or none. The operating system has them afterwards.
    ///
    /// # Errors
    ///
    /// What the engine says; it takes nothing more then.
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
        self.removed.fetch_add(removed, Ordering::Relaxed);
        self.all_removed.fetch_add(removed, Ordering::Relaxed);
        self.collected.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Lets the table in memory be written when enough is collected.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn seal_if_full(&self) -> Result<(), fjall::Error> {
        if self.collected.load(Ordering::Relaxed) < self.buffer {
            return Ok(());
        }
        self.seal()
    }

    /// Lets the table in memory be written, and begins another. Files of tables that neither the last published snapshot
    /// nor an older one needs are deleted.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn seal(&self) -> Result<(), fjall::Error> {
        self.collected.store(0, Ordering::Relaxed);
        self.removed.store(0, Ordering::Relaxed);
        self.records.rotate_memtable()?;
        Ok(())
    }

    /// Whether so much waits to be written or merged that a commit had better wait too.
    pub fn is_behind(&self) -> bool {
        self.records.sealed_memtable_count() > MOST_SEALED
            || self.records.l0_table_count() > MOST_UNMERGED
    }

    /// Brings what was written to the disk.
    ///
    /// # Errors
    ///
    /// What the engine says. It must not be asked again: what was lost is not known.
    pub fn sync(&self) -> Result<(), fjall::Error> {
        self.db.persist(PersistMode::SyncData)
    }

    /// What the newest commit in the tables has left, as far as that can be told: what is in memory is from the journals.
    ///
    /// # Errors
    ///
    /// When it can't be read, or is damaged.
    pub fn state_in_tables(&self) -> Result<Option<StateRecord>, EngineError> {
        let tree = &self.records.tree;
        let Some(newest) = tree.get_highest_persisted_seqno() else {
            return Ok(Some(StateRecord::default()));
        };
        // What is in memory has higher numbers: the engine leaves out of its journals what the tables have.
        let found = tree.get(STATE, newest + 1).map_err(fjall::Error::from)?;
        Ok(found
            .map(|value| StateRecord::open(STATE, &value))
            .transpose()?)
    }

    /// Whether the engine has given up on itself.
    pub fn has_given_up(&self) -> bool {
        matches!(
            self.db.persist(PersistMode::Buffer),
            Err(fjall::Error::Poisoned)
        )
    }

    /// Writes the tables in memory, and waits for it: the next opening has nothing to repeat.
    ///
    /// # Errors
    ///
    /// What the engine says, and when it gives up meanwhile.
    pub fn write_tables(&self) -> Result<(), fjall::Error> {
        self.seal()?;
        self.wait_for_tables(&|| true)
    }

    /// Waits until all sealed tables are written, or `go_on` says no.
    fn wait_for_tables(&self, go_on: &GoOn) -> Result<(), fjall::Error> {
        while self.records.sealed_memtable_count() > 0 && go_on() {
            if self.has_given_up() {
                return Err(fjall::Error::Poisoned);
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Merges all tables, sealed ones too, which makes the files of removed records stale. Others may read and write
    /// meanwhile; the engine's own merges wait.
    ///
    /// `go_on` is asked every few records. When it says no, the merge ends with an error. The engine works on then, and the
    /// files that the merge has begun are stale. With `is_alone`, merges of the engine's own threads are stopped, since they
    /// may wait for the room that this one gives back; if there is one, the engine takes no more commits, and has to be
    /// opened again.
    ///
    /// # Errors
    ///
    /// What the engine says, and that it was stopped.
    pub fn merge(&self, is_alone: bool, go_on: Arc<GoOn>) -> Result<(), fjall::Error> {
        self.wait_for_tables(&*go_on)?;
        if is_alone {
            self.brake.stop_others();
        }
        let _braked = self.brake.watch(go_on);
        self.records.major_compact()
    }

    /// Bytes of the disk that the journals take. They are given back when the engine is closed and opened again.
    pub fn journal_bytes(&self) -> u64 {
        disk::size_of(&self.folder)
    }

    /// How large the tables are, and how much of them a merge would give back.
    pub fn table_sizes(&self) -> TableSizes {
        let tree = &self.records.tree;
        let used = tree.disk_space();
        let in_tables = tree.approximate_len() - tree.active_memtable().len();
        let traces = tree.tombstone_count();
        // Each trace of a removal hides one record: of the size of those that were removed in this run, or of the average one.
        let values = (in_tables as u64).saturating_sub(traces).max(1);
        let removed = traces + self.removed.load(Ordering::Relaxed);
        let all_removed = self.all_removed.load(Ordering::Relaxed);
        let average = u128::from(used) / u128::from(values);
        let of_removed = u128::from(self.freed.load(Ordering::Relaxed))
            .checked_div(u128::from(all_removed))
            .unwrap_or_default();
        let dead = u128::from(removed) * average.max(of_removed);
        TableSizes {
            used,
            dead: u64::try_from(dead).unwrap_or(used).min(used),
            stale: disk::size_of(&self.records.path().join(TABLES)).saturating_sub(used),
            in_memory: self.collected.load(Ordering::Relaxed),
        }
    }

    /// Merges all tables, which gives the room of what was removed back.
    ///
    /// # Errors
    ///
    /// What the engine says, and when it gives up meanwhile.
    pub fn compact(&self) -> Result<(), fjall::Error> {
        self.write_tables()?;
        self.records.major_compact()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The engine waits for its own threads, and one may wait for room.
        self.brake.close();
    }
}

/// Filters and indexes of all levels but those that are kept in memory are in parts. As one block, that of a large table
/// does not fit the cache, and would be read anew for each id that is looked for.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .filter_block_partitioning_policy(PartitioningPolicy::new([false, true]))
        .index_block_partitioning_policy(PartitioningPolicy::new([false, false, true]))
}

/// One state of everything, as it was when it was published.
pub struct View<'a> {
    engine: &'a Engine,
    snapshot: Arc<Snapshot>,
}

impl View<'_> {
    /// A record.
    ///
    /// # Errors
    ///
    /// When it can't be read, or is damaged.
    pub fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, EngineError> {
        match self.snapshot.get(&self.engine.records, key)? {
            Some(value) => Ok(Some(R::open(key, &value)?)),
            None => Ok(None),
        }
    }

    /// The records from `first` to `last`, both included, by key.
    pub fn range(
        &self,
        first: &[u8],
        last: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Key, Value), EngineError>> + use<> {
        let range = self.snapshot.range(&self.engine.records, first..=last);
        range.map(|guard| Ok(guard.into_inner()?))
    }

    /// The records whose keys begin with `prefix`, by key; all of them where it is empty.
    pub fn prefix(
        &self,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Key, Value), EngineError>> + use<> {
        let found = self.snapshot.prefix(&self.engine.records, prefix);
        found.map(|guard| Ok(guard.into_inner()?))
    }

    /// What was written with the last commit.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn state(&self) -> Result<StateRecord, EngineError> {
        Ok(self.get(STATE)?.unwrap_or_default())
    }
}

//! The store in a folder: what was acknowledged survives the death of the process, and with `sync = "always"` that of
//! the machine.
//!
//! Serves the wiring, which opens a store for a config with `store.path`, and the commands of `imd store`. One thread
//! writes: it makes one group commit of the requests that wait for it, up to a bound. Pages of the newest entries come
//! from memory, and no page waits for the writer: a read mark is noted in memory, and the next commit stores it.
//!
//! What a caller of [`MessageStore::commit`] hands over is a batch. Below, a commit is a group commit: one write to the
//! engine, with one sync, of pieces of many batches.
//!
//! | file | what it does |
//! |---|---|
//! | | **the path of a commit** |
//! | `writer` | the one thread that writes: collects jobs into a group commit, writes it, shows it, answers |
//! | `batch` | a batch on its way through one or more group commits |
//! | `draft` | does the writes of a group commit |
//! | `answers` | sends the answers of a group commit to the tasks that have asked |
//! | `retention` | finds old entries and ids, and has the writer remove them |
//! | | **the path of a page** |
//! | `recent` | a cache of the newest entries, for the pages that need no engine |
//! | `reader` | reads the other pages from the engine |
//! | `marks` | the read marks that pages have moved, until a commit has stored them |
//! | `bounds` | where an inbox begins and ends |
//! | `counts` | counts what was stored, delivered and removed |
//! | `lists`, `save`, `restore` | the lists of users and groups; a snapshot of everything, and the records of one |
//! | | **opening** |
//! | `folder` | who may use the folder, its format, and what a crash has left |
//! | `layout`, `litter` | the names of a store's files, and of those of other programs that may be there |
//! | `folder_check`, `safe_files` | make sure that every entry is what a store has there, and is for its owner alone |
//! | `wal`, `manifest`, `tables`, `checkpoint` | make sure that the engine loses nothing when it opens |
//! | `folder_guard` | notices that the folder was removed, moved or replaced |
//! | `errors` | why a folder can't be used |
//! | | **the engine and its free space** |
//! | `engine` | an LSM tree with a journal |
//! | `record`, `kv` | the records, their checksums and their keys; the bytes that the engine takes |
//! | `brake` | pauses and stops the engine's compactions |
//! | `disk` | how much space the engine's files take |
//! | `writer::reclaim` | gives the space of removed records back to the disk |
//! | | **tools** |
//! | `inspect` | checks, dumps and compacts a folder that is not in use |
//! | `copy` | the private copy that a check or a dump reads |

mod answers;
mod batch;
mod bounds;
mod brake;
mod checkpoint;
mod copy;
mod counts;
mod disk;
mod draft;
mod engine;
mod errors;
mod folder;
mod folder_check;
mod folder_guard;
mod inspect;
mod kv;
mod layout;
mod lists;
mod litter;
mod manifest;
mod marks;
mod reader;
mod recent;
mod record;
mod restore;
mod retention;
mod safe_files;
mod save;
mod tables;
#[cfg(test)]
mod tests;
mod wal;
mod writer;

pub use brake::COMPACTION_STOPPED;
pub use errors::OpenError;
pub use inspect::{CompactError, Findings, Inspection, Item};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinError;

use self::answers::AnswerSender;
use self::bounds::InboxBounds;
use self::checkpoint::CheckpointFile;
use self::counts::DeliveryCounts;
use self::engine::{Engine, EngineError, View};
use self::folder::{FolderLock, OpenFolder, RecoveredEngine};
use self::folder_guard::FolderGuard;
use self::recent::Recent;
use self::record::{Damaged, StateRecord, UserRecord};
use self::restore::Contents;
use self::writer::{Job, QUEUE, Writer};
use super::{
    AccountStore, Committed, Damage, Group, InboxState, Ledger, MessageStore, Page, PageLimit,
    ReclaimProgress, ReplaceError, Retention, SaveError, Snapshot, StoreAdmin, StoreError, User,
    Write,
};
use crate::config::{self, SyncMode};
use crate::id::{GroupId, Uid, Version};

/// The most reads of the engine that run at the same time. Each occupies a thread.
const READERS: usize = 4;

/// A store in a folder.
pub struct DurableStore {
    shared: Arc<OpenStore>,
    /// Where requests to the writer are queued.
    jobs: mpsc::Sender<Job>,
    /// A permit for each of the [`READERS`].
    readers: Arc<Semaphore>,
    retention: Retention,
    signing_key: [u8; 32],
}

/// Leaves out the contents, which must not reach a log.
impl fmt::Debug for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableStore")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

/// An open store, as its writer and its readers share it.
struct OpenStore {
    /// The path of the store's folder, as it was opened.
    path: PathBuf,
    /// Whether the folder held no store before it was opened.
    is_new: bool,
    sync: SyncMode,
    /// The size that the table in memory has when it is written, in bytes.
    buffer: u64,
    /// How many bytes should stay free on the disk: with less, writes are refused.
    min_free: u64,
    free_space_probe: FreeSpaceProbe,
    /// None when the store is closed, or could not be opened again. Its lock is taken for writing only to open or close
    /// the engine, which waits for all readers.
    engine: RwLock<Option<Engine>>,
    /// Why the store has failed, once it has.
    failed: watch::Sender<Option<StoreError>>,
    /// The newest entries that are visible to readers, and the noted read marks. Locked before the published state of
    /// the engine.
    recent: Mutex<Recent>,
    counts: Mutex<DeliveryCounts>,
    /// The progress of giving space back to the disk.
    reclaim_progress: Mutex<ReclaimProgress>,
    /// Notified when the store should be cleaned soon: free space has become short, or a removal that was refused can
    /// be tried again.
    cleaning_due: Notify,
    /// Counts how often the contents were replaced.
    generation: AtomicU64,
    /// Whether the store was asked to close. The writer then refuses the rest of every batch that takes several
    /// commits.
    is_closing: AtomicBool,
    /// Keeps other processes out, until the store and its writer are gone or it is closed.
    lock: Mutex<Option<FolderLock>>,
}

/// Returns how many bytes are free on the disk of a folder.
type FreeSpaceProbe = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

impl DurableStore {
    /// Opens the store in a folder, and creates it if there is none. Blocks while it waits for the disk.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the folder can't be used, or its contents are damaged.
    pub fn open(path: &Path, config: &config::Store) -> Result<DurableStore, OpenError> {
        let store = Self::open_with(path, config, Arc::new(|path| fs4::available_space(path)))?;
        if let Some(shortage) = store.shared.shortage() {
            tracing::warn!("{shortage}");
        }
        Ok(store)
    }

    fn open_with(
        path: &Path,
        config: &config::Store,
        free_space_probe: FreeSpaceProbe,
    ) -> Result<DurableStore, OpenError> {
        let OpenFolder {
            lock,
            recovered,
            is_new,
        } = folder::open(path, config.buffer)?;
        let RecoveredEngine {
            engine,
            checkpoint_file,
            state,
        } = recovered;
        let (state, signing_key) = folder::signing_key(path, &engine, state)?;
        let folder_guard =
            FolderGuard::begin(path, &lock.file).map_err(OpenError::unusable(path))?;
        let shared = Arc::new(OpenStore {
            path: path.to_owned(),
            is_new,
            sync: config.sync,
            buffer: config.buffer,
            min_free: config.min_free,
            free_space_probe,
            engine: RwLock::new(Some(engine)),
            failed: watch::Sender::new(None),
            recent: Mutex::default(),
            counts: Mutex::default(),
            reclaim_progress: Mutex::default(),
            cleaning_due: Notify::new(),
            generation: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        });
        if let Some(engine) = shared.engine.read().as_ref() {
            engine.pause_compactions_unless(shared.compaction_space_check());
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        let queue = (jobs.downgrade(), queue);
        let writer = Writer::new(
            Arc::clone(&shared),
            queue,
            checkpoint_file,
            state,
            folder_guard,
        );
        thread::Builder::new()
            .name("imd-store".into())
            .spawn(|| writer.run())
            .map_err(OpenError::unusable(path))?;
        Ok(DurableStore {
            shared,
            jobs,
            readers: Arc::new(Semaphore::new(READERS)),
            retention: Retention::from(config),
            signing_key,
        })
    }

    /// Sends a job to the writer, and waits for its answer. The job is done even if the returned future is dropped.
    async fn ask<T>(&self, job: impl FnOnce(AnswerSender<T>) -> Job) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let submitted = self.jobs.send(job(sender)).await;
        submitted.map_err(|_| self.shared.failure().unwrap_or(StoreError::Closed))?;
        let received = receiver.await;
        let (answer, others) =
            received.map_err(|_| self.shared.failure().unwrap_or(StoreError::Closed))?;
        // Dropping `others` sends the other answers of the commit; this task may have been chosen to do that.
        drop(others);
        Ok(answer)
    }

    /// Notes that a page has moved a read mark of the contents of `generation`, for the next commit. If none comes, the
    /// writer stores the mark in a commit of its own. A mark of older contents has no effect.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`] when the store is closing: the writer may have stored all marks already.
    fn note_read(&self, generation: u64, uid: Uid, read: Version) -> Result<(), StoreError> {
        // The contents are replaced, and the last marks are taken, under this lock too. So neither can come between.
        let mut recent = self.shared.recent.lock();
        if self.shared.is_closing.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        if self.shared.generation() != generation || !recent.marks.note(uid, read) {
            return Ok(());
        }
        drop(recent);
        self.store_marks_soon();
        Ok(())
    }

    /// Has the writer store the noted read marks after [`marks::LONGEST_WAIT`], unless a commit has stored them by
    /// then.
    fn store_marks_soon(&self) {
        let shared = Arc::clone(&self.shared);
        // The timer must not keep the writer of a dropped store from its end, at which all marks are stored.
        let jobs = self.jobs.downgrade();
        tokio::spawn(async move {
            tokio::time::sleep(marks::LONGEST_WAIT).await;
            let is_due = shared.recent.lock().marks.end_wait();
            if is_due && let Some(jobs) = jobs.upgrade() {
                // Submitting fails only when the writer has ended.
                drop(jobs.send(Job::StoreMarks).await);
            }
        });
    }

    /// Reads the engine on a thread for blocking work.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read_with(|_| (), move |view, ()| read(view)).await
    }

    /// As [`read`](Self::read), together with what `pick` takes from the cache at the same moment.
    async fn read_with<P: Send + 'static, T: Send + 'static>(
        &self,
        pick: impl FnOnce(&Recent) -> P + Send + 'static,
        read: impl FnOnce(&View<'_>, P) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || {
            // Held to the end of the read, even if its caller is gone by then.
            let _permit = permit;
            shared.read(pick, read)
        });
        read.await.map_err(task_ended("a read"))?
    }
}

impl OpenStore {
    /// Reads the published state of the engine, together with what `pick` takes from the cache at the same moment.
    /// Blocks.
    fn read<P, T>(
        &self,
        pick: impl FnOnce(&Recent) -> P,
        read: impl FnOnce(&View<'_>, P) -> Result<T, EngineError>,
    ) -> Result<T, StoreError> {
        self.check()?;
        let engine = self.engine.read();
        let engine = engine.as_ref().ok_or_else(|| self.why_not_open())?;
        let (view, picked) = {
            let recent = self.recent.lock();
            (engine.view(), pick(&recent))
        };
        Ok(read(&view, picked)?)
    }

    /// Returns why there is no engine although the store has not failed.
    fn why_not_open(&self) -> StoreError {
        match self.is_closing.load(Ordering::Acquire) {
            true => StoreError::Closed,
            false => StoreError::EngineNotReopened,
        }
    }

    /// Returns why the store has failed; none if it has not.
    fn failure(&self) -> Option<StoreError> {
        self.failed.borrow().clone()
    }

    /// Returns an error if the store has failed.
    fn check(&self) -> Result<(), StoreError> {
        self.failure().map_or(Ok(()), Err)
    }

    /// Notes that the store has failed for good, and returns the error.
    fn fail(&self, failed: StoreError) -> StoreError {
        tracing::error!(error = %failed, "the store answers nothing any more");
        self.failed.send_replace(Some(failed.clone()));
        failed
    }

    /// Returns the generation of the contents. Whatever was read in an earlier generation has been replaced.
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Empties the cache of the newest entries.
    fn forget_recent(&self) {
        let forgotten = self.recent.lock().forget();
        // Freed after the lock is released, since it takes long.
        drop(forgotten);
    }

    fn free_space(&self) -> io::Result<u64> {
        (self.free_space_probe)(&self.path)
    }

    /// Returns why writes are refused for want of free space, in words; none if there is enough.
    fn shortage(&self) -> Option<String> {
        let path = self.path.display();
        let free = match self.free_space() {
            Ok(free) => free,
            Err(error) => {
                return Some(format!(
                    "how much room the disk of {path} has is not known ({error}): sends, registers and joins are refused \
                     until it is"
                ));
            }
        };
        let floor = self.min_free;
        (free < floor).then(|| {
            format!(
                "the disk of {path} has {free} bytes of room left, less than store.min_free ({floor}): sends, registers and \
                 joins are refused until there is more, or min_free is less"
            )
        })
    }

    /// Opens an engine again that takes no more commits. `last` is the state that the last acknowledged commit has
    /// left; later commits are removed.
    fn reopen_after_cut(
        &self,
        last: StateRecord,
    ) -> Result<(CheckpointFile, StateRecord), OpenError> {
        let mut slot = self.engine.write();
        // The engine holds a lock of its own on the folder, so it is closed before it is opened again.
        *slot = None;
        folder::cut_after(&self.path, last.last_commit)?;
        self.open_engine(&mut slot, last)
    }

    /// Opens the engine of the folder into an empty slot. `last` is the state that its last commit has left.
    fn open_engine(
        &self,
        slot: &mut Option<Engine>,
        last: StateRecord,
    ) -> Result<(CheckpointFile, StateRecord), OpenError> {
        let opened = folder::open_engine(&self.path, self.buffer, Some(last.store_id))?;
        opened
            .engine
            .pause_compactions_unless(self.compaction_space_check());
        *slot = Some(opened.engine);
        Ok((opened.checkpoint_file, opened.state))
    }
}

/// Returns the error of a task that has ended without a result.
fn task_ended(task: &'static str) -> impl Fn(JoinError) -> StoreError {
    move |error| StoreError::TaskEnded {
        task,
        source: Arc::new(error),
    }
}

impl From<EngineError> for StoreError {
    fn from(error: EngineError) -> Self {
        let damage = match error {
            EngineError::Engine(
                fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)),
            ) => return error.into(),
            EngineError::Engine(_) => {
                return StoreError::Engine {
                    step: None,
                    source: Arc::new(error),
                };
            }
            EngineError::Damaged(Damaged(kind)) => Damage::Record { kind: kind.into() },
            EngineError::Missing { uid, version } => Damage::Entry { uid, version },
            EngineError::NoSharedMessage(number) => Damage::SharedMessage(number),
        };
        StoreError::Damaged(damage)
    }
}

#[async_trait]
impl MessageStore for DurableStore {
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError> {
        self.ask(|answer| Job::Commit { batch, answer }).await?
    }

    async fn read_page(
        &self,
        uid: Uid,
        after: Version,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        self.shared.check()?;
        let generation = self.shared.generation();
        let recent = self.shared.recent.lock().page(uid, after, limit);
        let (page, read) = match recent {
            Some(found) => found,
            None => {
                let page = self.read(move |view| reader::page(view, uid, after, limit));
                // The published mark is not known here. START has the mark noted in any case, once the page was read.
                (page.await?, Version::START)
            }
        };
        if after > read && after <= page.total {
            self.note_read(generation, uid, after)?;
        }
        self.shared.counts.lock().count_delivered(uid, &page);
        Ok(page)
    }

    async fn peek(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError> {
        self.shared.check()?;
        let recent = self.shared.recent.lock().page(uid, after, limit);
        match recent {
            Some((page, _)) => Ok(page),
            None => {
                self.read(move |view| reader::page(view, uid, after, limit))
                    .await
            }
        }
    }

    async fn inbox_state(&self, uid: Uid) -> Result<InboxState, StoreError> {
        self.shared.check()?;
        let recent = self.shared.recent.lock().inbox_state(uid);
        if let Some(state) = recent {
            return Ok(state);
        }
        let noted = move |recent: &Recent| recent.marks.get(uid);
        self.read_with(noted, move |view, noted| {
            let bounds = InboxBounds::read(view, uid)?.with_mark(noted);
            Ok(bounds.inbox_state(uid))
        })
        .await
    }
}

#[async_trait]
impl AccountStore for DurableStore {
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError> {
        let key = record::user_key(uid);
        let user: Option<UserRecord> = self.read(move |view| view.get(&key)).await?;
        Ok(user.map(User::from))
    }

    async fn users(&self, after: Uid, limit: usize) -> Result<Vec<(Uid, User)>, StoreError> {
        self.read(move |view| lists::users(view, after, limit))
            .await
    }

    async fn groups(&self, after: GroupId, limit: usize) -> Result<Vec<Group>, StoreError> {
        self.read(move |view| lists::groups(view, after, limit))
            .await
    }

    async fn latest_time_ms(&self) -> Result<i64, StoreError> {
        Ok(self.read(|view| view.state()).await?.latest_time_ms)
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        Ok(self.signing_key)
    }
}

#[async_trait]
impl StoreAdmin for DurableStore {
    fn describe(&self) -> String {
        let synced = match self.shared.sync {
            SyncMode::Always => "",
            SyncMode::Os => " (not synced)",
        };
        let new = if self.shared.is_new { " (new)" } else { "" };
        format!("{}{synced}{new}", self.shared.path.display())
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn shortage(&self) -> Option<String> {
        self.shared.shortage()
    }

    fn reclaim_progress(&self) -> Option<ReclaimProgress> {
        Some(self.shared.reclaim_progress())
    }

    async fn cleaning_due(&self) {
        self.shared.cleaning_due.notified().await;
    }

    fn ledger(&self) -> Ledger {
        self.shared.counts.lock().ledger()
    }

    fn ledgers(&self, after: Uid, limit: usize) -> Vec<(Uid, Ledger)> {
        self.shared.counts.lock().ledgers(after, limit)
    }

    async fn snapshot(&self, limit: usize) -> Result<Snapshot, SaveError> {
        let noted = |recent: &Recent| recent.marks.clone();
        self.read_with(noted, move |view, noted| {
            Ok(save::snapshot(view, &noted, limit))
        })
        .await?
    }

    async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError> {
        // To encode the records of a large snapshot would block the other tasks of a runtime thread.
        let contents = tokio::task::spawn_blocking(move || Contents::from(snapshot)).await;
        let contents = contents.map_err(task_ended("the encoding of the snapshot"))?;
        self.ask(|answer| Job::Replace { contents, answer }).await?
    }

    async fn clean(&self, now: i64) -> Result<u64, StoreError> {
        let cleaned = retention::clean(self, now).await;
        // The job is submitted even if nothing was removed now: space of earlier removals may be left to reclaim.
        // Submitting fails only when the writer has ended.
        drop(self.jobs.send(Job::Reclaim).await);
        cleaned
    }

    async fn failed(&self) -> StoreError {
        let mut failed = self.shared.failed.subscribe();
        // The sender is a part of the store, so the wait can't end without a failure.
        let failed = failed.wait_for(Option::is_some).await;
        failed
            .ok()
            .and_then(|failed| failed.clone())
            .unwrap_or(StoreError::Closed)
    }

    async fn close(&self) -> Result<(), StoreError> {
        // Set before the job is submitted: while the job waits for a place in the queue, the writer already refuses the
        // batches that would delay the close.
        self.shared.is_closing.store(true, Ordering::Release);
        let (answer, answered) = oneshot::channel();
        let submitted = self.jobs.send(Job::Close { answer }).await;
        let closed = match submitted {
            Ok(()) => answered.await.ok(),
            Err(_) => None,
        };
        // There is no answer if another call has closed the store, or if the writer has ended.
        closed.unwrap_or_else(|| self.shared.failure().map_or(Ok(()), Err))
    }
}

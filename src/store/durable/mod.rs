//! The store in a folder: what was acknowledged survives the death of the process, and with `sync = "always"` that of
//! the machine.
//!
//! | file | what it does |
//! |---|---|
//! | `errors` | why a folder can't be used |
//! | `folder` | who may use it, its format, what a crash has left |
//! | `survey`, `regular` | make sure that everything in it is what a store has there, and is for its owner alone |
//! | `watchdog` | notices that it is not there any more |
//! | `layout` | the names of what is in it |
//! | `litter` | what may lie there and is nobody's |
//! | `journal`, `manifest`, `mark` | make sure that the engine loses nothing when it opens |
//! | `writer` | the one thread that commits |
//! | `begun` | a batch that takes several commits |
//! | `answers` | how those who asked are told |
//! | `draft` | what a commit changes |
//! | `reader` | pages, and those from the engine |
//! | `recent` | the newest entries, for the pages that need no engine |
//! | `retention` | removing what is old |
//! | `writer::reclaim` | giving the room of what was removed back to the disk |
//! | `brake` | stopping a merge of the engine early |
//! | `contents` | everything as a snapshot, and from one |
//! | `copy` | a private copy, for those who only look |
//! | `inspect` | looking into a folder that is not in use |
//! | `record` | what is stored, and its check |
//! | `engine` | the engine: an LSM tree with a journal |
//! | `disk` | what the engine's files take |

mod answers;
mod begun;
mod brake;
mod contents;
mod copy;
mod disk;
mod draft;
mod engine;
mod errors;
mod folder;
mod inspect;
mod journal;
mod kv;
mod layout;
mod litter;
mod manifest;
mod mark;
mod reader;
mod recent;
mod record;
mod regular;
mod retention;
mod survey;
mod tally;
#[cfg(test)]
mod tests;
mod watchdog;
mod writer;

pub use errors::OpenError;
pub use inspect::{CompactError, Findings, Inspection, Item};

use std::fmt;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinError;

use self::answers::Answer;
use self::contents::Contents;
use self::engine::{Engine, EngineError, View};
use self::folder::{FolderLock, OpenEngine, Opened};
use self::mark::Mark;
use self::recent::Recent;
use self::record::{Damaged, StateRecord, UserRecord};
use self::tally::Tally;
use self::watchdog::Watchdog;
use self::writer::{Job, QUEUE, Writer};
use super::{
    AccountStore, Committed, Damage, Group, Ledger, Level, MessageStore, Page, PageLimit, Reclaim,
    ReplaceError, Retention, SaveError, Snapshot, StoreAdmin, StoreError, User, Write,
};
use crate::config::{self, SyncMode};
use crate::id::{GroupId, Uid, Version};

/// Reads that are done at the same time; each takes a thread.
const READERS: usize = 4;

/// Everything in a folder.
pub struct DurableStore {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    readers: Arc<Semaphore>,
    retention: Retention,
    signing_key: [u8; 32],
}

/// Without what it holds.
impl fmt::Debug for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableStore")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

/// What the writer and the readers share.
struct Shared {
    path: PathBuf,
    /// Whether there was no store in it before.
    is_new: bool,
    sync: SyncMode,
    buffer: u64,
    min_free: u64,
    /// How much room a folder's disk has, in bytes.
    room: Room,
    /// None when the store is closed, or could not be opened again. Who writes to the lock waits for all readers.
    engine: RwLock<Option<Engine>>,
    failed: watch::Sender<Option<StoreError>>,
    /// The newest of what is visible to readers. Locked before what the engine publishes.
    recent: Mutex<Recent>,
    tally: Mutex<Tally>,
    /// What is being done to give room back to the disk.
    reclaim: Mutex<Reclaim>,
    /// Notified when room gets short.
    short: Notify,
    /// Counts how often all of it was replaced.
    lives: AtomicU64,
    /// Keeps others out, until the store and its writer are gone or it is closed.
    lock: Mutex<Option<FolderLock>>,
}

type Room = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

impl DurableStore {
    /// Opens the store in a folder, and makes one where there is none. Takes as long as the disk takes.
    ///
    /// # Errors
    ///
    /// When the folder can't be used, or what is in it is not in order.
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
        room: Room,
    ) -> Result<DurableStore, OpenError> {
        let Opened {
            lock,
            engine,
            is_new,
        } = folder::open(path, config.buffer)?;
        let OpenEngine {
            engine,
            mark,
            state,
        } = engine;
        let (state, signing_key) = folder::signing_key(path, &engine, state)?;
        let watchdog = Watchdog::begin(path, &lock.file).map_err(OpenError::unusable(path))?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            is_new,
            sync: config.sync,
            buffer: config.buffer,
            min_free: config.min_free,
            room,
            engine: RwLock::new(Some(engine)),
            failed: watch::Sender::new(None),
            recent: Mutex::default(),
            tally: Mutex::default(),
            reclaim: Mutex::default(),
            short: Notify::new(),
            lives: AtomicU64::new(0),
            lock: Mutex::new(Some(lock)),
        });
        if let Some(engine) = shared.engine.read().as_ref() {
            engine.pause_compactions_unless(shared.has_room_to_merge());
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        let queue = (jobs.downgrade(), queue);
        let writer = Writer::new(Arc::clone(&shared), queue, mark, state, watchdog);
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

    /// Hands a job to the writer and waits for its answer. The job is done also when nobody waits any more.
    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let submitted = self.jobs.send(job(answer)).await;
        submitted.map_err(|_| self.shared.failure().unwrap_or(StoreError::Closed))?;
        let answered = answered.await;
        let (answer, others) =
            answered.map_err(|_| self.shared.failure().unwrap_or(StoreError::Closed))?;
        // Who else has waited for the same commit is answered from here.
        drop(others);
        Ok(answer)
    }

    /// Moves a read mark, unless it stands there; answers when the operating system has it.
    async fn mark_read(&self, uid: Uid, read: Version) -> Result<(), StoreError> {
        if read <= Version::START {
            return Ok(());
        }
        self.ask(|answer| Job::Read { uid, read, answer }).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = Arc::clone(&self.readers).acquire_owned().await;
        let place = place.map_err(|_| StoreError::Closed)?;
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || {
            // Held to the end of the read, also when nobody waits for it any more.
            let _place = place;
            shared.read(read)
        });
        read.await.map_err(cut_off("a read"))?
    }
}

impl Shared {
    fn read<T>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<T, EngineError>,
    ) -> Result<T, StoreError> {
        self.check()?;
        let engine = self.engine.read();
        let engine = engine.as_ref().ok_or(StoreError::Closed)?;
        Ok(read(&engine.view())?)
    }

    /// Why the store answers nothing any more.
    fn failure(&self) -> Option<StoreError> {
        self.failed.borrow().clone()
    }

    /// An error if the store answers nothing any more.
    fn check(&self) -> Result<(), StoreError> {
        self.failure().map_or(Ok(()), Err)
    }

    /// Lets the store fail for good.
    fn fail(&self, failed: StoreError) -> StoreError {
        tracing::error!(error = %failed, "the store answers nothing any more");
        self.failed.send_replace(Some(failed.clone()));
        failed
    }

    /// The life of the store: what was read in another one is not true any more.
    fn life(&self) -> u64 {
        self.lives.load(Ordering::Acquire)
    }

    /// Forgets the newest entries, all of them. They are dropped when the lock is free again: others wait for it.
    fn forget_recent(&self) {
        let empty = Recent::default();
        let known = mem::replace(&mut *self.recent.lock(), empty);
        drop(known);
    }

    fn free_space(&self) -> io::Result<u64> {
        (self.room)(&self.path)
    }

    /// What is said of a disk that has less room than it should.
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

    /// Opens an engine again that takes nothing more; `last` is what the last commit that was acknowledged has left.
    fn reopen(&self, last: StateRecord) -> Result<(Mark, StateRecord), OpenError> {
        let mut slot = self.engine.write();
        // The folder can be opened once at a time.
        *slot = None;
        folder::cut_after(&self.path, last.commits)?;
        self.open_engine(&mut slot, last)
    }

    /// Opens the engine of the folder, in which `last` was the last commit, into an empty slot.
    fn open_engine(
        &self,
        slot: &mut Option<Engine>,
        last: StateRecord,
    ) -> Result<(Mark, StateRecord), OpenError> {
        let opened = folder::open_engine(&self.path, self.buffer, Some(last.store))?;
        opened
            .engine
            .pause_compactions_unless(self.has_room_to_merge());
        *slot = Some(opened.engine);
        Ok((opened.mark, opened.state))
    }
}

/// The error of a task that has ended without an answer.
fn cut_off(task: &'static str) -> impl Fn(JoinError) -> StoreError {
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
            EngineError::NoText(number) => Damage::Text(number),
        };
        StoreError::Damaged(damage)
    }
}

#[async_trait]
impl MessageStore for DurableStore {
    async fn commit(&self, batch: Vec<Write>) -> Result<Committed, StoreError> {
        self.ask(|answer| Job::Commit { batch, answer }).await?
    }

    async fn sync(&self, uid: Uid, after: Version, limit: PageLimit) -> Result<Page, StoreError> {
        self.shared.check()?;
        let recent = self.shared.recent.lock().page(uid, after, limit);
        let page = match recent {
            Some((page, read)) => {
                if after > read {
                    self.mark_read(uid, after).await?;
                }
                page
            }
            None => {
                let page = self.read(move |view| reader::page(view, uid, after, limit));
                // Where it can't be read, the mark stays too.
                let page = page.await?;
                // The writer knows by itself whether the mark moves.
                self.mark_read(uid, after).await?;
                page
            }
        };
        self.shared.tally.lock().paged(uid, &page);
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

    async fn level(&self, uid: Uid) -> Result<Level, StoreError> {
        self.shared.check()?;
        let recent = self.shared.recent.lock().level(uid);
        if let Some(level) = recent {
            return Ok(level);
        }
        let head = self.read(move |view| draft::Head::read(view, uid)).await?;
        Ok(head.level(uid))
    }
}

#[async_trait]
impl AccountStore for DurableStore {
    async fn user(&self, uid: Uid) -> Result<Option<User>, StoreError> {
        let key = record::user_key(uid);
        let user: Option<UserRecord> = self.read(move |view| view.get(&key)).await?;
        Ok(user.map(|user| User {
            name: user.name,
            password_hash: user.password_hash,
        }))
    }

    async fn users(&self, after: Uid, most: usize) -> Result<Vec<(Uid, User)>, StoreError> {
        self.read(move |view| contents::users(view, after, most))
            .await
    }

    async fn groups(&self, after: GroupId, most: usize) -> Result<Vec<Group>, StoreError> {
        self.read(move |view| contents::groups(view, after, most))
            .await
    }

    async fn newest(&self) -> Result<i64, StoreError> {
        Ok(self.read(|view| view.state()).await?.newest)
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

    fn reclaim(&self) -> Option<Reclaim> {
        Some(self.shared.reclaim())
    }

    async fn short(&self) {
        self.shared.short.notified().await;
    }

    fn ledger(&self) -> Ledger {
        self.shared.tally.lock().ledger()
    }

    fn ledgers(&self, after: Uid, most: usize) -> Vec<(Uid, Ledger)> {
        self.shared.tally.lock().ledgers(after, most)
    }

    async fn snapshot(&self, limit: usize) -> Result<Snapshot, SaveError> {
        self.read(move |view| Ok(contents::snapshot(view, limit)))
            .await?
    }

    async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError> {
        // It takes its time.
        let contents = tokio::task::spawn_blocking(move || Contents::from(snapshot)).await;
        let contents = contents.map_err(cut_off("it"))?;
        self.ask(|answer| Job::Replace { contents, answer }).await?
    }

    async fn clean(&self, now: i64) -> Result<u64, StoreError> {
        let cleaned = retention::clean(self, now).await;
        // Also where nothing was removed now: it may be left from earlier. The writer may have gone with the store.
        drop(self.jobs.send(Job::Reclaim).await);
        cleaned
    }

    async fn failed(&self) -> StoreError {
        let mut failed = self.shared.failed.subscribe();
        // The sender is here, so this ends with a failure only.
        let failed = failed.wait_for(Option::is_some).await;
        failed
            .ok()
            .and_then(|failed| failed.clone())
            .unwrap_or(StoreError::Closed)
    }

    async fn close(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let submitted = self.jobs.send(Job::Close { answer }).await;
        let closed = match submitted {
            Ok(()) => answered.await.ok(),
            Err(_) => None,
        };
        // Somebody else has closed it.
        closed.unwrap_or_else(|| self.shared.failure().map_or(Ok(()), Err))
    }
}

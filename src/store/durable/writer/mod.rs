//! The writer: the one thread that commits.
//!
//! Serves the store, which submits [jobs](Job) to its queue. Nothing else writes to the engine once the store is open.
//!
//! It takes the jobs that were submitted since its last group commit, up to a bound, makes one group commit of them,
//! and answers them. It has a thread of its own because it waits for the disk. No write waits for a timer: a commit
//! begins when the last one has ended, so a single message waits for one sync, or two if one is in progress, and many
//! messages share one.
//!
//! | file | what it does |
//! |---|---|
//! | `job` | what the writer can be asked to do |
//! | `collect` | collects jobs into one group commit |
//! | `commit` | makes a group commit, and shows it to readers |
//! | `allowed_jobs`, `free_space` | which jobs the free space on the disk allows, and what happens without it |
//! | `reclaim`, `reclaim_state` | gives the space of removed records back to the disk |

mod allowed_jobs;
mod collect;
mod commit;
mod free_space;
mod job;
mod reclaim;
mod reclaim_state;

#[cfg(test)]
pub use self::collect::MAX_COST;
#[cfg(test)]
pub use self::free_space::{BYTES_PER_CHECK, PLENTY};
pub use self::job::{Job, QUEUE};

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use tokio::sync::mpsc;

use self::allowed_jobs::AllowedJobs;
use self::collect::Queue;
use self::free_space::FreeSpace;
use self::reclaim_state::ReclaimState;
use super::answers::Outcome;
use super::checkpoint::{Checkpoint, CheckpointFile};
use super::draft::MembersCache;
use super::engine::{Engine, EngineError, in_words};
use super::folder_guard::FolderGuard;
use super::record::StateRecord;
use super::restore::Contents;
use super::{OpenStore, folder};
use crate::store::{ReplaceError, StoreError};

/// After a replace that removed more records than this, a compaction is made however little space it gives back:
/// readers have to pass over the tombstones until then.
const MAX_TOMBSTONES: usize = 16_384;

/// The next thing that the writer does.
enum Step {
    /// A job. If it can be part of a commit, jobs that were submitted after it are taken along.
    Do(Job),
    /// A commit that continues the unfinished batches, and takes submitted jobs along.
    Continue,
    /// The writer ends, since nobody can submit a job any more.
    End,
}

/// The writer's state.
pub struct Writer {
    shared: Arc<OpenStore>,
    queue: Queue,
    checkpoint_file: CheckpointFile,
    /// The state after the last commit.
    state: StateRecord,
    /// How far the commits have come, as the checkpoint has it.
    checkpoint: Checkpoint,
    /// The members of groups, cached so that they need not be read for each message.
    members_cache: MembersCache,
    /// Notices that the folder is gone.
    folder_guard: FolderGuard,
    /// Whether the engine takes no more commits until it is opened again.
    is_poisoned: bool,
    free_space: FreeSpace,
    reclaim_state: ReclaimState,
}

impl Writer {
    /// Creates the writer of an open engine in the given state.
    pub fn new(
        shared: Arc<OpenStore>,
        jobs: (mpsc::WeakSender<Job>, mpsc::Receiver<Job>),
        checkpoint_file: CheckpointFile,
        state: StateRecord,
        folder_guard: FolderGuard,
    ) -> Self {
        let (submit, submitted) = jobs;
        Writer {
            shared,
            queue: Queue::new(submitted),
            checkpoint_file,
            state,
            checkpoint: Checkpoint::all(state),
            members_cache: MembersCache::default(),
            folder_guard,
            is_poisoned: false,
            free_space: FreeSpace::default(),
            reclaim_state: ReclaimState::new(submit),
        }
    }

    /// Does jobs until the store is closed or dropped.
    pub fn run(mut self) {
        let _guard = FailOnPanic(Arc::clone(&self.shared));
        loop {
            match self.next_step() {
                // The answer can't be sent if the caller is gone, which changes nothing.
                Step::Do(Job::Close { answer }) => return drop(answer.send(self.close())),
                Step::Do(Job::Replace { contents, answer }) => {
                    drop(answer.send((self.replace(contents), None)));
                }
                Step::Do(Job::Reclaim) => self.reclaim_state.is_wanted = true,
                Step::Do(job) => self.make_group_commit(Some(job)),
                Step::Continue => self.make_group_commit(None),
                Step::End => break,
            }
            if self.reclaim_state.is_due() {
                self.reclaim_space();
            }
        }
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store was not closed");
        }
    }

    /// Returns what to do next. Waits for a job if there is nothing to go on with.
    ///
    /// Once the store is closing, unfinished batches are refused: their callers learn that the store is closed, and
    /// nothing of a batch is acknowledged before all of it is stored. If they were finished first, large ones could
    /// delay the close for long.
    fn next_step(&mut self) -> Step {
        if self.shared.is_closing.load(Ordering::Acquire) {
            self.refuse_unfinished(None, &Outcome::Failed(StoreError::Closed));
        }
        if self.queue.has_unfinished() {
            return Step::Continue;
        }
        self.queue.next().map_or(Step::End, Step::Do)
    }

    /// Makes one commit that removes everything and puts these contents in its place.
    fn replace(&mut self, contents: Contents) -> Result<(), ReplaceError> {
        if let Some(failed) = self.shared.failure() {
            return Err(failed.into());
        }
        let fits = match self.allowed_jobs() {
            AllowedJobs::All => true,
            AllowedJobs::MarksAndRemovals => contents.records.is_empty(),
            AllowedJobs::Removals | AllowedJobs::Nothing => false,
        };
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let engine = engine.as_ref().filter(|_| fits).ok_or(ReplaceError::Full)?;
        let prepared = contents.finish(engine, self.state);
        let (prepared, removed) = prepared.map_err(StoreError::from)?;
        match self.write_commit(engine, prepared, true) {
            Outcome::Stored => {}
            Outcome::Full => return Err(ReplaceError::Full),
            Outcome::Failed(failed) => return Err(failed.into()),
        }
        if removed > MAX_TOMBSTONES {
            self.reclaim_state.is_forced = true;
            self.reclaim_state.is_wanted = true;
        }
        Ok(())
    }

    /// Goes on with an engine that was opened anew.
    fn adopt_engine(&mut self, checkpoint_file: CheckpointFile, state: StateRecord) {
        self.folder_guard.renew();
        (self.checkpoint_file, self.state) = (checkpoint_file, state);
    }

    /// Syncs everything and closes the folder.
    fn close(&mut self) -> Result<(), StoreError> {
        // Jobs that are submitted from here on are refused by the closed queue.
        self.queue.close();
        let has_marks = !self.shared.recent.lock().marks.is_empty();
        if has_marks {
            self.make_group_commit(None);
        }
        let synced = self.stop_compaction();
        self.shared.forget_recent();
        let engine = self.shared.engine.write().take();
        let closed = self.close_folder(engine);
        let closed = closed.and(synced.map_err(|error| EngineError::from(error).into()));
        // No file of the folder is open any more, so other processes may have it.
        self.shared.lock.lock().take();
        closed
    }

    fn close_folder(&mut self, engine: Option<Engine>) -> Result<(), StoreError> {
        if let Some(failed) = self.shared.failure() {
            return Err(failed);
        }
        // If another folder has taken its place, that one must not be written to.
        self.check_folder()?;
        match engine {
            Some(engine) if !self.is_poisoned && !engine.is_poisoned() => self.close_engine(engine),
            engine => {
                drop(engine);
                self.cut_refused()
            }
        }
    }

    /// Cuts off what a poisoned engine has written after the last commit. Everything acknowledged is on the
    /// disk; what was refused must not come back.
    fn cut_refused(&self) -> Result<(), StoreError> {
        let cut = folder::cut_after(&self.shared.path, self.state.last_commit);
        cut.map_err(StoreError::from)
    }

    /// Makes sure that the folder is where it was opened.
    fn check_folder(&mut self) -> Result<(), StoreError> {
        self.folder_guard
            .check_all()
            .map_err(StoreError::FolderGone)
    }

    /// Syncs and closes an engine that works.
    fn close_engine(&mut self, engine: Engine) -> Result<(), StoreError> {
        match engine.sync() {
            Ok(()) => {}
            // One of the engine's threads has failed just now. As in `close_folder`, nothing acknowledged is lost.
            Err(fjall::Error::Poisoned) => {
                drop(engine);
                return self.cut_refused();
            }
            Err(error) => return Err(EngineError::from(error).into()),
        }
        self.checkpoint.synced = self.checkpoint.written;
        let noted = self
            .checkpoint_file
            .write(self.checkpoint)
            .and_then(|()| self.checkpoint_file.sync());
        noted?;
        // A flush only saves the next start time, so its failure is no error of the close.
        let flushed = engine.flush();
        // Compactions that are due are left to the next start. Here they would take time and space.
        engine.stop_compactions();
        drop(engine);
        self.check_folder()?;
        let emptied = match flushed {
            Ok(()) => folder::empty_journals(&self.shared.path).map_err(fjall::Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = emptied {
            let error = in_words(&error);
            tracing::warn!(error, "the next start has to read the journals");
        }
        Ok(())
    }
}

/// Marks the store as failed when the writer panics. Otherwise the owner of the store would not learn that the store
/// answers nothing any more.
struct FailOnPanic(Arc<OpenStore>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(StoreError::WriterEnded);
        }
    }
}

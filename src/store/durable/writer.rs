//! The writer: the one thread that commits.
//!
//! It takes all jobs that were submitted since its last commit, makes one commit of them, and replies. It has a thread of
//! its own because it waits for the disk. No timer is involved: a commit begins when the last one has ended, so a single
//! message waits for one sync, and many share one.
//!
//! | file | what it does |
//! |---|---|
//! | `job` | what the writer can be asked to do |
//! | `collect` | collects jobs into one commit |
//! | `commit` | makes a commit, and shows it to readers |
//! | `admission`, `room` | which jobs the room on the disk allows, and what happens without it |
//! | `reclaim`, `reclaimer` | gives the room of removed records back to the disk |

mod admission;
mod collect;
mod commit;
mod job;
mod reclaim;
mod reclaimer;
mod room;

#[cfg(test)]
pub use self::collect::MAX_COST;
pub use self::job::{Job, QUEUE};
#[cfg(test)]
pub use self::room::{ASK_AFTER, PLENTY};

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use tokio::sync::mpsc;

use self::admission::Admission;
use self::collect::Queue;
use self::reclaimer::Reclaimer;
use self::room::Room;
use super::answers::Outcome;
use super::contents::Contents;
use super::draft::GroupCache;
use super::engine::{Engine, EngineError, in_words};
use super::mark::{Mark, Reached};
use super::record::StateRecord;
use super::watchdog::Watchdog;
use super::{Shared, folder};
use crate::store::{ReplaceError, StoreError};

/// After a replace that removed more records than this, a compaction is made however little room it gives back: readers
/// have to pass over the tombstones until then.
const MAX_TOMBSTONES: usize = 16_384;

/// What the writer does next.
enum Step {
    /// A job, and in the same commit those that were submitted after it.
    Do(Job),
    /// A commit that goes on with the unfinished batches, and takes submitted jobs along.
    Continue,
    /// Nothing: nobody can submit a job any more.
    End,
}

/// The writer's state.
pub struct Writer {
    shared: Arc<Shared>,
    queue: Queue,
    mark: Mark,
    /// The state after the last commit.
    state: StateRecord,
    /// How far the commits have come, as the mark has it.
    reached: Reached,
    /// The members of groups, so that they need not be read for each message.
    remembered: GroupCache,
    /// Notices that the folder is gone.
    watchdog: Watchdog,
    /// Whether the engine takes no more commits until it is opened again.
    is_broken: bool,
    room: Room,
    reclaimer: Reclaimer,
}

impl Writer {
    /// Creates the writer of an open engine in the given state.
    pub fn new(
        shared: Arc<Shared>,
        jobs: (mpsc::WeakSender<Job>, mpsc::Receiver<Job>),
        mark: Mark,
        state: StateRecord,
        watchdog: Watchdog,
    ) -> Self {
        let (submit, submitted) = jobs;
        Writer {
            shared,
            queue: Queue::new(submitted),
            mark,
            state,
            reached: Reached::all(state),
            remembered: GroupCache::default(),
            watchdog,
            is_broken: false,
            room: Room::default(),
            reclaimer: Reclaimer::new(submit),
        }
    }

    /// Does jobs until the store is closed or dropped.
    pub fn run(mut self) {
        let _guard = FailOnPanic(Arc::clone(&self.shared));
        loop {
            match self.next_step() {
                // The receivers of the replies may be gone.
                Step::Do(Job::Close { answer }) => return drop(answer.send(self.close())),
                Step::Do(Job::Replace { contents, answer }) => {
                    drop(answer.send((self.replace(contents), None)));
                }
                Step::Do(Job::Reclaim) => self.reclaimer.is_wanted = true,
                Step::Do(job) => self.commit(Some(job)),
                Step::Continue => self.commit(None),
                Step::End => break,
            }
            if self.reclaimer.is_due() {
                self.reclaim();
            }
        }
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store was not closed");
        }
    }

    /// Returns what to do next. Waits for a job if there is nothing to go on with.
    ///
    /// Once the store is closing, unfinished batches are refused: their callers learn that the store is closed, and nothing
    /// of a batch is acknowledged before all of it is stored. Otherwise a flood of them could hold up the close for long.
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
        let fits = match self.admission() {
            Admission::All => true,
            Admission::Small => contents.records.is_empty(),
            Admission::Removals | Admission::Nothing => false,
        };
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let engine = engine.as_ref().filter(|_| fits).ok_or(ReplaceError::Full)?;
        let finished = contents.finish(engine, self.state);
        let (finished, removed) = finished.map_err(StoreError::from)?;
        match self.store(engine, finished, true) {
            Outcome::Stored => {}
            Outcome::Full => return Err(ReplaceError::Full),
            Outcome::Failed(failed) => return Err(failed.into()),
        }
        if removed > MAX_TOMBSTONES {
            self.reclaimer.is_forced = true;
            self.reclaimer.is_wanted = true;
        }
        Ok(())
    }

    /// Goes on with an engine that was opened anew.
    fn adopt(&mut self, mark: Mark, state: StateRecord) {
        self.watchdog.renew();
        (self.mark, self.state) = (mark, state);
    }

    /// Syncs everything and closes the folder.
    fn close(&mut self) -> Result<(), StoreError> {
        // Jobs that are submitted from here on get no reply.
        self.queue.close();
        let synced = self.stop_compaction();
        self.shared.forget_recent();
        let engine = self.shared.engine.write().take();
        let closed = self.close_folder(engine);
        let closed = closed.and(synced.map_err(|error| EngineError::from(error).into()));
        // Nothing of the folder is open any more, so other processes may have it.
        self.shared.lock.lock().take();
        closed
    }

    fn close_folder(&mut self, engine: Option<Engine>) -> Result<(), StoreError> {
        if let Some(failed) = self.shared.failure() {
            return Err(failed);
        }
        // Another folder in its place must not be written to.
        self.check_folder()?;
        match engine {
            Some(engine) if !self.is_broken && !engine.has_given_up() => self.close_engine(engine),
            engine => {
                drop(engine);
                self.cut_refused()
            }
        }
    }

    /// Cuts off what an engine that has given up has written after the last commit. Everything acknowledged is on the
    /// disk; what was refused must not come back.
    fn cut_refused(&self) -> Result<(), StoreError> {
        let cut = folder::cut_after(&self.shared.path, self.state.commits);
        cut.map_err(StoreError::from)
    }

    /// Makes sure that the folder is where it was opened.
    fn check_folder(&mut self) -> Result<(), StoreError> {
        self.watchdog.check_all().map_err(StoreError::FolderGone)
    }

    /// Syncs and closes an engine that works.
    fn close_engine(&mut self, engine: Engine) -> Result<(), StoreError> {
        match engine.sync() {
            Ok(()) => {}
            // One of its threads has failed just now. As in `close_folder`, nothing acknowledged is lost.
            Err(fjall::Error::Poisoned) => {
                drop(engine);
                return self.cut_refused();
            }
            Err(error) => return Err(EngineError::from(error).into()),
        }
        self.reached.synced = self.reached.written;
        let noted = self
            .mark
            .write(self.reached)
            .and_then(|()| self.mark.sync());
        noted?;
        // The rest only saves the next start time.
        let flushed = engine.flush();
        // The next start makes the compactions that are due. Here they would take time, and room.
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

/// Lets the store fail when the writer panics: otherwise nobody would know that it answers nothing any more.
struct FailOnPanic(Arc<Shared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(StoreError::WriterEnded);
        }
    }
}

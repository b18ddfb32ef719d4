//! The one writer: takes all that was submitted since its last commit, makes one commit of it, and answers.
//!
//! It has a thread of its own, because it waits for the disk. There is no timer: a commit begins when the last one has
//! ended, so a lone message waits for one sync, and a flood shares one.

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::draft::{Draft, Finished, Remembered};
use super::engine::{Engine, EngineError, POLL};
use super::mark::{Mark, Reached};
use super::record::StateRecord;
use super::{Shared, closed, folder};
use crate::config::SyncMode;
use crate::store::{Committed, Rejected, StoreFailed, Write};

/// Submissions that wait for the writer. Who submits more waits too, and reads no more from its client.
pub const QUEUE: usize = 1_024;

/// After so many entries a commit is begun, whatever else waits.
const MOST_ENTRIES: u64 = 16_384;

/// Where an answer goes.
pub type Answer<T> = oneshot::Sender<Result<T, StoreFailed>>;

/// What can be asked of the writer.
#[derive(Debug)]
pub enum Job {
    /// Do these writes.
    Commit {
        batch: Vec<Write>,
        answer: Answer<Committed>,
    },
    /// Move a read mark.
    Read {
        uid: i64,
        read: i64,
        answer: oneshot::Sender<()>,
    },
    /// Remove old entries of an inbox; answers how many.
    Trim {
        uid: i64,
        through: i64,
        now: i64,
        answer: Answer<u64>,
    },
    /// Forget ids that have expired.
    Expire {
        keys: Vec<Vec<u8>>,
        answer: Answer<u64>,
    },
    /// Bring everything to the disk, and let go of the folder.
    Close { answer: Answer<()> },
}

/// The writer's side of a store.
pub struct Writer {
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    mark: Mark,
    /// What the last commit has left.
    state: StateRecord,
    reached: Reached,
    remembered: Remembered,
    /// Whether the engine takes nothing more until it is opened again.
    is_broken: bool,
    /// Whether there was too little room since the engine was opened. Then that is what it fails from.
    was_full: bool,
}

/// What can be stored now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Anything,
    /// What is small, or gives room in the end: read marks, and removing what is old.
    SmallThings,
    Nothing,
}

/// How a commit ended.
enum Outcome {
    Stored,
    Full,
    Failed(StoreFailed),
}

impl Writer {
    /// A writer over an open engine, in the state that it was found in.
    pub fn new(
        shared: Arc<Shared>,
        jobs: mpsc::Receiver<Job>,
        mark: Mark,
        state: StateRecord,
    ) -> Self {
        Writer {
            shared,
            jobs,
            mark,
            state,
            reached: Reached {
                synced: state.commits,
                written: state.commits,
            },
            remembered: Remembered::default(),
            is_broken: false,
            was_full: false,
        }
    }

    /// Writes until the store is closed, or nobody holds it any more.
    pub fn run(mut self) {
        let _guard = SayIfGone(Arc::clone(&self.shared));
        while let Some(job) = self.jobs.blocking_recv() {
            if let Some(answer) = self.commit(job) {
                let closed = self.close();
                // Whoever asked may have gone.
                let _ = answer.send(closed);
                return;
            }
        }
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store was not closed");
        }
    }

    /// Makes one commit of `job` and of what else waits. Answers who asked to close the store meanwhile.
    fn commit(&mut self, job: Job) -> Option<Answer<()>> {
        let room = self.room();
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let mut draft = match (engine.as_ref(), shared.failure()) {
            (Some(engine), None) => Draft::new(engine.view(), &mut self.remembered, self.state),
            (_, failed) => {
                let failed = failed.unwrap_or_else(closed);
                return match job {
                    Job::Close { answer } => Some(answer),
                    job => {
                        job.answer_early(&Outcome::Failed(failed));
                        None
                    }
                };
            }
        };
        let mut open = Vec::new();
        let mut close = None;
        // Read marks alone don't wait for the disk: the operating system has them, and the next commit takes them along.
        let mut must_sync = false;
        let mut next = Some(job);
        while let Some(job) = next {
            match job {
                Job::Close { answer } => {
                    close = Some(answer);
                    break;
                }
                job if room == Room::Nothing => job.answer_early(&Outcome::Full),
                Job::Read { uid, read, answer } => {
                    if let Err(error) = draft.mark_read(uid, read) {
                        tracing::error!(%error, "a read mark was not moved");
                    }
                    open.push(Open::Read(answer));
                }
                job @ Job::Commit { .. } if room == Room::SmallThings => {
                    job.answer_early(&Outcome::Full);
                }
                Job::Commit { batch, answer } => {
                    must_sync = true;
                    let committed = apply(&mut draft, batch);
                    open.push(Open::Commit(answer, committed));
                }
                Job::Trim {
                    uid,
                    through,
                    now,
                    answer,
                } => match draft.trim(uid, through, now) {
                    Ok(removed) => open.push(Open::Removed(answer, removed)),
                    // Whoever asked may have gone.
                    Err(error) => drop(answer.send(Err(error.into()))),
                },
                Job::Expire { keys, answer } => {
                    keys.into_iter().for_each(|key| draft.expire(key));
                    open.push(Open::Removed(answer, 0));
                }
            }
            next = if draft.entries() < MOST_ENTRIES {
                self.jobs.try_recv().ok()
            } else {
                None
            };
        }
        let outcome = match engine.as_ref() {
            Some(engine) if !draft.is_empty() => {
                let finished = draft.finish();
                self.store(engine, finished, must_sync)
            }
            _ => Outcome::Stored,
        };
        for open in open {
            open.answer(&outcome);
        }
        close
    }

    /// Writes a commit, syncs it and shows it to readers, in this order.
    fn store(&mut self, engine: &Engine, finished: Finished, must_sync: bool) -> Outcome {
        let must_sync = must_sync && self.shared.sync == SyncMode::Always;
        if let Err(error) = engine.write(finished.changes.into_iter()) {
            self.remembered = Remembered::default();
            self.is_broken = true;
            if self.was_full || is_full(&error) {
                tracing::warn!(%error, "no room for a commit");
                return Outcome::Full;
            }
            return Outcome::Failed(
                self.shared
                    .fail(format!("a commit was not written: {error}")),
            );
        }
        if must_sync && let Err(error) = engine.sync() {
            // What the disk has is not known, and asking again would not tell.
            return Outcome::Failed(
                self.shared
                    .fail(format!("a commit was not synced: {error}")),
            );
        }
        self.state = finished.state;
        self.reached.written = self.state.commits;
        if must_sync {
            self.reached.synced = self.state.commits;
        }
        if let Err(error) = self.mark.write(self.reached) {
            tracing::warn!(%error, "how far the commits have come was not noted");
        }
        engine.publish();
        let mut tally = self.shared.tally.lock();
        tally.grew(&finished.begun, finished.entries);
        tally.removed(&finished.cut);
        drop(tally);
        self.remembered.adopt(finished.heads, finished.members);
        Outcome::Stored
    }

    /// What can be stored now. Waits while the engine is behind, and opens it again where it gave up and there is room.
    fn room(&mut self) -> Room {
        self.wait_for_engine();
        let free = match self.shared.free_space() {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%error, "how much room the disk has is not known");
                u64::MAX
            }
        };
        let floor = self.shared.min_free;
        if free < floor {
            if !self.was_full {
                tracing::warn!(free, floor, "the disk is full: sends are refused");
            }
            self.was_full = true;
        }
        if self.is_broken && free >= floor {
            match self.shared.reopen() {
                Ok((mark, state)) => {
                    self.mark = mark;
                    self.state = state;
                    self.remembered = Remembered::default();
                    self.is_broken = false;
                    self.was_full = false;
                    tracing::warn!("there is room again");
                }
                Err(error) => {
                    self.shared
                        .fail(format!("the store could not be opened again: {error}"));
                }
            }
        }
        if self.is_broken || free < floor / 2 {
            Room::Nothing
        } else if free < floor {
            Room::SmallThings
        } else {
            Room::Anything
        }
    }

    /// Waits while the engine has more to write and to merge than it should. It would wait itself, and for ever where
    /// its own threads have ended on a full disk.
    fn wait_for_engine(&mut self) {
        let engine = self.shared.engine.read();
        let Some(engine) = engine.as_ref() else {
            return;
        };
        while !self.is_broken && engine.is_behind() {
            self.is_broken = engine.has_given_up();
            thread::sleep(POLL);
        }
    }

    /// Brings everything to the disk, and lets go of the folder.
    fn close(&mut self) -> Result<(), StoreFailed> {
        // What is submitted from here on is not answered.
        self.jobs.close();
        let engine = self.shared.engine.write().take();
        let closed = self.close_into(engine);
        // Now that nothing is open any more, others may have the folder.
        self.shared.lock.lock().take();
        closed
    }

    fn close_into(&mut self, engine: Option<Engine>) -> Result<(), StoreFailed> {
        match (engine, self.shared.failure()) {
            (_, Some(failed)) => Err(failed),
            (None, None) => Ok(()),
            // Everything that was answered is on the disk.
            (Some(_), None) if self.is_broken => Ok(()),
            (Some(engine), None) => self.close_engine(engine).map_err(|error| {
                // Nobody serves from it any more, so there is nothing to refuse.
                StoreFailed(format!("not everything was brought to the disk: {error}"))
            }),
        }
    }

    fn close_engine(&mut self, engine: Engine) -> Result<(), EngineError> {
        engine.sync()?;
        self.reached.synced = self.reached.written;
        self.mark.write(self.reached).map_err(fjall::Error::from)?;
        self.mark.sync().map_err(fjall::Error::from)?;
        // Saves the next start from doing it.
        engine.write_tables()?;
        drop(engine);
        folder::empty_journals(&self.shared.path).map_err(fjall::Error::from)?;
        Ok(())
    }
}

/// A writer that panics leaves a store that answers nothing, and that has to be known.
struct SayIfGone(Arc<Shared>);

impl Drop for SayIfGone {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0
                .fail("its writer has ended, perhaps over damaged data".into());
        }
    }
}

/// Does the writes of one batch.
fn apply(draft: &mut Draft<'_>, batch: Vec<Write>) -> Committed {
    let mut grown = Vec::new();
    let results = batch.into_iter().map(|write| {
        draft.apply(write, &mut grown).unwrap_or_else(|error| {
            tracing::error!(%error, "a write was refused");
            Err(Rejected::Unreadable)
        })
    });
    let results = results.collect();
    grown.sort_unstable();
    grown.dedup();
    let levels = grown.into_iter().filter_map(|uid| draft.level(uid).ok());
    Committed {
        results,
        grown: levels.collect(),
    }
}

/// Whether the engine failed for want of room. What was not written can be written later; what was not synced can't.
fn is_full(error: &fjall::Error) -> bool {
    let kind = match error {
        fjall::Error::Io(error) => error.kind(),
        _ => return false,
    };
    matches!(
        kind,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

/// Answers that are given once the commit is stored. Whoever asked may have gone; then nobody is told.
enum Open {
    Commit(Answer<Committed>, Committed),
    Read(oneshot::Sender<()>),
    Removed(Answer<u64>, u64),
}

impl Open {
    fn answer(self, outcome: &Outcome) {
        match (self, outcome) {
            (Open::Commit(answer, committed), Outcome::Stored) => drop(answer.send(Ok(committed))),
            (Open::Commit(answer, committed), Outcome::Full) => {
                drop(answer.send(Ok(refused(committed.results.len()))));
            }
            (Open::Commit(answer, _), Outcome::Failed(failed)) => {
                drop(answer.send(Err(failed.clone())));
            }
            (Open::Read(answer), _) => drop(answer.send(())),
            (Open::Removed(answer, removed), Outcome::Stored) => drop(answer.send(Ok(removed))),
            (Open::Removed(answer, _), Outcome::Full) => drop(answer.send(Ok(0))),
            (Open::Removed(answer, _), Outcome::Failed(failed)) => {
                drop(answer.send(Err(failed.clone())));
            }
        }
    }
}

impl Job {
    /// Answers without doing anything. A close is not answered so.
    fn answer_early(self, outcome: &Outcome) {
        let open = match self {
            Job::Commit { batch, answer } => Open::Commit(answer, refused(batch.len())),
            Job::Read { answer, .. } => Open::Read(answer),
            Job::Trim { answer, .. } | Job::Expire { answer, .. } => Open::Removed(answer, 0),
            Job::Close { .. } => return,
        };
        open.answer(outcome);
    }
}

/// A batch that was refused for want of room.
fn refused(writes: usize) -> Committed {
    Committed {
        results: vec![Err(Rejected::Full); writes],
        grown: Vec::new(),
    }
}

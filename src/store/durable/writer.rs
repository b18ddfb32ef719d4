//! The one writer: takes all that was submitted since its last commit, makes one commit of it, and answers.
//!
//! It has a thread of its own, because it waits for the disk. There is no timer: a commit begins when the last one has
//! ended, so a lone message waits for one sync, and a flood shares one.

mod reclaim;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::MutexGuard;
use tokio::sync::{mpsc, oneshot};

use self::reclaim::Reclaimer;
use super::answers::{Answer, Answers, Open, Outcome, refused};
use super::begun::Begun;
use super::contents::Contents;
use super::draft::{Draft, Finished, Head, Remembered, Touched};
use super::engine::{Engine, EngineError, Key, in_words};
use super::mark::{Mark, Reached};
use super::recent::Delivery;
use super::record::StateRecord;
use super::tally::Tally;
use super::watchdog::Watchdog;
use super::{Shared, folder};
use crate::config::SyncMode;
use crate::id::{Uid, Version};
use crate::store::{Committed, Level, ReplaceError, StoreError, Write};

/// Submissions that wait for the writer. Who submits more waits too, and reads no more from its client.
pub const QUEUE: usize = 1_024;

/// When a commit has so many bytes it is written, whatever else waits.
const MOST_BYTES: usize = 4 << 20;

/// Upper bound of what the writes of one commit cost, as [`Begun::go_on`] counts, plus one piece of a batch. A write that
/// arrives after a commit has begun waits for the rest of that commit and for the next one; with four times this bound, a
/// flood of messages to a group of 2,000 made other users wait for 95 ms instead of 39 ms, and stored no more.
pub const MOST_COST: usize = 1_024;

/// When so many records are removed at once, their room is given back however little it is.
const MOST_TRACES: usize = 16_384;

/// With less room than this, in bytes, an engine that has given up has done so for want of it: it needs some to merge.
const TIGHT: u64 = 64 << 20;

/// With so many bytes above the floor there is plenty of room: it is asked for again after so many bytes written, or so
/// long. Others may use it up meanwhile, and that is what the floor is for.
pub const PLENTY: u64 = 64 << 20;
/// See [`PLENTY`].
pub const ASK_AFTER: usize = 1 << 20;
/// See [`PLENTY`].
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Where the answer to a close goes.
pub type Closed = oneshot::Sender<Result<(), StoreError>>;

/// What can be asked of the writer.
#[derive(Debug)]
pub enum Job {
    /// Do these writes.
    Commit {
        batch: Vec<Write>,
        answer: Answer<Result<Committed, StoreError>>,
    },
    /// Move a read mark.
    Read {
        uid: Uid,
        read: Version,
        answer: Answer<()>,
    },
    /// Remove old entries of an inbox; answers how many. In another life of the store it is left undone: `through` is
    /// not true of the inbox then.
    Trim {
        life: u64,
        uid: Uid,
        through: Version,
        now: i64,
        answer: Answer<Result<u64, StoreError>>,
    },
    /// Forget ids that have expired. In another life of the store it is left undone: they may be in use then.
    Expire {
        life: u64,
        keys: Vec<Key>,
        answer: Answer<Result<u64, StoreError>>,
    },
    /// Hold these contents, and nothing else.
    Replace {
        contents: Contents,
        answer: Answer<Result<(), ReplaceError>>,
    },
    /// Look at what can be given back to the disk.
    Reclaim,
    /// Bring everything to the disk, and let go of the folder.
    Close { answer: Closed },
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
    /// Notices that the folder is not there any more.
    watchdog: Watchdog,
    /// Batches that are done in part, in the order of their next turns.
    begun: VecDeque<Begun>,
    /// Whether the last commit left out a large write, so that small ones were stored sooner. The next one takes it.
    has_put_off: bool,
    /// What has to wait until everything before it is done.
    left: Option<Job>,
    /// Whether the engine takes nothing more until it is opened again.
    is_broken: bool,
    /// Whether there was less room than the floor when it was looked last.
    is_short: bool,
    /// When there was plenty, and how many bytes may be written before it is looked again.
    plenty: Option<(Instant, usize)>,
    reclaimer: Reclaimer,
}

/// What can be stored now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Anything,
    /// What is small, or gives room in the end: read marks, and removing what is old.
    SmallThings,
    /// Only what gives room in the end.
    Removals,
    Nothing,
}

impl Writer {
    /// A writer over an open engine, in the state that it was found in.
    pub fn new(
        shared: Arc<Shared>,
        jobs: (mpsc::WeakSender<Job>, mpsc::Receiver<Job>),
        mark: Mark,
        state: StateRecord,
        watchdog: Watchdog,
    ) -> Self {
        let (submit, jobs) = jobs;
        Writer {
            shared,
            jobs,
            mark,
            state,
            reached: Reached::all(state),
            remembered: Remembered::default(),
            watchdog,
            begun: VecDeque::new(),
            has_put_off: false,
            left: None,
            is_broken: false,
            is_short: false,
            plenty: None,
            reclaimer: Reclaimer::new(submit),
        }
    }

    /// Writes until the store is closed, or nobody holds it any more.
    pub fn run(mut self) {
        let _guard = SayIfGone(Arc::clone(&self.shared));
        loop {
            let job = if self.begun.is_empty() {
                let next = self.left.take().or_else(|| self.jobs.blocking_recv());
                let Some(job) = next else { break };
                Some(job)
            } else {
                None
            };
            match job {
                // Whoever asked may have gone, here and below.
                Some(Job::Close { answer }) => return drop(answer.send(self.close())),
                Some(Job::Replace { contents, answer }) => {
                    drop(answer.send((self.replace(contents), None)));
                }
                Some(Job::Reclaim) => self.reclaimer.is_wanted = true,
                job => self.commit(job),
            }
            if self.reclaimer.is_due() {
                self.reclaim();
            }
        }
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store was not closed");
        }
    }

    /// Makes one commit of `job` and of what else waits, up to a job that can't be a part of one: that is left.
    ///
    /// Whatever has just come is done first, as far as it costs little. Batches that cost more are done in turn, a piece of
    /// each, in as many commits as it takes: so one that is small need not wait for those that are large. A write that is
    /// more than a commit should hold is in every second commit at most, while there is something small to be stored.
    fn commit(&mut self, job: Option<Job>) {
        let room = match self.shared.failure() {
            None => self.room(),
            Some(_) => Room::Nothing,
        };
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let (engine, failed) = (engine.as_ref(), shared.failure());
        let engine = match (engine, failed) {
            (Some(engine), None) => engine,
            (_, Some(failed)) => return self.give_back(job, None, &Outcome::Failed(failed)),
            (None, None) => return self.give_back(job, None, &Outcome::Full),
        };
        if room != Room::Anything {
            self.give_back(None, Some(engine), &Outcome::Full);
        }
        let mut draft = Draft::new(
            engine.view(),
            &shared.recent,
            &mut self.remembered,
            self.state,
        );
        let mut open = Vec::new();
        let (mut cost, mut has_gone_on) = (0, false);
        // Read marks alone don't wait for the disk: the operating system has them, and the next commit takes them along.
        let mut must_sync = false;
        let mut next = job;
        loop {
            // What is refused fills nothing, and without this a flood of it would go on for ever, with room or without.
            let has_room = room == Room::Anything
                && draft.bytes() < MOST_BYTES
                && cost < MOST_COST
                && open.len() < QUEUE;
            if next.is_none() && has_room && self.left.is_none() {
                next = self.jobs.try_recv().ok();
            }
            let Some(job) = next.take() else {
                let may_put_off = !self.has_put_off && !has_gone_on && !open.is_empty();
                self.has_put_off = may_put_off && is_next_large(&self.begun, &mut draft);
                if self.has_put_off {
                    break;
                }
                // Also when what is small fills every commit, the others get on.
                let goes_on = has_room || !has_gone_on;
                let begun = goes_on.then(|| self.begun.pop_front()).flatten();
                let Some(mut begun) = begun else { break };
                (must_sync, has_gone_on) = (true, true);
                cost += begun.go_on(&mut draft, true);
                match begun.end() {
                    Ok(done) => open.push(done),
                    Err(begun) => self.begun.push_back(begun),
                }
                continue;
            };
            match job {
                job @ (Job::Close { .. } | Job::Replace { .. }) => self.left = Some(job),
                Job::Reclaim => self.reclaimer.is_wanted = true,
                job if room == Room::Nothing => {
                    self.reclaimer.has_refused |= matches!(job, Job::Trim { .. });
                    job.answer_early(&Outcome::Full);
                }
                job @ (Job::Commit { .. } | Job::Read { .. }) if room == Room::Removals => {
                    job.answer_early(&Outcome::Full);
                }
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
                    let mut begun = Begun::new(batch, answer);
                    cost += begun.go_on(&mut draft, false);
                    match begun.end() {
                        Ok(done) => open.push(done),
                        Err(begun) => self.begun.push_back(begun),
                    }
                }
                Job::Trim { life, answer, .. } | Job::Expire { life, answer, .. }
                    if life != shared.life() =>
                {
                    open.push(Open::Removed(answer, 0));
                }
                Job::Trim {
                    uid,
                    through,
                    now,
                    answer,
                    ..
                } => match draft.trim(uid, through, now) {
                    Ok(removed) => open.push(Open::Removed(answer, removed)),
                    // Whoever asked may have gone.
                    Err(error) => drop(answer.send((Err(error.into()), None))),
                },
                Job::Expire { keys, answer, .. } => {
                    let count = keys.len() as u64;
                    keys.into_iter().for_each(|key| draft.expire(key));
                    open.push(Open::Removed(answer, count));
                }
            }
        }
        let outcome = if draft.is_empty() {
            Outcome::Stored
        } else {
            if let Some((_, left)) = &mut self.plenty {
                *left = left.saturating_sub(draft.bytes());
            }
            let finished = draft.finish();
            self.store(engine, finished, must_sync)
        };
        if let Outcome::Stored = outcome {
            self.begun.iter_mut().for_each(Begun::stored);
        } else {
            // What was done of them in this commit is not stored either.
            let begun = mem::take(&mut self.begun).into_iter();
            open.extend(begun.map(|begun| begun.give_up(|uid| level(engine, uid))));
        }
        Answers::new(open, outcome).hand_over();
    }

    /// Answers without doing anything more: `job`, and the batches that have begun.
    fn give_back(&mut self, job: Option<Job>, engine: Option<&Engine>, outcome: &Outcome) {
        for begun in self.begun.drain(..) {
            let level = |uid| level(engine?, uid);
            begun.give_up(level).answer(outcome, None);
        }
        match job {
            // In their time, also now.
            Some(job @ (Job::Close { .. } | Job::Replace { .. })) => self.left = Some(job),
            Some(job) => job.answer_early(outcome),
            None => {}
        }
    }

    /// Makes one commit that removes everything and puts these contents in its place.
    fn replace(&mut self, contents: Contents) -> Result<(), ReplaceError> {
        if let Some(failed) = self.shared.failure() {
            return Err(failed.into());
        }
        let fits = match self.room() {
            Room::Anything => true,
            Room::SmallThings => contents.records.is_empty(),
            Room::Removals | Room::Nothing => false,
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
        if removed > MOST_TRACES {
            // Else who reads has to pass over the traces of what is gone.
            self.reclaimer.is_forced = true;
            self.reclaimer.is_wanted = true;
        }
        Ok(())
    }

    /// Writes a commit, syncs it and shows it to readers, in this order.
    fn store(&mut self, engine: &Engine, finished: Finished, must_sync: bool) -> Outcome {
        let must_sync = must_sync && self.shared.sync == SyncMode::Always;
        if let Err(error) = engine.write(finished.changes) {
            return self.gave_up("a commit was not written", error);
        }
        if must_sync {
            match engine.sync() {
                Ok(()) => {}
                // It has given up before, so nothing was synced, and what was written is cut off again.
                Err(error @ fjall::Error::Poisoned) => {
                    return self.gave_up("a commit was not synced", error);
                }
                // What the disk has is not known, and asking again would not tell.
                Err(error) => {
                    let failed = StoreError::from(EngineError::from(error));
                    let failed = failed.during("a commit was not synced");
                    return Outcome::Failed(self.shared.fail(failed));
                }
            }
        }
        // What nobody can find again was not stored.
        if let Err(why) = self.watchdog.check_commit() {
            return Outcome::Failed(self.shared.fail(StoreError::FolderGone(why)));
        }
        engine.count_removed(finished.freed as u64);
        self.state = finished.state;
        self.reached.written = self.state.commits;
        if must_sync {
            self.reached.synced = self.state.commits;
        }
        if let Err(error) = self.mark.write(self.reached) {
            tracing::warn!(%error, "how far the commits have come was not noted");
        }
        if finished.is_all_new {
            self.remembered = Remembered::default();
            *self.shared.tally.lock() = Tally::default();
        }
        self.remembered.adopt(finished.members);
        self.shared.tally.lock().committed(&finished.touched);
        if finished.is_all_new {
            let gone = {
                // As in `publish`.
                let mut recent = self.shared.recent.lock();
                engine.publish();
                mem::take(&mut *recent)
            };
            drop(gone);
            // Not before it is visible, or who reads could take the old contents for those of the new life.
            self.shared.lives.fetch_add(1, Ordering::Release);
        } else {
            self.publish(engine, &finished.touched, finished.deliveries);
        }
        if let Err(error) = engine.rotate_if_full() {
            // This commit is stored; the next one meets it.
            self.gave_up("a table was not begun", error);
        }
        Outcome::Stored
    }

    /// Shows a commit to readers.
    fn publish(&self, engine: &Engine, touched: &HashMap<Uid, Touched>, deliveries: Vec<Delivery>) {
        let gone = {
            // Under the lock, nobody sees one without the other.
            let mut recent = self.shared.recent.lock();
            engine.publish();
            recent.publish(touched, deliveries)
        };
        drop(gone);
        loop {
            let mut recent = self.shared.recent.lock();
            let gone = recent.trim();
            // Who waits for it has it next.
            MutexGuard::unlock_fair(recent);
            if gone.is_none() {
                return;
            }
        }
    }

    /// The engine takes nothing more: for want of room, which can be waited for, or for another reason.
    fn gave_up(&mut self, what: &'static str, error: fjall::Error) -> Outcome {
        self.remembered = Remembered::default();
        self.shared.forget_recent();
        if let Err(why) = self.watchdog.check_all() {
            return Outcome::Failed(self.shared.fail(StoreError::FolderGone(why)));
        }
        let error_text = in_words(&error);
        let is_tight = || self.free() < self.shared.min_free.max(TIGHT);
        let is_ours = self.reclaimer.has_stopped_engine();
        if is_full(&error) || self.is_short || is_ours || is_tight() {
            tracing::warn!(error = error_text, "{what}: there is no room");
            self.is_broken = true;
            return Outcome::Full;
        }
        let failed = StoreError::from(EngineError::from(error)).during(what);
        Outcome::Failed(self.shared.fail(failed))
    }

    /// What can be stored now. Waits while the engine is behind, and opens it again where it gave up and there is room.
    fn room(&mut self) -> Room {
        self.wait_for_engine();
        if self.has_plenty() {
            return Room::Anything;
        }
        if let Err(why) = self.watchdog.check_all() {
            self.shared.fail(StoreError::FolderGone(why));
            return Room::Nothing;
        }
        let free = self.free();
        let floor = self.shared.min_free;
        if self.is_short != (free < floor) {
            self.is_short = !self.is_short;
            if self.is_short {
                tracing::warn!(free, floor, "the disk is full: sends are refused");
                self.reclaimer.is_wanted = true;
                self.shared.short.notify_one();
            } else {
                self.reclaimer.has_room();
                tracing::warn!(free, floor, "there is room again");
            }
        }
        if self.is_short {
            self.hurry_merge();
        }
        if free >= floor.saturating_add(PLENTY) {
            self.plenty = Some((Instant::now(), ASK_AFTER));
        }
        if self.is_broken
            && !self.reclaimer.is_merging()
            && (free >= floor.max(TIGHT) || self.reclaimer.may_retry(free))
        {
            self.reopen();
        }
        // The last of the room is for merging what is removed.
        if self.is_broken || free < floor / 8 {
            Room::Nothing
        } else if free < floor / 2 {
            Room::Removals
        } else if self.is_short {
            Room::SmallThings
        } else {
            Room::Anything
        }
    }

    /// Whether there was plenty of room just now.
    fn has_plenty(&mut self) -> bool {
        let has_plenty = self.plenty.is_some_and(|(since, left)| {
            !self.is_broken && left > 0 && since.elapsed() < ASK_EVERY
        });
        if !has_plenty {
            self.plenty = None;
        }
        has_plenty
    }

    /// Bytes that the disk has left; none where that is not known, because then nothing is known of the disk.
    fn free(&self) -> u64 {
        self.shared.free_space().unwrap_or_else(|error| {
            tracing::warn!(%error, "how much room the disk has is not known, and taken for none");
            0
        })
    }

    /// Goes on with an engine that was opened anew, in the state that it was found in.
    fn adopt(&mut self, mark: Mark, state: StateRecord) {
        self.watchdog.renew();
        (self.mark, self.state) = (mark, state);
    }

    /// Opens an engine again that has given up for want of room.
    fn reopen(&mut self) {
        match self.shared.reopen(self.state) {
            Ok((mark, state)) => {
                self.adopt(mark, state);
                self.is_broken = false;
                tracing::warn!("the engine works again");
            }
            // The next job tries again.
            Err(error) if self.free() < self.shared.min_free.max(TIGHT) => {
                tracing::warn!(%error, "the engine was not opened again");
            }
            Err(error) => {
                let failed = StoreError::from(error).during("it could not be opened again");
                self.shared.fail(failed);
            }
        }
    }

    /// Waits while the engine has more to write and to merge than it should. It would wait itself, and for ever where
    /// its own threads have ended on a full disk.
    fn wait_for_engine(&mut self) {
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let Some(engine) = engine.as_ref() else {
            return;
        };
        if self.is_broken {
            return;
        }
        let caught_up = engine.wait_until(|| {
            if !engine.is_behind() {
                return true;
            }
            // The engine's own compactions wait for that of the store.
            self.reclaimer.stop();
            // They wait for room too, and the commits that are taken then give room.
            self.free() < self.shared.min_free / 2
        });
        if let Err(error) = caught_up {
            self.gave_up("tables were not written", error);
        }
    }

    /// Brings everything to the disk, and lets go of the folder.
    fn close(&mut self) -> Result<(), StoreError> {
        // What is submitted from here on is not answered.
        self.jobs.close();
        let synced = self.stop_merge();
        self.shared.forget_recent();
        let engine = self.shared.engine.write().take();
        let closed = self.close_into(engine);
        let closed = closed.and(synced.map_err(|error| EngineError::from(error).into()));
        // Now that nothing is open any more, others may have the folder.
        self.shared.lock.lock().take();
        closed
    }

    fn close_into(&mut self, engine: Option<Engine>) -> Result<(), StoreError> {
        if let Some(failed) = self.shared.failure() {
            return Err(failed);
        }
        // Another folder in its place must not be written to.
        self.check_folder()?;
        let path = &self.shared.path;
        match engine {
            Some(engine) if !self.is_broken && !engine.has_given_up() => self.close_engine(engine),
            // Everything that was acknowledged is on the disk; what was refused must not come back.
            engine => {
                drop(engine);
                let cut = folder::cut_after(path, self.state.commits);
                cut.map_err(StoreError::from)
            }
        }
    }

    /// An error if the folder is not there any more.
    fn check_folder(&mut self) -> Result<(), StoreError> {
        self.watchdog.check_all().map_err(StoreError::FolderGone)
    }

    fn close_engine(&mut self, engine: Engine) -> Result<(), StoreError> {
        engine.sync().map_err(EngineError::from)?;
        self.reached.synced = self.reached.written;
        let noted = self
            .mark
            .write(self.reached)
            .and_then(|()| self.mark.sync());
        noted?;
        // The rest only saves the next start from doing it.
        let written = engine.flush();
        // The next start does them; here they would take their time, and room.
        engine.stop_compactions();
        drop(engine);
        self.check_folder()?;
        let emptied = match written {
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

/// A writer that panics leaves a store that answers nothing, and that has to be known.
struct SayIfGone(Arc<Shared>);

impl Drop for SayIfGone {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(StoreError::WriterEnded);
        }
    }
}

/// Whether the next write of the batch whose turn it is costs more than a commit should.
fn is_next_large(begun: &VecDeque<Begun>, draft: &mut Draft<'_>) -> bool {
    let next = begun.front();
    next.is_some_and(|begun| begun.next_cost(draft) > MOST_COST)
}

/// How far an inbox goes, by what is stored.
fn level(engine: &Engine, uid: Uid) -> Option<Level> {
    let head = Head::read(&engine.view(), uid).ok()?;
    Some(head.level(uid))
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

impl Job {
    /// Answers without doing anything. What is no part of a commit is not answered so.
    fn answer_early(self, outcome: &Outcome) {
        let open = match self {
            Job::Commit { batch, answer } => Open::Commit(answer, refused(batch.len()), 0),
            Job::Read { answer, .. } => Open::Read(answer),
            Job::Trim { answer, .. } | Job::Expire { answer, .. } => Open::Removed(answer, 0),
            Job::Replace { .. } | Job::Reclaim | Job::Close { .. } => return,
        };
        open.answer(outcome, None);
    }
}

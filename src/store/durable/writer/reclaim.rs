//! Gives the room of what was removed back to the disk while the store is in use.
//!
//! A removal only adds to the engine's files at first: a trace in the journal and in the table in memory. Its room comes back
//! when the tables are merged, and the old ones are deleted once nothing refers to them. The engine merges by itself when
//! enough was written, which may be never. So after each cleaning, and when room gets short, the writer looks at what could
//! be given back, and begins a merge if it is worth it. The merge has a thread of its own; commits and pages go on.
//!
//! Below the floor everything counts that gives room, in the order of what it costs. The journals and the stale files come
//! first: the engine is closed and opened again, which needs no more room than the table in memory. Then the tables are
//! merged, if what will be left of them fits into the free room. A merge that turns out to need more is stopped before the
//! disk is full.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Job, Outcome, Writer};
use crate::store::durable::Shared;
use crate::store::durable::brake::GoOn;
use crate::store::durable::draft::Draft;
use crate::store::durable::engine::{Engine, TableSizes, in_words};
use crate::store::{Doing, Reclaim};

/// While room is short, less than this share of the floor is not worth the effort.
const LEAST_SHARE: u64 = 64;

/// The same in bytes, at most.
const LEAST: u64 = 1 << 20;

/// In normal operation, removed records may take one part in so many of the tables.
const DEAD_SHARE: u64 = 4;

/// How long no merge is begun after one that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// How soon an engine that has given up is opened again below the floor. Each time in a row takes twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// See [`FIRST_RETRY`].
const LAST_RETRY: Duration = Duration::from_secs(300);

/// The writer's part in giving room back.
#[derive(Debug)]
pub struct Reclaimer {
    /// For the thread that merges: it has the writer look again when it has ended.
    jobs: mpsc::WeakSender<Job>,
    /// Whether the writer has a reason to look.
    pub is_wanted: bool,
    /// Whether a removal was refused, and should be tried again once the engine is open.
    pub has_refused: bool,
    /// Whether the next look merges even where little was removed.
    pub is_forced: bool,
    merge: Option<Merge>,
    /// Whether the remains of a merge that was stopped lie in the folder.
    has_remains: bool,
    not_before: Option<Instant>,
    retry: Option<(Instant, Duration)>,
}

/// A merge in its own thread.
#[derive(Debug)]
struct Merge {
    thread: JoinHandle<Result<(), fjall::Error>>,
    stop: Arc<AtomicBool>,
    /// Whether it has ended, but for leaving its thread.
    is_over: Arc<AtomicBool>,
    /// Whether merges of the engine's own threads were stopped for it.
    is_alone: bool,
    /// Whether that was done after it had begun.
    is_hurried: bool,
    /// Bytes that the folder had on the disk before.
    before: u64,
}

impl Merge {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire) || self.thread.is_finished()
    }
}

impl Reclaimer {
    /// A part that has nothing to do yet.
    pub fn new(jobs: mpsc::WeakSender<Job>) -> Self {
        Reclaimer {
            jobs,
            is_wanted: false,
            has_refused: false,
            is_forced: false,
            merge: None,
            has_remains: false,
            not_before: None,
            retry: None,
        }
    }

    /// Whether the engine may have given up because its own merges were stopped.
    pub fn has_stopped_engine(&self) -> bool {
        self.merge.as_ref().is_some_and(|merge| merge.is_alone)
    }

    /// Whether a merge runs, or has ended and was not taken up.
    pub fn is_merging(&self) -> bool {
        self.merge.is_some()
    }

    /// Whether the writer has to look now.
    pub fn is_due(&self) -> bool {
        self.is_wanted || self.merge.as_ref().is_some_and(Merge::is_over)
    }

    /// Tells a merge to end, since others wait for it.
    pub fn stop(&self) {
        if let Some(merge) = &self.merge {
            merge.stop.store(true, Ordering::Release);
        }
    }

    /// Whether an engine that has given up is opened again although there is little room: what it has begun and not
    /// finished takes room until then. Counts as a try.
    pub fn may_retry(&mut self, free: u64) -> bool {
        if self.merge.is_some() || free < LEAST {
            return false;
        }
        let now = Instant::now();
        let (tried, pause) = match self.retry {
            Some((tried, pause)) if now < tried + pause => (tried, pause),
            Some((_, pause)) => (now, (pause * 2).min(LAST_RETRY)),
            None => (now, FIRST_RETRY),
        };
        self.retry = Some((tried, pause));
        tried == now
    }

    /// There is room again.
    pub fn has_room(&mut self) {
        self.retry = None;
        self.not_before = None;
    }
}

impl Writer {
    /// Looks at what could be given back to the disk, and begins with it or goes on.
    pub(super) fn reclaim(&mut self) {
        self.reclaimer.is_wanted = false;
        if self.shared.failure().is_some() {
            return;
        }
        match self.reclaimer.merge.take() {
            Some(merge) if !merge.is_over() => {
                self.reclaimer.merge = Some(merge);
                // Looks whether there is room beside it.
                self.room();
            }
            Some(merge) => {
                self.end(merge);
                self.begin();
            }
            None => self.begin(),
        }
    }

    /// Stops the merges of the engine's own threads for one that was begun beside them, when room has become short: they wait
    /// for the room that it gives back, and it waits for their end.
    pub(super) fn hurry_merge(&mut self) {
        let merge = self.reclaimer.merge.as_mut();
        let Some(merge) = merge.filter(|merge| !merge.is_alone && !merge.is_over()) else {
            return;
        };
        if let Some(engine) = self.shared.engine.read().as_ref() {
            engine.stop_compactions();
            (merge.is_alone, merge.is_hurried) = (true, true);
        }
    }

    /// Stops a merge before the engine is closed, and waits for its end, which is near. It leaves files behind, which go when
    /// the engine is opened.
    ///
    /// # Errors
    ///
    /// When what was written can't be brought to the disk before.
    pub(super) fn stop_merge(&mut self) -> Result<(), fjall::Error> {
        let Some(merge) = self.reclaimer.merge.take() else {
            return Ok(());
        };
        merge.stop.store(true, Ordering::Release);
        let synced = match self.shared.engine.read().as_ref() {
            Some(engine) if !self.is_broken => {
                let synced = engine.sync();
                // It may wait for the end of one of the engine's own, which may take long or wait for room.
                engine.stop_compactions();
                synced
            }
            _ => Ok(()),
        };
        // The engine may have given up over it.
        self.is_broken = true;
        // Whether it came through is of no use any more.
        drop(merge.thread.join());
        match synced {
            Err(fjall::Error::Poisoned) => Ok(()),
            synced => synced,
        }
    }

    /// Begins to give room back, if it is worth it.
    fn begin(&mut self) {
        // Opens an engine again that has given up, where there is room for it.
        self.room();
        let Some((sizes, journals, has_given_up)) = self.sizes() else {
            return self.note(Doing::Waiting, 0);
        };
        self.is_broken |= has_given_up;
        if self.is_broken {
            return self.note(Doing::Waiting, sizes.dead + sizes.stale);
        }
        let (free, floor) = (self.free(), self.shared.min_free);
        let is_short = free < floor;
        let buffer = self.shared.buffer;
        let mut reclaimable = sizes.dead + sizes.stale;
        let least = if is_short {
            reclaimable += journals;
            (floor / LEAST_SHARE).clamp(1, LEAST)
        } else if std::mem::take(&mut self.reclaimer.is_forced) {
            1
        } else {
            buffer.max(sizes.used / DEAD_SHARE)
        };
        let has_remains = self.reclaimer.has_remains && sizes.stale > least;
        let is_too_soon = self
            .reclaimer
            .not_before
            .is_some_and(|then| Instant::now() < then);
        // A merge writes what is left before it gives back what was there. How much that is, is an estimate. Without room
        // it is worth a try in any case, which ends before the disk is full.
        let left = sizes.used - sizes.dead + sizes.in_memory;
        let (reserve, needed) = if is_short {
            (floor / 8, floor / 8 + least)
        } else {
            (floor, left.saturating_add(floor))
        };

        if is_short && (journals + sizes.stale >= least) || has_remains {
            self.note(Doing::Sealing, reclaimable);
            let before = self.on_disk();
            if !self.open_anew(sizes.in_memory) {
                return self.note(Doing::Waiting, reclaimable);
            }
            self.given_back(before);
            reclaimable = self.sizes().map_or(0, |(sizes, ..)| sizes.dead);
        } else if sizes.stale >= least && sizes.dead < least {
            // Files of tables that were merged already, and that no commit has let go since.
            self.note(Doing::Sealing, reclaimable);
            let before = self.on_disk();
            self.let_go();
            self.given_back(before);
            reclaimable = self
                .sizes()
                .map_or(0, |(sizes, ..)| sizes.dead + sizes.stale);
        }
        if sizes.dead < least {
            return self.note(Doing::Idle, reclaimable);
        }
        if is_too_soon || self.free() < needed {
            return self.note(Doing::Waiting, reclaimable);
        }
        // Where opening the engine anew has given enough room, sends are taken again, and have to go on beside the merge.
        let is_alone = self.free() < floor;
        self.merge(is_alone, reserve, reclaimable);
    }

    /// Seals what is in memory, and merges it with all tables in a thread of its own.
    fn merge(&mut self, is_alone: bool, reserve: u64, reclaimable: u64) {
        let before = self.on_disk();
        let stop = Arc::<AtomicBool>::default();
        let (shared, stopped) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let is_over = Arc::<AtomicBool>::default();
        let (jobs, over) = (self.reclaimer.jobs.clone(), Arc::clone(&is_over));
        let thread = thread::Builder::new()
            .name("imd-reclaim".into())
            .spawn(move || {
                let merged = merge(&shared, is_alone, reserve, stopped);
                over.store(true, Ordering::Release);
                // A writer with a full queue looks after its next job.
                if let Some(jobs) = jobs.upgrade() {
                    drop(jobs.try_send(Job::Reclaim));
                }
                merged
            });
        match thread {
            Ok(thread) => {
                self.reclaimer.merge = Some(Merge {
                    thread,
                    stop,
                    is_over,
                    is_alone,
                    is_hurried: false,
                    before,
                });
                self.note(Doing::Compacting, reclaimable);
            }
            Err(error) => {
                tracing::warn!(%error, "no thread to give room back");
                self.note(Doing::Waiting, reclaimable);
            }
        }
    }

    /// Takes up the end of a merge: its old tables are let go.
    fn end(&mut self, merge: Merge) {
        let is_stopped = merge.stop.load(Ordering::Acquire);
        let merged = merge.thread.join().unwrap_or(Err(fjall::Error::Poisoned));
        if let Err(error) = &merged {
            self.reclaimer.has_remains = true;
            // One that was hurried may have failed because of that.
            if !merge.is_hurried {
                self.reclaimer.not_before = Some(Instant::now() + AFTER_FAILURE);
            }
            let error = in_words(error);
            if is_stopped {
                tracing::debug!("a merge that gives room back was stopped: commits waited for it");
            } else {
                tracing::warn!(error, "the room of removed messages was not given back");
            }
        }
        if merge.is_alone {
            let in_memory = self.sizes().map_or(0, |(sizes, ..)| sizes.in_memory);
            if self.open_anew(in_memory) && std::mem::take(&mut self.reclaimer.has_refused) {
                self.shared.short.notify_one();
            }
        } else if merged.is_ok() {
            self.let_go();
        }
        if merged.is_ok() {
            self.given_back(merge.before);
        }
    }

    /// Bytes that the engine's files take, 0 where they are not open.
    fn on_disk(&self) -> u64 {
        let sizes = self.sizes();
        sizes.map_or(0, |(sizes, journals, _)| {
            sizes.used + sizes.stale + journals
        })
    }

    /// Counts what was given back, where the engine's files took `before` bytes until now.
    fn given_back(&self, before: u64) {
        let bytes = before.saturating_sub(self.on_disk());
        if bytes > 0 {
            self.shared.reclaim.lock().reclaimed += bytes;
            tracing::info!(bytes, "room of removed messages was given back to the disk");
        }
    }

    /// Lets the engine delete the files of tables that were merged. It keeps what an older snapshot may need, so there has
    /// to be a commit after the merge, and a seal after that.
    fn let_go(&mut self) {
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let Some(engine) = engine.as_ref() else {
            return;
        };
        // One that changes nothing but its own number.
        let remembered = &mut self.remembered;
        let draft = Draft::new(engine.view(), &shared.recent, remembered, self.state);
        let finished = draft.finish();
        let outcome = self.store(engine, finished, false);
        if matches!(outcome, Outcome::Stored)
            && let Err(error) = engine.rotate()
        {
            self.gave_up("a table was not begun", error);
        }
    }

    /// Closes the engine and opens it again, with empty journals and without stale files. Readers wait for it. Answers
    /// whether it is open.
    fn open_anew(&mut self, in_memory: u64) -> bool {
        let shared = Arc::clone(&self.shared);
        let has_given_up = |engine: &Engine| engine.has_given_up();
        let mut slot = shared.engine.write();
        if self.is_broken || slot.as_ref().is_none_or(has_given_up) {
            drop(slot);
            self.is_broken = true;
            self.reopen();
            return !self.is_broken;
        }
        // The table in memory becomes a file before its journal can go.
        if self.free() < in_memory + in_memory / 2 {
            return false;
        }
        if let Some(engine) = slot.take()
            && let Err(error) = self.close_engine(engine)
        {
            shared.fail(error);
            return false;
        }
        match shared.open_engine(&mut slot, self.state) {
            Ok((mark, state)) => {
                self.adopt(mark, state);
                self.reclaimer.has_remains = false;
                true
            }
            Err(error) => {
                drop(slot);
                tracing::warn!(%error, "the engine was not opened again");
                self.is_broken = true;
                // Where that is not for want of room, this makes the store fail.
                self.reopen();
                !self.is_broken
            }
        }
    }

    /// The sizes of the tables, the bytes of the journals, and whether the engine has given up.
    fn sizes(&self) -> Option<(TableSizes, u64, bool)> {
        let engine = self.shared.engine.read();
        let engine = engine.as_ref()?;
        Some((
            engine.table_sizes(),
            engine.journal_bytes(),
            engine.has_given_up(),
        ))
    }

    /// Notes for others what is being done; the log says it when it changes.
    fn note(&self, doing: Doing, reclaimable: u64) {
        let before = {
            let mut known = self.shared.reclaim.lock();
            known.reclaimable = reclaimable;
            std::mem::replace(&mut known.doing, doing)
        };
        if before != doing {
            let doing = doing.as_str();
            tracing::info!(doing, reclaimable, "giving room back to the disk");
        }
    }
}

/// Merges all tables. Ends early when it is stopped, or when less than `reserve` bytes are free.
fn merge(
    shared: &Arc<Shared>,
    is_alone: bool,
    reserve: u64,
    stopped: Arc<AtomicBool>,
) -> Result<(), fjall::Error> {
    let engine = shared.engine.read();
    let Some(engine) = engine.as_ref() else {
        return Ok(());
    };
    let has_room = shared.has_room_of(reserve);
    let go_on = move || !stopped.load(Ordering::Acquire) && has_room();
    engine.compact_while(Arc::new(go_on), is_alone)
}

impl Shared {
    /// Says whether merges of the engine's own threads have room.
    pub(in crate::store::durable) fn has_room_to_merge(&self) -> Arc<GoOn> {
        self.has_room_of(self.min_free / 2)
    }

    /// Says whether so many bytes are free. Does not keep the store alive.
    fn has_room_of(&self, bytes: u64) -> Arc<GoOn> {
        let (room, path) = (Arc::clone(&self.room), self.path.clone());
        Arc::new(move || room(&path).is_ok_and(|free| free >= bytes) || bytes == 0)
    }

    /// What is being done to give room back.
    pub(in crate::store::durable) fn reclaim(&self) -> Reclaim {
        *self.reclaim.lock()
    }
}

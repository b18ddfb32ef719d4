//! Gives the space of removed records back to the disk while the store is in use.
//!
//! Serves the writer, which calls it for the job `Reclaim` and when a compaction has ended.
//!
//! A removal only adds to the engine's files at first: a tombstone in the journal and in the memtable. The space of the
//! record comes back when the tables are compacted, and the old tables are deleted when nothing refers to them any
//! more. The engine compacts them when enough was written, which may be never. So after each cleaning, and when space
//! gets short, the writer looks how much could be given back, and begins a compaction if it is worth it. The compaction
//! has a thread of its own; commits and pages go on.
//!
//! Below the floor everything counts that gives space, in the order of what it costs. The journals and the stale tables
//! come first: the engine is closed and opened again, which needs no more space than the memtable has bytes. Then the
//! tables are compacted, if the result will fit into the free space. A compaction that turns out to need more is
//! stopped before the disk is full.

#[cfg(test)]
mod tests;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::super::OpenStore;
use super::super::answers::Outcome;
use super::super::brake::MayContinue;
use super::super::draft::Draft;
use super::super::engine::{Engine, TableSizes, in_words};
use super::Writer;
use super::job::Job;
use super::reclaim_state::Compaction;
use crate::store::{ReclaimProgress, ReclaimStep};

/// While space is short, giving less than this share of the floor back is not worth the effort.
const MIN_SHARE_OF_FLOOR: u64 = 64;

/// The upper bound of that share, in bytes.
const MIN_BYTES: u64 = 1 << 20;

/// While there is enough space, a compaction is begun when removed records take more than one part in this many of the
/// tables.
const DEAD_SHARE: u64 = 4;

/// How much could be given back, and what has to be free for it.
struct Estimate {
    tables: TableSizes,
    /// Bytes that the journals take.
    journals: u64,
    /// Whether less than the floor is free.
    is_short: bool,
    /// Bytes that are worth the effort.
    worthwhile: u64,
    /// Bytes that could be given back in all.
    reclaimable: u64,
    /// Bytes that have to stay free during a compaction.
    reserve: u64,
    /// Bytes that have to be free before a compaction begins.
    needed: u64,
    /// Whether the remains of a failed compaction are worth opening the engine again.
    has_remains: bool,
}

impl Estimate {
    /// Returns whether closing the engine and opening it again gives enough back.
    fn is_reopen_worthwhile(&self) -> bool {
        let gained = self.journals + self.tables.stale;
        self.is_short && gained >= self.worthwhile || self.has_remains
    }

    /// Returns whether deleting the files of compacted tables gives enough back, and a compaction would not.
    fn is_deletion_worthwhile(&self) -> bool {
        self.tables.stale >= self.worthwhile && self.tables.dead < self.worthwhile
    }
}

impl Writer {
    /// Estimates how much could be given back to the disk, and begins to give it back or goes on with it.
    pub(super) fn reclaim_space(&mut self) {
        self.reclaim_state.is_wanted = false;
        if self.shared.failure().is_some() {
            return;
        }
        match self.reclaim_state.compaction.take() {
            Some(compaction) if !compaction.is_over() => {
                self.reclaim_state.compaction = Some(compaction);
                // Asking for the allowed jobs hurries the compaction if space has become short.
                self.allowed_jobs();
            }
            Some(compaction) => {
                self.finish_compaction(compaction);
                self.begin_reclaim();
            }
            None => self.begin_reclaim(),
        }
    }

    /// Stops the engine's compactions if the store's own one waits for them. While space is short, the engine's
    /// compactions wait for free space, and the store's would wait for them without an end.
    pub(super) fn stop_engine_compactions(&mut self) {
        let compaction = self.reclaim_state.compaction.as_mut();
        let Some(compaction) = compaction.filter(|own| !own.is_alone && !own.is_over()) else {
            return;
        };
        if let Some(engine) = self.shared.engine.read().as_ref() {
            engine.stop_compactions();
            (compaction.is_alone, compaction.is_hurried) = (true, true);
        }
    }

    /// Stops the store's compaction before the engine is closed, and waits for its end, which is near. The tables that
    /// it leaves behind are deleted when the engine is opened again.
    ///
    /// # Errors
    ///
    /// The error of the engine, when the commits can't be synced before.
    pub(super) fn stop_compaction(&mut self) -> Result<(), fjall::Error> {
        let Some(compaction) = self.reclaim_state.compaction.take() else {
            return Ok(());
        };
        compaction.stop.store(true, Ordering::Release);
        let synced = match self.shared.engine.read().as_ref() {
            Some(engine) if !self.is_poisoned => {
                let synced = engine.sync();
                // The compaction may wait for one of the engine's own, which may take long or wait for space.
                engine.stop_compactions();
                synced
            }
            _ => Ok(()),
        };
        // The engine may be poisoned when its compactions were stopped.
        self.is_poisoned = true;
        // The result of the compaction is not needed any more.
        drop(compaction.thread.join());
        match synced {
            Err(fjall::Error::Poisoned) => Ok(()),
            synced => synced,
        }
    }

    /// Begins to give space back, if it is worth it.
    fn begin_reclaim(&mut self) {
        // Asking for the allowed jobs opens a poisoned engine again, if there is space for it.
        self.allowed_jobs();
        let Some((tables, journals, is_poisoned)) = self.sizes() else {
            return self.note_reclaim(ReclaimStep::Waiting, 0);
        };
        self.is_poisoned |= is_poisoned;
        if self.is_poisoned {
            return self.note_reclaim(ReclaimStep::Waiting, tables.dead + tables.stale);
        }
        let estimate = self.estimate(tables, journals);
        let Some((reclaimable, dead)) = self.give_back_files(&estimate) else {
            return self.note_reclaim(ReclaimStep::Waiting, estimate.reclaimable);
        };
        if dead < estimate.worthwhile {
            return self.note_reclaim(ReclaimStep::Idle, reclaimable);
        }
        if self.reclaim_state.is_too_soon() || self.free() < estimate.needed {
            return self.note_reclaim(ReclaimStep::Waiting, reclaimable);
        }
        // If opening the engine anew has given enough space, sends are taken again, and the compaction need not stop
        // the engine's.
        let is_alone = self.free() < self.shared.min_free;
        self.compact(is_alone, estimate.reserve, reclaimable);
    }

    /// Estimates how much could be given back.
    fn estimate(&mut self, tables: TableSizes, journals: u64) -> Estimate {
        let floor = self.shared.min_free;
        let is_short = self.free() < floor;
        let mut reclaimable = tables.dead + tables.stale;
        let worthwhile = if is_short {
            reclaimable += journals;
            (floor / MIN_SHARE_OF_FLOOR).clamp(1, MIN_BYTES)
        } else if mem::take(&mut self.reclaim_state.is_forced) {
            1
        } else {
            self.shared.buffer.max(tables.used / DEAD_SHARE)
        };
        // A compaction writes its result before the old tables are deleted. The size of the result is an estimate.
        // While space is short, a compaction is worth a try whatever its result may take, because it ends before the
        // disk is full.
        let result = tables.used - tables.dead + tables.in_memory;
        let (reserve, needed) = match is_short {
            true => (floor / 8, floor / 8 + worthwhile),
            false => (floor, result.saturating_add(floor)),
        };
        Estimate {
            tables,
            journals,
            is_short,
            worthwhile,
            reclaimable,
            reserve,
            needed,
            has_remains: self.reclaim_state.has_remains && tables.stale > worthwhile,
        }
    }

    /// Gives back files that are no longer in use, if it is worth it. Returns how many bytes can still be given back, and
    /// how many of them removed records take; none if there is too little space to open the engine anew.
    fn give_back_files(&mut self, estimate: &Estimate) -> Option<(u64, u64)> {
        let is_reopened = estimate.is_reopen_worthwhile();
        if !is_reopened && !estimate.is_deletion_worthwhile() {
            return Some((estimate.reclaimable, estimate.tables.dead));
        }
        self.note_reclaim(ReclaimStep::Sealing, estimate.reclaimable);
        let before = self.on_disk();
        if !is_reopened {
            self.delete_compacted();
        } else if !self.close_and_reopen(estimate.tables.in_memory) {
            return None;
        }
        self.count_given_back(before);
        let left = self.sizes().map(|(tables, ..)| match is_reopened {
            // The estimate did not count the tombstones of memtables that were still being flushed. Closing the engine has
            // put them into tables.
            true => (tables.dead, tables.dead),
            false => (tables.dead + tables.stale, estimate.tables.dead),
        });
        Some(left.unwrap_or_default())
    }

    /// Begins a compaction of all tables and the memtable in a thread of its own.
    fn compact(&mut self, is_alone: bool, reserve: u64, reclaimable: u64) {
        let before = self.on_disk();
        let stop = Arc::<AtomicBool>::default();
        let is_over = Arc::<AtomicBool>::default();
        let (shared, stopped) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let (jobs, over) = (self.reclaim_state.jobs(), Arc::clone(&is_over));
        let thread = thread::Builder::new()
            .name("imd-reclaim".into())
            .spawn(move || {
                let compacted = compact(&shared, is_alone, reserve, stopped);
                over.store(true, Ordering::Release);
                // The job is not needed if the queue is full: the writer looks after its next job anyway.
                if let Some(jobs) = jobs.upgrade() {
                    drop(jobs.try_send(Job::Reclaim));
                }
                compacted
            });
        match thread {
            Ok(thread) => {
                self.reclaim_state.compaction = Some(Compaction {
                    thread,
                    stop,
                    is_over,
                    is_alone,
                    is_hurried: false,
                    before,
                });
                self.note_reclaim(ReclaimStep::Compacting, reclaimable);
            }
            Err(error) => {
                tracing::warn!(%error, "no thread to give space back");
                self.note_reclaim(ReclaimStep::Waiting, reclaimable);
            }
        }
    }

    /// Finishes a compaction that has ended: its old tables are deleted.
    fn finish_compaction(&mut self, compaction: Compaction) {
        let is_stopped = compaction.stop.load(Ordering::Acquire);
        let compacted = compaction.thread.join();
        let compacted = compacted.unwrap_or(Err(fjall::Error::Poisoned));
        if let Err(error) = &compacted {
            self.reclaim_state.note_failure(compaction.is_hurried);
            let error = in_words(error);
            if is_stopped {
                tracing::debug!(
                    "a compaction that gives space back was stopped: commits waited for it"
                );
            } else {
                tracing::warn!(error, "the space of removed messages was not given back");
            }
        }
        if compaction.is_alone {
            let in_memory = self.sizes().map_or(0, |(tables, ..)| tables.in_memory);
            if self.close_and_reopen(in_memory) && mem::take(&mut self.reclaim_state.has_refused) {
                self.shared.cleaning_due.notify_one();
            }
        } else if compacted.is_ok() {
            self.delete_compacted();
        }
        if compacted.is_ok() {
            self.count_given_back(compaction.before);
        }
    }

    /// Returns the bytes that the engine's files take; 0 if it is not open.
    fn on_disk(&self) -> u64 {
        let sizes = self.sizes();
        sizes.map_or(0, |(sizes, journals, _)| {
            sizes.used + sizes.stale + journals
        })
    }

    /// Counts the bytes that were given back since the engine's files took `before` bytes.
    fn count_given_back(&self, before: u64) {
        let bytes = before.saturating_sub(self.on_disk());
        if bytes > 0 {
            self.shared.reclaim_progress.lock().reclaimed += bytes;
            tracing::info!(
                bytes,
                "space of removed messages was given back to the disk"
            );
        }
    }

    /// Has the engine delete the files of compacted tables. It keeps the files that a snapshot from before the
    /// compaction may need, and deletes files only in a flush. So a commit is made, and the memtable is rotated after
    /// it.
    fn delete_compacted(&mut self) {
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let Some(engine) = engine.as_ref() else {
            return;
        };
        // The commit changes only the number of commits.
        let remembered = &mut self.members_cache;
        let draft = Draft::new(engine.view(), &shared.recent, remembered, self.state);
        let prepared = draft.finish();
        let outcome = self.write_commit(engine, prepared, false);
        if matches!(outcome, Outcome::Stored)
            && let Err(error) = engine.rotate()
        {
            self.note_poisoned("a table was not begun", error);
        }
    }

    /// Closes the engine and opens it again, with empty journals and without stale tables. Readers wait meanwhile.
    /// Returns whether the engine is open.
    fn close_and_reopen(&mut self, in_memory: u64) -> bool {
        let shared = Arc::clone(&self.shared);
        let is_poisoned = |engine: &Engine| engine.is_poisoned();
        let mut slot = shared.engine.write();
        if self.is_poisoned || slot.as_ref().is_none_or(is_poisoned) {
            drop(slot);
            self.is_poisoned = true;
            self.reopen_poisoned();
            return !self.is_poisoned;
        }
        // The flush of the memtable needs space, and its journal can't be emptied before.
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
            Ok((checkpoint_file, state)) => {
                self.adopt_engine(checkpoint_file, state);
                self.reclaim_state.has_remains = false;
                true
            }
            Err(error) => {
                drop(slot);
                tracing::warn!(%error, "the engine was not opened again");
                self.is_poisoned = true;
                // This is another try, and fails the store unless want of free space is the cause.
                self.reopen_poisoned();
                !self.is_poisoned
            }
        }
    }

    /// Returns the sizes of the tables, the bytes of the journals, and whether the engine is poisoned; none if it is
    /// not open.
    fn sizes(&self) -> Option<(TableSizes, u64, bool)> {
        let engine = self.shared.engine.read();
        let engine = engine.as_ref()?;
        Some((
            engine.table_sizes(),
            engine.journal_bytes(),
            engine.is_poisoned(),
        ))
    }

    /// Notes the step that is in progress, for the status of the store. Changes are logged.
    fn note_reclaim(&self, step: ReclaimStep, reclaimable: u64) {
        let before = {
            let mut known = self.shared.reclaim_progress.lock();
            known.reclaimable = reclaimable;
            mem::replace(&mut known.step, step)
        };
        if before != step {
            let doing = step.as_str();
            tracing::info!(doing, reclaimable, "giving space back to the disk");
        }
    }
}

/// Compacts all tables. Ends with an error when it is stopped, or when less than `reserve` bytes are free.
fn compact(
    shared: &Arc<OpenStore>,
    is_alone: bool,
    reserve: u64,
    stopped: Arc<AtomicBool>,
) -> Result<(), fjall::Error> {
    let engine = shared.engine.read();
    let Some(engine) = engine.as_ref() else {
        return Ok(());
    };
    let has_space = shared.free_space_check(reserve);
    let may_continue = move || !stopped.load(Ordering::Acquire) && has_space();
    engine.compact_while(Arc::new(may_continue), is_alone)
}

impl OpenStore {
    /// Returns a function that says whether compactions of the engine's own threads have space.
    pub(in crate::store::durable) fn compaction_space_check(&self) -> Arc<MayContinue> {
        self.free_space_check(self.min_free / 2)
    }

    /// Returns a function that says whether at least `bytes` are free. The function does not keep the store alive.
    fn free_space_check(&self, bytes: u64) -> Arc<MayContinue> {
        let (free_space, path) = (Arc::clone(&self.free_space_probe), self.path.clone());
        Arc::new(move || free_space(&path).is_ok_and(|free| free >= bytes) || bytes == 0)
    }

    /// Returns the progress of giving space back.
    pub(in crate::store::durable) fn reclaim_progress(&self) -> ReclaimProgress {
        *self.reclaim_progress.lock()
    }
}

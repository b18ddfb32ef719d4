//! Makes one commit: collects its jobs, writes and syncs it, shows it to readers, and replies. In this order, so that
//! nothing is acknowledged or visible that a crash could take back.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use parking_lot::MutexGuard;

use super::super::answers::{CommitAnswers, Outcome};
use super::super::batch::BatchProgress;
use super::super::bounds::{InboxBounds, InboxChange};
use super::super::counts::DeliveryCounts;
use super::super::draft::{Draft, GroupCache, PreparedCommit};
use super::super::engine::{Engine, EngineError};
use super::super::recent::Delivery;
use super::super::record::StateRecord;
use super::Writer;
use super::admission::Admission;
use super::collect::Collected;
use super::job::Job;
use crate::config::SyncMode;
use crate::id::Uid;
use crate::store::{InboxState, StoreError};

impl Writer {
    /// Makes one commit of `first` and of the jobs in the queue.
    pub(super) fn commit(&mut self, first: Option<Job>) {
        let admission = match self.shared.failure() {
            None => self.admission(),
            Some(_) => Admission::Nothing,
        };
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let engine = match (engine.as_ref(), shared.failure()) {
            (Some(engine), None) => engine,
            (_, Some(failed)) => return self.refuse_all(first, None, &Outcome::Failed(failed)),
            (None, None) => return self.refuse_all(first, None, &Outcome::Full),
        };
        if admission != Admission::All {
            self.refuse_unfinished(Some(engine), &Outcome::Full);
        }
        let draft = Draft::new(
            engine.view(),
            &shared.recent,
            &mut self.remembered,
            self.state,
        );
        let mut commit = Collected::new(draft, admission, shared.generation());
        commit.collect(first, &mut self.queue, &mut self.reclaimer);
        let Collected {
            draft,
            mut open,
            must_sync,
            ..
        } = commit;
        let outcome = if draft.is_empty() {
            Outcome::Stored
        } else {
            let (bytes, finished) = (draft.bytes(), draft.finish());
            self.room.count_written(bytes);
            self.store(engine, finished, must_sync)
        };
        if let Outcome::Stored = outcome {
            self.queue.mark_stored();
        } else {
            // The pieces that this commit had of them are not stored either.
            let unfinished = self.queue.take_unfinished().into_iter();
            open.extend(unfinished.map(BatchProgress::abort));
            for answer in &mut open {
                answer.forget_last_piece(|uid| inbox_state(engine, uid));
            }
        }
        CommitAnswers::new(open, outcome).hand_over();
    }

    /// Replies to all unfinished batches without doing anything more of them.
    pub(super) fn refuse_unfinished(&mut self, engine: Option<&Engine>, outcome: &Outcome) {
        for batch in self.queue.take_unfinished() {
            let mut refused = batch.abort();
            refused.forget_last_piece(|uid| inbox_state(engine?, uid));
            refused.answer(outcome, None);
        }
    }

    /// Replies to `job` and to all unfinished batches without doing anything more of them.
    fn refuse_all(&mut self, job: Option<Job>, engine: Option<&Engine>, outcome: &Outcome) {
        self.refuse_unfinished(engine, outcome);
        match job {
            // These still have their turn.
            Some(job @ (Job::Close { .. } | Job::Replace { .. })) => self.queue.defer(job),
            Some(job) => job.refuse(outcome),
            None => {}
        }
    }

    /// Writes a commit and shows it to readers. `has_writes` says whether it acknowledges writes of clients: then it is on
    /// the disk, in the folder that the next start opens, before it is shown.
    ///
    /// A commit of read marks and removals acknowledges nothing that must outlive a crash, so neither is made sure of for
    /// it. If the folder is gone, the next commit of a write fails, or the next check of the room.
    pub(super) fn store(
        &mut self,
        engine: &Engine,
        mut finished: PreparedCommit,
        has_writes: bool,
    ) -> Outcome {
        let is_synced = has_writes && self.shared.sync == SyncMode::Always;
        if let Err(error) = engine.write(mem::take(&mut finished.changes)) {
            return self.gave_up("a commit was not written", error);
        }
        if is_synced {
            match engine.sync() {
                Ok(()) => {}
                // The engine has given up before, so nothing was synced. What was written is cut off again.
                Err(error @ fjall::Error::Poisoned) => {
                    return self.gave_up("a commit was not synced", error);
                }
                // Nobody knows what is on the disk, and another sync would not tell.
                Err(error) => {
                    let failed = StoreError::from(EngineError::from(error));
                    let failed = failed.during("a commit was not synced");
                    return Outcome::Failed(self.shared.fail(failed));
                }
            }
        }
        if has_writes && let Err(why) = self.watchdog.check_commit() {
            return Outcome::Failed(self.shared.fail(StoreError::FolderGone(why)));
        }
        engine.count_removed(finished.freed as u64);
        self.note_commit(finished.state, is_synced);
        self.show(engine, finished);
        if let Err(error) = engine.rotate_if_full() {
            // This commit is stored. The next one finds that the engine has given up.
            self.gave_up("a table was not begun", error);
        }
        Outcome::Stored
    }

    /// Notes how far the commits have come.
    fn note_commit(&mut self, state: StateRecord, is_synced: bool) {
        self.state = state;
        self.reached.written = state.commits;
        if is_synced {
            self.reached.synced = state.commits;
        }
        if let Err(error) = self.mark.write(self.reached) {
            tracing::warn!(%error, "how far the commits have come was not noted");
        }
    }

    /// Shows a commit to readers, and remembers what the next commits need of it.
    fn show(&mut self, engine: &Engine, finished: PreparedCommit) {
        if !finished.is_all_new {
            self.remembered.adopt(finished.members);
            self.shared.counts.lock().committed(&finished.inboxes);
            return self.publish(engine, &finished.inboxes, finished.deliveries);
        }
        self.remembered = GroupCache::default();
        self.remembered.adopt(finished.members);
        {
            let mut counts = self.shared.counts.lock();
            *counts = DeliveryCounts::default();
            counts.committed(&finished.inboxes);
        }
        let gone = {
            // As in `publish`.
            let mut recent = self.shared.recent.lock();
            engine.publish();
            mem::take(&mut *recent)
        };
        drop(gone);
        // Last: a reader that sees the new generation must not find the old contents.
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// Makes a commit visible, in the engine and among the recent entries.
    fn publish(
        &self,
        engine: &Engine,
        changes: &HashMap<Uid, InboxChange>,
        deliveries: Vec<Delivery>,
    ) {
        let gone = {
            // Under the lock, no reader sees one without the other.
            let mut recent = self.shared.recent.lock();
            engine.publish();
            recent.publish(changes, deliveries)
        };
        drop(gone);
        loop {
            let mut recent = self.shared.recent.lock();
            let gone = recent.evict();
            // Readers that wait for the lock get it before the next step.
            MutexGuard::unlock_fair(recent);
            if gone.is_none() {
                return;
            }
        }
    }
}

/// Returns how far an inbox goes, by what is stored.
fn inbox_state(engine: &Engine, uid: Uid) -> Option<InboxState> {
    let bounds = InboxBounds::read(&engine.view(), uid).ok()?;
    Some(bounds.inbox_state(uid))
}

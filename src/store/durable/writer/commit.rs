//! Makes one group commit: collects its jobs, writes and syncs it, shows it to readers, and answers.
//!
//! Serves the writer's loop. The steps have this order so that nothing is acknowledged or visible that a crash could
//! take back.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use parking_lot::MutexGuard;

use super::super::OpenStore;
use super::super::answers::{CommitAnswers, Outcome, PendingAnswer};
use super::super::batch::BatchProgress;
use super::super::bounds::{InboxBounds, InboxChange};
use super::super::counts::DeliveryCounts;
use super::super::draft::{Draft, MembersCache, PreparedGroupCommit};
use super::super::engine::{Engine, EngineError};
use super::super::recent::CachedMessage;
use super::super::record::StateRecord;
use super::Writer;
use super::allowed_jobs::AllowedJobs;
use super::collect::GroupCommit;
use super::job::Job;
use crate::config::SyncMode;
use crate::id::{Uid, Version};
use crate::store::{InboxState, StoreError};

impl Writer {
    /// Makes one group commit of `first` and of the jobs in the queue.
    pub(super) fn make_group_commit(&mut self, first: Option<Job>) {
        let allowed = match self.shared.failure() {
            None => self.allowed_jobs(),
            Some(_) => AllowedJobs::Nothing,
        };
        let shared = Arc::clone(&self.shared);
        let engine = shared.engine.read();
        let engine = match (engine.as_ref(), shared.failure()) {
            (Some(engine), None) => engine,
            (_, Some(failed)) => return self.refuse_all(first, None, &Outcome::Failed(failed)),
            // There was too little space to open the engine again. Asking for the allowed jobs tries it again later.
            (None, None) => return self.refuse_all(first, None, &Outcome::Full),
        };
        if allowed != AllowedJobs::All {
            self.refuse_unfinished(Some(engine), &Outcome::Full);
        }
        let draft = Draft::new(
            engine.view(),
            &shared.recent,
            &mut self.members_cache,
            self.state,
        );
        let mut commit = GroupCommit::new(draft, allowed, shared.generation());
        commit.collect(first, &mut self.queue, &mut self.reclaim_state);
        let marks = commit.add_marks(&shared.recent);
        let GroupCommit {
            draft,
            mut pending,
            has_writes,
            ..
        } = commit;
        let outcome = if draft.is_empty() {
            Outcome::Stored
        } else {
            let (bytes, prepared) = (draft.bytes(), draft.finish());
            self.free_space.count_written(bytes);
            self.write_commit(engine, prepared, has_writes)
        };
        if let Outcome::Stored = outcome {
            self.queue.note_stored();
        } else {
            // The pieces of unfinished batches that were in this commit are not stored either.
            let unfinished = self.queue.take_unfinished().into_iter();
            pending.extend(unfinished.map(BatchProgress::abort));
            for answer in &mut pending {
                answer.forget_last_piece(|uid| shared.inbox_state(engine, uid));
            }
        }
        shared.show_and_clear_marks(&marks, &outcome, &mut pending);
        CommitAnswers::new(pending, outcome).hand_over();
    }

    /// Answers all unfinished batches without doing anything more of them.
    pub(super) fn refuse_unfinished(&mut self, engine: Option<&Engine>, outcome: &Outcome) {
        for batch in self.queue.take_unfinished() {
            let mut refused = batch.abort();
            refused.forget_last_piece(|uid| self.shared.inbox_state(engine?, uid));
            refused.send(outcome, None);
        }
    }

    /// Answers `job` and all unfinished batches without doing anything more of them.
    fn refuse_all(&mut self, job: Option<Job>, engine: Option<&Engine>, outcome: &Outcome) {
        self.refuse_unfinished(engine, outcome);
        match job {
            // These jobs are no part of a commit, so they keep their turn when it is refused.
            Some(job @ (Job::Close { .. } | Job::Replace { .. })) => self.queue.defer(job),
            Some(job) => job.refuse(outcome),
            None => {}
        }
    }

    /// Writes a commit and shows it to readers. `has_writes` says whether it acknowledges writes of clients. If it does,
    /// before readers see the commit, it is synced (with `sync = "os"` only handed to the operating system), and the
    /// folder is checked to be the one that the next start opens.
    ///
    /// A commit of read marks and removals acknowledges nothing that must outlive a crash, so it is not synced, and the
    /// folder is not checked. If the folder is gone, the next commit of a write fails, or the next check of the space.
    pub(super) fn write_commit(
        &mut self,
        engine: &Engine,
        mut prepared: PreparedGroupCommit,
        has_writes: bool,
    ) -> Outcome {
        let is_synced = has_writes && self.shared.sync == SyncMode::Always;
        if let Err(error) = engine.write(mem::take(&mut prepared.changes)) {
            return self.note_poisoned("a commit was not written", error);
        }
        if is_synced {
            match engine.sync() {
                Ok(()) => {}
                // The engine was poisoned before, so nothing was synced. What was written of the commit is cut off when
                // the engine is opened again.
                Err(error @ fjall::Error::Poisoned) => {
                    return self.note_poisoned("a commit was not synced", error);
                }
                // A failed sync leaves unknown what is on the disk, and another sync would not tell.
                Err(error) => {
                    let failed = StoreError::from(EngineError::from(error));
                    let failed = failed.during("a commit was not synced");
                    return Outcome::Failed(self.shared.fail(failed));
                }
            }
        }
        if has_writes && let Err(why) = self.folder_guard.check_commit() {
            return Outcome::Failed(self.shared.fail(StoreError::FolderGone(why)));
        }
        engine.count_removed_bytes(prepared.freed as u64);
        self.note_commit(prepared.state, is_synced);
        self.publish_commit(engine, prepared);
        if let Err(error) = engine.rotate_if_full() {
            // This commit is stored nonetheless. The next one finds that the engine is poisoned.
            self.note_poisoned("a table was not begun", error);
        }
        Outcome::Stored
    }

    /// Notes how far the commits have come.
    fn note_commit(&mut self, state: StateRecord, is_synced: bool) {
        self.state = state;
        self.checkpoint.written = state.last_commit;
        if is_synced {
            self.checkpoint.synced = state.last_commit;
        }
        if let Err(error) = self.checkpoint_file.write(self.checkpoint) {
            tracing::warn!(%error, "how far the commits have come was not noted");
        }
    }

    /// Shows a commit to readers, and remembers what the next commits need of it.
    fn publish_commit(&mut self, engine: &Engine, prepared: PreparedGroupCommit) {
        if !prepared.is_all_new {
            self.members_cache.adopt(prepared.members);
            self.shared.counts.lock().committed(&prepared.inboxes);
            return self.publish(engine, &prepared.inboxes, prepared.new_messages);
        }
        self.members_cache = MembersCache::default();
        self.members_cache.adopt(prepared.members);
        {
            let mut counts = self.shared.counts.lock();
            *counts = DeliveryCounts::default();
            counts.committed(&prepared.inboxes);
        }
        let gone = {
            // The engine and the recent entries change under one lock, as in `publish`. So does the generation, for the
            // pages that note their read marks under that lock. It changes after the contents: a reader that sees the
            // new one must not find the old contents.
            let mut recent = self.shared.recent.lock();
            engine.publish();
            self.shared.generation.fetch_add(1, Ordering::Release);
            mem::take(&mut *recent)
        };
        drop(gone);
    }

    /// Makes a commit visible, in the engine and among the recent entries.
    fn publish(
        &self,
        engine: &Engine,
        changes: &HashMap<Uid, InboxChange>,
        new_messages: Vec<CachedMessage>,
    ) {
        let gone = {
            // Both change under one lock, so that no reader sees the one without the other.
            let mut recent = self.shared.recent.lock();
            engine.publish();
            recent.publish(changes, new_messages)
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

impl OpenStore {
    /// Returns the state of an inbox as of the last commit that was stored, with the noted read mark; none if it can't
    /// be read.
    fn inbox_state(&self, engine: &Engine, uid: Uid) -> Option<InboxState> {
        let bounds = InboxBounds::read(&engine.view(), uid).ok()?;
        let noted = self.recent.lock().marks.get(uid);
        Some(bounds.with_mark(noted).inbox_state(uid))
    }

    /// Shows the noted read marks in the answers of a commit, and then removes those that the commit has stored. The
    /// marks of a commit that is not stored are left to the next one.
    fn show_and_clear_marks(
        &self,
        marks: &[(Uid, Version)],
        outcome: &Outcome,
        answers: &mut [PendingAnswer],
    ) {
        let mut recent = self.recent.lock();
        if recent.marks.is_empty() {
            return;
        }
        for answer in answers {
            answer.show_marks(&recent.marks);
        }
        if let Outcome::Stored = outcome {
            recent.marks.remove_stored(marks);
        }
    }
}

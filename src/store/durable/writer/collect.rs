//! Collects jobs into one group commit.
//!
//! Serves `commit`. New jobs come first, as far as they cost little. Batches that cost more are done in turn, a piece
//! of each, in as many commits as they need. So a small batch never waits for the whole of a large one.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::answers::PendingAnswer;
use super::super::batch::BatchProgress;
use super::super::draft::Draft;
use super::super::recent::Recent;
use super::allowed_jobs::AllowedJobs;
use super::job::{Job, QUEUE};
use super::reclaim_state::ReclaimState;
use crate::id::{Uid, Version};

/// The size at which a commit takes nothing more, in bytes of keys and values.
const MAX_BYTES: usize = 4 << 20;

/// The cost at which a commit takes nothing more, as [`BatchProgress::do_piece`] counts. A commit may exceed it by one
/// piece of a batch, or by one large write.
///
/// A write that arrives after a commit has begun waits for the rest of that commit and for the next one. With four
/// times this bound, a flood of messages to a group of 2,000 made other users wait for 95 ms instead of 39 ms, and
/// stored no more.
pub const MAX_COST: usize = 1_024;

/// The jobs that are to be done, in order.
pub struct Queue {
    submitted: mpsc::Receiver<Job>,
    /// A job that begins after everything that was submitted before it has ended.
    deferred: Option<Job>,
    /// Batches of which some writes are not done yet, in the order of their next pieces. A batch may be
    /// here before any of its writes is stored.
    unfinished: VecDeque<BatchProgress>,
    /// Whether the last commit has left out a large write, so that small ones were stored sooner.
    has_put_off: bool,
    /// Whether the writer takes no more jobs.
    is_closed: bool,
}

impl Queue {
    /// Creates the queue of the jobs that are submitted to `submitted`.
    pub fn new(submitted: mpsc::Receiver<Job>) -> Self {
        Queue {
            submitted,
            deferred: None,
            unfinished: VecDeque::new(),
            has_put_off: false,
            is_closed: false,
        }
    }

    /// Refuses all jobs that are submitted from now on. No commit takes those that were submitted before, and they are
    /// refused when the writer ends.
    pub fn close(&mut self) {
        self.submitted.close();
        self.is_closed = true;
    }

    /// Returns whether there is a batch of which some writes are not done yet.
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Waits for the next job. Returns none when nobody can submit another one.
    pub fn next(&mut self) -> Option<Job> {
        let deferred = self.deferred.take();
        deferred.or_else(|| self.submitted.blocking_recv())
    }

    /// Returns the next job if it was submitted and does not have to wait for the end of the commit.
    fn try_next(&mut self) -> Option<Job> {
        if self.is_closed || self.deferred.is_some() {
            return None;
        }
        self.submitted.try_recv().ok()
    }

    /// Keeps a job back until everything that was submitted before it is done.
    pub fn defer(&mut self, job: Job) {
        self.deferred = Some(job);
    }

    /// Removes the batches of which some writes are not done yet.
    pub fn take_unfinished(&mut self) -> VecDeque<BatchProgress> {
        std::mem::take(&mut self.unfinished)
    }

    /// Notes that a commit has stored all pieces of the unfinished batches that were done so far.
    pub fn note_stored(&mut self) {
        self.unfinished
            .iter_mut()
            .for_each(BatchProgress::note_stored);
    }

    /// Returns whether the next write of the batch whose turn it is costs more than a whole commit should.
    fn is_next_large(&self, draft: &mut Draft<'_>) -> bool {
        let next = self.unfinished.front();
        next.is_some_and(|batch| batch.next_cost(draft) > MAX_COST)
    }
}

/// A group commit that is being collected: pieces of many batches, read marks and removals.
pub struct GroupCommit<'a> {
    /// The changes that the commit makes.
    pub draft: Draft<'a>,
    /// The answers that are sent once the commit has ended.
    pub pending: Vec<PendingAnswer>,
    /// Whether the commit has writes of clients, which have to be synced. Read marks alone need not be: the operating
    /// system has them, and the next commit that is synced brings them to the disk. The same is true of removals.
    pub has_writes: bool,
    allowed: AllowedJobs,
    /// The generation of the store.
    generation: u64,
    cost: usize,
    /// Whether a piece of an unfinished batch is in this commit.
    has_done_unfinished: bool,
}

impl<'a> GroupCommit<'a> {
    /// Creates an empty commit.
    pub fn new(draft: Draft<'a>, allowed: AllowedJobs, generation: u64) -> Self {
        GroupCommit {
            draft,
            pending: Vec::new(),
            has_writes: false,
            allowed,
            generation,
            cost: 0,
            has_done_unfinished: false,
        }
    }

    /// Does `first` and the jobs in the queue, until the commit is full, the queue is empty, or a job comes that can't
    /// be part of a commit.
    pub fn collect(
        &mut self,
        first: Option<Job>,
        queue: &mut Queue,
        reclaim_state: &mut ReclaimState,
    ) {
        let mut next = first;
        loop {
            let takes_more = self.takes_more();
            if next.is_none() && takes_more {
                next = queue.try_next();
            }
            match next.take() {
                Some(job) => self.add(job, queue, reclaim_state),
                None if self.do_unfinished(queue, takes_more) => {}
                None => return,
            }
        }
    }

    /// Adds the read marks that are noted, if the free space allows it, and returns them. They are added last, so that
    /// a commit takes along every mark that was noted before one of its jobs was submitted.
    pub fn add_marks(&mut self, recent: &Mutex<Recent>) -> Vec<(Uid, Version)> {
        if !self.allowed.includes_marks() {
            return Vec::new();
        }
        let marks = recent.lock().marks.all();
        for &(uid, read) in &marks {
            // An inbox that can't be read must not keep the marks of the others from being stored.
            if let Err(error) = self.draft.mark_read(uid, read) {
                tracing::error!(%error, uid = uid.0, "a read mark was not stored");
            }
        }
        marks
    }

    /// Returns whether the commit takes more jobs. While jobs are refused, it takes one at a time: refused jobs add no
    /// cost, so the loop might never end.
    fn takes_more(&self) -> bool {
        self.allowed == AllowedJobs::All
            && self.draft.bytes() < MAX_BYTES
            && self.cost < MAX_COST
            && self.pending.len() < QUEUE
    }

    /// Does a job, or refuses or defers it.
    fn add(&mut self, job: Job, queue: &mut Queue, reclaim_state: &mut ReclaimState) {
        if !self.allowed.includes(&job) {
            reclaim_state.has_refused |= matches!(job, Job::Trim { .. });
            return job.refuse(&super::Outcome::Full);
        }
        match job {
            job @ (Job::Close { .. } | Job::Replace { .. }) => queue.defer(job),
            Job::Reclaim => reclaim_state.is_wanted = true,
            Job::Commit { batch, answer } => {
                self.has_writes = true;
                self.do_piece_of(BatchProgress::new(batch, answer), queue, false);
            }
            // The marks are added when all jobs are collected.
            Job::StoreMarks => {}
            Job::Trim {
                generation, answer, ..
            }
            | Job::Expire {
                generation, answer, ..
            } if generation != self.generation => {
                self.pending.push(PendingAnswer::Removed(answer, 0));
            }
            Job::Trim {
                uid,
                through,
                now,
                answer,
                ..
            } => match self.draft.trim(uid, through, now) {
                Ok(removed) => self.pending.push(PendingAnswer::Removed(answer, removed)),
                // The receiver may be gone.
                Err(error) => drop(answer.send((Err(error.into()), None))),
            },
            Job::Expire { keys, answer, .. } => {
                let count = keys.len() as u64;
                keys.into_iter().for_each(|key| self.draft.expire(key));
                self.pending.push(PendingAnswer::Removed(answer, count));
            }
        }
    }

    /// Does a piece of the unfinished batch whose turn it is, and returns whether there was one.
    ///
    /// A full commit takes one such piece too, so that small writes don't hold these batches up. One exception: a write
    /// that costs more than [`MAX_COST`] is put off once, if the commit has something else to store.
    fn do_unfinished(&mut self, queue: &mut Queue, takes_more: bool) -> bool {
        let may_put_off =
            !queue.has_put_off && !self.has_done_unfinished && !self.pending.is_empty();
        queue.has_put_off = may_put_off && queue.is_next_large(&mut self.draft);
        if queue.has_put_off || (!takes_more && self.has_done_unfinished) {
            return false;
        }
        let Some(batch) = queue.unfinished.pop_front() else {
            return false;
        };
        (self.has_writes, self.has_done_unfinished) = (true, true);
        self.do_piece_of(batch, queue, true);
        true
    }

    /// Does a piece of a batch. If something of it is left, the batch goes to the end of the queue.
    fn do_piece_of(&mut self, mut batch: BatchProgress, queue: &mut Queue, is_its_turn: bool) {
        self.cost += batch.do_piece(&mut self.draft, is_its_turn);
        match batch.into_answer_if_done() {
            Ok(done) => self.pending.push(done),
            Err(batch) => queue.unfinished.push_back(batch),
        }
    }
}

//! The writer's state of giving space back to the disk: the compaction that runs, and when the next one may begin.
//!
//! Serves `reclaim`, which acts on it, and the other modules of the writer, which give it reasons to. At most one
//! compaction of the store runs at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::job::Job;

/// With less free space than this, in bytes, a poisoned engine is not opened again.
const MIN_FREE_TO_REOPEN: u64 = 1 << 20;

/// How long after a failed compaction no other one is begun.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// The pause before a poisoned engine is opened again below the floor. It doubles with each try in a row.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause between two tries to open a poisoned engine again.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// The state of giving space back.
#[derive(Debug)]
pub struct ReclaimState {
    /// Where a compaction that has ended submits [`Job::Reclaim`].
    jobs: mpsc::WeakSender<Job>,
    /// Whether the writer has a reason to look how much can be given back.
    pub is_wanted: bool,
    /// Whether a removal was refused, and should be tried again once the engine is open.
    pub has_refused: bool,
    /// Whether the next compaction begins however little space it gives back.
    pub is_forced: bool,
    /// Whether the tables of a compaction that failed are still in the folder.
    pub has_remains: bool,
    /// The compaction that runs, or that has ended and was not finished by the writer.
    pub compaction: Option<Compaction>,
    not_before: Option<Instant>,
    /// When a poisoned engine was last opened again below the floor, and the pause after that; none if it was not since
    /// there was enough free space.
    retry: Option<(Instant, Duration)>,
}

/// A compaction in a thread of its own.
#[derive(Debug)]
pub struct Compaction {
    pub thread: JoinHandle<Result<(), fjall::Error>>,
    /// Tells the compaction to end.
    pub stop: Arc<AtomicBool>,
    /// Set when the compaction has ended, shortly before its thread ends.
    pub is_over: Arc<AtomicBool>,
    /// Whether compactions of the engine's own threads were stopped for this one.
    pub is_alone: bool,
    /// Whether they were stopped after this one had begun.
    pub is_hurried: bool,
    /// Bytes that the engine's files took before.
    pub before: u64,
}

impl Compaction {
    /// Returns whether the compaction has ended.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire) || self.thread.is_finished()
    }
}

impl ReclaimState {
    /// Creates the state of a writer whose queue `jobs` submits to.
    pub fn new(jobs: mpsc::WeakSender<Job>) -> Self {
        ReclaimState {
            jobs,
            is_wanted: false,
            has_refused: false,
            is_forced: false,
            has_remains: false,
            compaction: None,
            not_before: None,
            retry: None,
        }
    }

    /// Returns a handle that submits to the writer's queue, and does not keep the queue open.
    pub fn jobs(&self) -> mpsc::WeakSender<Job> {
        self.jobs.clone()
    }

    /// Returns whether the engine may be poisoned because its own compactions were stopped.
    pub fn has_stopped_engine(&self) -> bool {
        self.compaction.as_ref().is_some_and(|own| own.is_alone)
    }

    /// Returns whether a compaction runs, or has ended and was not finished by the writer.
    pub fn is_compacting(&self) -> bool {
        self.compaction.is_some()
    }

    /// Returns whether the writer has to look now how much can be given back.
    pub fn is_due(&self) -> bool {
        self.is_wanted || self.compaction.as_ref().is_some_and(Compaction::is_over)
    }

    /// Tells a compaction to end, because commits wait for it.
    pub fn stop(&self) {
        if let Some(compaction) = &self.compaction {
            compaction.stop.store(true, Ordering::Release);
        }
    }

    /// Notes that a compaction has failed. One that was hurried may have failed because of that, and is begun again at
    /// once.
    pub fn note_failure(&mut self, is_hurried: bool) {
        self.has_remains = true;
        if !is_hurried {
            self.not_before = Some(Instant::now() + AFTER_FAILURE);
        }
    }

    /// Returns whether a compaction has failed so recently that no other one may begin yet.
    pub fn is_too_soon(&self) -> bool {
        self.not_before.is_some_and(|then| Instant::now() < then)
    }

    /// Returns whether a poisoned engine is opened again although there is little space, and counts it as a try. Until
    /// it is opened again, the files of its unfinished compactions take space.
    pub fn may_retry(&mut self, free: u64) -> bool {
        if self.compaction.is_some() || free < MIN_FREE_TO_REOPEN {
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

    /// Ends all pauses, because there is enough free space again.
    pub fn end_pauses(&mut self) {
        self.retry = None;
        self.not_before = None;
    }
}

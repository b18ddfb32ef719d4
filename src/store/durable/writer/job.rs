//! The jobs that the writer can be asked to do.
//!
//! Serves the store, which submits jobs, and the writer. A job that is answered with a result is answered once: when
//! its commit has ended, or when it is refused.

use tokio::sync::oneshot;

use super::super::answers::{AnswerSender, Outcome, PendingAnswer, refused};
use super::super::kv::Key;
use super::super::restore::Contents;
use crate::id::{Uid, Version};
use crate::store::{Committed, ReplaceError, StoreError, Write};

/// The capacity of the writer's queue, in jobs. A task that submits to a full queue waits; a session reads nothing more
/// from its client meanwhile.
pub const QUEUE: usize = 1_024;

/// Takes the answer to a close.
pub type CloseAnswerSender = oneshot::Sender<Result<(), StoreError>>;

/// A job for the writer.
#[derive(Debug)]
pub enum Job {
    /// Does these writes.
    Commit {
        /// The writes, in order.
        batch: Vec<Write>,
        /// Takes the results.
        answer: AnswerSender<Result<Committed, StoreError>>,
    },
    /// Stores the [read marks](super::super::marks) that are noted. Every commit does that, so this only makes sure
    /// that there is one.
    StoreMarks,
    /// Removes old entries of an inbox.
    Trim {
        /// The generation of the store that `through` was found in. In another one, nothing is removed.
        generation: u64,
        /// The owner of the inbox.
        uid: Uid,
        /// The last version to remove.
        through: Version,
        /// The time of the cleaning: Unix time in milliseconds.
        now: i64,
        /// Takes the number of removed entries.
        answer: AnswerSender<Result<u64, StoreError>>,
    },
    /// Forgets message ids that have expired.
    Expire {
        /// The generation of the store that `keys` were found in. In another one the ids may be in use, and are kept.
        generation: u64,
        /// The keys of the [expiring](super::super::record::EXPIRING_ID_PREFIX) ids.
        keys: Vec<Key>,
        /// Takes the number of forgotten ids.
        answer: AnswerSender<Result<u64, StoreError>>,
    },
    /// Replaces everything in the store.
    Replace {
        /// The new contents.
        contents: Contents,
        /// Takes the result.
        answer: AnswerSender<Result<(), ReplaceError>>,
    },
    /// Checks how much space can be given back to the disk.
    Reclaim,
    /// Syncs everything and closes the folder.
    Close {
        /// Takes the result.
        answer: CloseAnswerSender,
    },
}

impl Job {
    /// Answers without doing the job. Jobs that nobody waits for, and those that are never part of a commit, get no
    /// answer.
    pub fn refuse(self, outcome: &Outcome) {
        let pending = match self {
            Job::Commit { batch, answer } => PendingAnswer::Batch {
                sender: answer,
                committed: refused(batch.len()),
                stored: 0,
            },
            Job::Trim { answer, .. } | Job::Expire { answer, .. } => {
                PendingAnswer::Removed(answer, 0)
            }
            Job::StoreMarks | Job::Replace { .. } | Job::Reclaim | Job::Close { .. } => return,
        };
        pending.send(outcome, None);
    }
}

//! The answers to the requests of a commit, and how they reach the tasks that have asked.
//!
//! Serves the writer. No request is answered with success before its commit has ended; a refused one is answered at
//! once. Every request is answered, even if some of the tasks that have asked are gone.

use tokio::sync::oneshot;

use super::marks::ReadMarks;
use crate::id::Uid;
use crate::store::{Committed, InboxState, Rejected, StoreError};

/// Sends the answer to a request. The first answer of a commit takes all others of the commit along: see
/// [`CommitAnswers`].
pub type AnswerSender<T> = oneshot::Sender<(T, Option<CommitAnswers>)>;

/// How a commit has ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The commit is stored.
    Stored,
    /// There was no free space for the commit.
    Full,
    /// The store has failed.
    Failed(StoreError),
}

/// An answer that is given when its commit has ended. It is dropped if the task that has asked is gone.
#[derive(Debug)]
pub enum PendingAnswer {
    /// The answer to a batch.
    Batch {
        /// Sends the answer to the task that has asked.
        sender: AnswerSender<Result<Committed, StoreError>>,
        /// The answer if this commit is stored.
        committed: Committed,
        /// How many of the results earlier commits have stored. With [`Outcome::Full`] they hold; with [`Outcome::Failed`] the
        /// task gets only the error, although they are stored.
        stored: usize,
    },
    /// The answer to a removal, with the number of removed items.
    Removed(AnswerSender<Result<u64, StoreError>>, u64),
}

impl PendingAnswer {
    /// Removes from the answer to a batch what its last piece has added, because the piece was not stored: each inbox
    /// gets the total that earlier pieces have left. `inbox_state` returns that total; an inbox for which it returns
    /// none is left out. Otherwise a notify would promise versions that do not exist.
    pub fn forget_last_piece(&mut self, inbox_state: impl Fn(Uid) -> Option<InboxState>) {
        if let PendingAnswer::Batch {
            committed, stored, ..
        } = self
        {
            let grown_inboxes = std::mem::take(&mut committed.grown_inboxes);
            if *stored > 0 {
                let grown_inboxes = grown_inboxes
                    .into_iter()
                    .filter_map(|inbox| inbox_state(inbox.uid));
                committed.grown_inboxes = grown_inboxes.collect();
            }
        }
    }

    /// Moves the read marks in the answer to a batch to where the users have read while its commit was made. The marks
    /// were shown to readers already, and must not go back.
    pub fn show_marks(&mut self, marks: &ReadMarks) {
        if let PendingAnswer::Batch { committed, .. } = self {
            for inbox in &mut committed.grown_inboxes {
                inbox.read = inbox.read.max(marks.get(inbox.uid).min(inbox.total));
            }
        }
    }

    /// Sends this answer, and hands on the other answers of the commit.
    pub fn send(self, outcome: &Outcome, others: Option<CommitAnswers>) {
        match self {
            PendingAnswer::Batch {
                sender,
                mut committed,
                stored,
            } => {
                let committed = match outcome {
                    Outcome::Stored => Ok(committed),
                    Outcome::Full => {
                        let refused = committed.results.iter_mut().skip(stored);
                        refused.for_each(|result| *result = Err(Rejected::DiskFull));
                        Ok(committed)
                    }
                    Outcome::Failed(failed) => Err(failed.clone()),
                };
                drop(sender.send((committed, others)));
            }
            PendingAnswer::Removed(sender, removed) => {
                let removed = match outcome {
                    Outcome::Stored => Ok(removed),
                    Outcome::Full => Ok(0),
                    Outcome::Failed(failed) => Err(failed.clone()),
                };
                drop(sender.send((removed, others)));
            }
        }
    }
}

/// The answers of a commit, which are given when this is dropped.
///
/// An answer that the writer's thread gives costs a system call that wakes the runtime. So the writer gives only one,
/// and sends the others along with it: the task that receives it gives them, or whoever drops it if that task is gone.
#[derive(Debug)]
pub struct CommitAnswers {
    pending: Vec<PendingAnswer>,
    outcome: Outcome,
}

impl CommitAnswers {
    /// Creates the answers of a commit that has ended with `outcome`.
    pub fn new(pending: Vec<PendingAnswer>, outcome: Outcome) -> Self {
        CommitAnswers { pending, outcome }
    }

    /// Gives one answer, and sends the others along with it.
    pub fn hand_over(mut self) {
        if let Some(one) = self.pending.pop() {
            let outcome = self.outcome.clone();
            one.send(&outcome, Some(self));
        }
    }
}

impl Drop for CommitAnswers {
    fn drop(&mut self) {
        for answer in self.pending.drain(..) {
            answer.send(&self.outcome, None);
        }
    }
}

/// Returns the results of a batch that was refused because there is no space.
pub fn refused(writes: usize) -> Committed {
    Committed {
        results: vec![Err(Rejected::DiskFull); writes],
        grown_inboxes: Vec::new(),
    }
}

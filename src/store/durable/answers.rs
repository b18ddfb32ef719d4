//! The answers to the requests of a commit, and how they reach the tasks that have asked. Serves the writer.

use tokio::sync::oneshot;

use crate::store::{Committed, Rejected, StoreError};

/// Sends the answer to a request. The first answer of a commit takes all others of the commit along: see
/// [`CommitAnswers`].
pub type Answer<T> = oneshot::Sender<(T, Option<CommitAnswers>)>;

/// How a commit has ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The commit is stored.
    Stored,
    /// There was no room for the commit.
    Full,
    /// The store has failed.
    Failed(StoreError),
}

/// An answer that is given when its commit has ended. It is dropped if the task that has asked is gone.
#[derive(Debug)]
pub enum PendingAnswer {
    /// The answer to a batch, with the number of its results that earlier commits have stored.
    Commit(Answer<Result<Committed, StoreError>>, Committed, usize),
    /// The answer to the move of a read mark.
    Read(Answer<()>),
    /// The answer to a removal, with the number of removed items.
    Removed(Answer<Result<u64, StoreError>>, u64),
}

impl PendingAnswer {
    /// CommitAnswers, and hands on the other answers of the commit.
    pub fn answer(self, outcome: &Outcome, others: Option<CommitAnswers>) {
        match self {
            PendingAnswer::Commit(answer, mut committed, stored) => {
                let committed = match outcome {
                    Outcome::Stored => Ok(committed),
                    Outcome::Full => {
                        let open = committed.results.iter_mut().skip(stored);
                        open.for_each(|result| *result = Err(Rejected::DiskFull));
                        if stored == 0 {
                            committed.grown_inboxes.clear();
                        }
                        Ok(committed)
                    }
                    Outcome::Failed(failed) => Err(failed.clone()),
                };
                drop(answer.send((committed, others)));
            }
            PendingAnswer::Read(answer) => drop(answer.send(((), others))),
            PendingAnswer::Removed(answer, removed) => {
                let removed = match outcome {
                    Outcome::Stored => Ok(removed),
                    Outcome::Full => Ok(0),
                    Outcome::Failed(failed) => Err(failed.clone()),
                };
                drop(answer.send((removed, others)));
            }
        }
    }
}

/// The answers of a commit, which are given when this is dropped.
///
/// To give an answer from the writer's thread costs a system call that wakes the runtime. So the writer gives only one,
/// and sends the others along with it: they are given by the task that receives it, or by whoever drops it if that task
/// is gone.
#[derive(Debug)]
pub struct CommitAnswers {
    open: Vec<PendingAnswer>,
    outcome: Outcome,
}

impl CommitAnswers {
    /// Creates the answers of a commit that has ended with `outcome`.
    pub fn new(open: Vec<PendingAnswer>, outcome: Outcome) -> Self {
        CommitAnswers { open, outcome }
    }

    /// Gives one answer, and sends the others along with it.
    pub fn hand_over(mut self) {
        if let Some(one) = self.open.pop() {
            let outcome = self.outcome.clone();
            one.answer(&outcome, Some(self));
        }
    }
}

impl Drop for CommitAnswers {
    fn drop(&mut self) {
        for open in self.open.drain(..) {
            open.answer(&self.outcome, None);
        }
    }
}

/// Returns the results of a batch that was refused because there is no room.
pub fn refused(writes: usize) -> Committed {
    Committed {
        results: vec![Err(Rejected::DiskFull); writes],
        grown_inboxes: Vec::new(),
    }
}

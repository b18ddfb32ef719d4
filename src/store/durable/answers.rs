//! The answers of a commit, and how they come to those who asked.

use tokio::sync::oneshot;

use crate::store::{Committed, Rejected, StoreError};

/// Where an answer goes, and with one of a commit all others.
pub type Answer<T> = oneshot::Sender<(T, Option<Answers>)>;

/// How a commit ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is stored.
    Stored,
    /// There was no room for it.
    Full,
    /// The store has failed.
    Failed(StoreError),
}

/// Answers that are given once the commit is stored. Whoever asked may have gone; then nobody is told.
#[derive(Debug)]
pub enum Open {
    /// To [`Job::Commit`](super::writer::Job::Commit); how many of its results stand already, by earlier commits.
    Commit(Answer<Result<Committed, StoreError>>, Committed, usize),
    /// To a read mark that was to be moved.
    Read(Answer<()>),
    /// To what removes: how many.
    Removed(Answer<Result<u64, StoreError>>, u64),
}

impl Open {
    /// Answers, and hands on the other answers of the commit.
    pub fn answer(self, outcome: &Outcome, others: Option<Answers>) {
        match self {
            Open::Commit(answer, mut committed, stored) => {
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
            Open::Read(answer) => drop(answer.send(((), others))),
            Open::Removed(answer, removed) => {
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

/// The answers of a commit; to drop them gives them.
///
/// From the writer's thread each would cost a system call, to wake the runtime. So the writer answers one, and hands
/// it the others: they are given by its task, or where that has gone, by whatever drops what it did not receive.
#[derive(Debug)]
pub struct Answers {
    open: Vec<Open>,
    outcome: Outcome,
}

impl Answers {
    /// Those of a commit that has ended so.
    pub fn new(open: Vec<Open>, outcome: Outcome) -> Self {
        Answers { open, outcome }
    }

    /// Answers one, and hands it the others.
    pub fn hand_over(mut self) {
        if let Some(one) = self.open.pop() {
            let outcome = self.outcome.clone();
            one.answer(&outcome, Some(self));
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for open in self.open.drain(..) {
            open.answer(&self.outcome, None);
        }
    }
}

/// A batch that was refused for want of room.
pub fn refused(writes: usize) -> Committed {
    Committed {
        results: vec![Err(Rejected::DiskFull); writes],
        grown_inboxes: Vec::new(),
    }
}

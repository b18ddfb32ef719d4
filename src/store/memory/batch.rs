//! The progress of a batch of writes, which are done in pieces between which others get the store's lock. Serves
//! `MemoryStore::commit`.

use std::vec;

use super::state::{Begun, LongWrite, State, WORK_AT_ONCE};
use crate::store::{Committed, InboxState, Rejected, StoreError, Write, WriteOutcome};

/// A batch that is being committed.
pub(super) struct Batch {
    writes: vec::IntoIter<Write>,
    /// The write that is next, or of which a part is done.
    current: Option<Current>,
    /// The results of the writes that are done.
    results: Vec<Result<WriteOutcome, Rejected>>,
    /// The inboxes that the batch has grown.
    grown: Vec<InboxState>,
    /// The generation of the contents in which the batch began, and the number of its commit.
    begun: Option<(u64, u64)>,
}

enum Current {
    Next(Write),
    Begun(LongWrite),
}

/// What a batch needs to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// The others have to get the lock before the next piece.
    Yield,
    /// The next write is long, and the batch has no turn for long writes.
    NeedsTurn,
}

impl Batch {
    /// Creates a batch of which nothing is done.
    pub fn new(writes: Vec<Write>) -> Self {
        Batch {
            results: Vec::with_capacity(writes.len()),
            writes: writes.into_iter(),
            current: None,
            grown: Vec::new(),
            begun: None,
        }
    }

    /// Does the next piece of the batch: as many writes, or as much of a long one, as are done at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] when the contents were replaced since the batch began. What it had stored is gone, and the
    /// rest must not be stored without it.
    pub fn advance(&mut self, state: &mut State, has_turn: bool) -> Result<Progress, StoreError> {
        // One number for the whole batch, so that an inbox which grows several times is reported once, unless another
        // batch has grown it in between.
        let (generation, commit) = *self
            .begun
            .get_or_insert((state.generation, state.commits + 1));
        if generation != state.generation {
            return Err(StoreError::Replaced);
        }
        state.commit = commit;
        state.commits = state.commits.max(commit);
        let end = state.work + WORK_AT_ONCE;
        while let Some(current) = self.take_current() {
            if state.work >= end {
                self.current = Some(current);
                return Ok(Progress::Yield);
            }
            let steps = end - state.work;
            match current {
                Current::Next(write) if state.is_long(&write) && !has_turn => {
                    self.current = Some(Current::Next(write));
                    return Ok(Progress::NeedsTurn);
                }
                Current::Next(write) if state.is_long(&write) => match state.begin(write) {
                    Ok(Begun::Long(long)) => self.current = Some(Current::Begun(long)),
                    Ok(Begun::Done(outcome)) => self.results.push(Ok(outcome)),
                    Err(rejected) => self.results.push(Err(rejected)),
                },
                Current::Next(write) => self.results.push(state.apply(write, &mut self.grown)),
                Current::Begun(mut long) => {
                    match state.continue_long(&mut long, steps, &mut self.grown) {
                        Some(result) => self.results.push(result),
                        None => self.current = Some(Current::Begun(long)),
                    }
                }
            }
        }
        Ok(Progress::Done)
    }

    /// Returns what became of the batch. It must be done.
    pub fn finish(self) -> Committed {
        Committed {
            results: self.results,
            grown_inboxes: self.grown,
        }
    }

    fn take_current(&mut self) -> Option<Current> {
        let current = self.current.take();
        current.or_else(|| self.writes.next().map(Current::Next))
    }
}

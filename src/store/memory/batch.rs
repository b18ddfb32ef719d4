//! The progress of a batch of writes, which are done in pieces between which others get the store's lock. Serves
//! `MemoryStore::commit`.

use std::vec;

use super::state::{State, WORK_AT_ONCE};
use super::writes::{FirstStep, SteppedWrite};
use crate::store::{Committed, InboxState, Rejected, StoreError, Write, WriteOutcome};

/// A batch that is being committed.
pub(super) struct Batch {
    /// The writes that have not begun.
    writes: vec::IntoIter<Write>,
    /// The write of which a part is done.
    begun_write: Option<SteppedWrite>,
    /// The results of the writes that are done.
    results: Vec<Result<WriteOutcome, Rejected>>,
    /// The inboxes that the batch has grown.
    grown_inboxes: Vec<InboxState>,
    /// The commit that the batch makes; none before its first piece.
    commit: Option<CommitId>,
}

/// Identifies a commit.
#[derive(Clone, Copy)]
struct CommitId {
    /// The generation of the contents in which the commit began.
    generation: u64,
    /// The number of the commit among all of the store, whatever their generation.
    number: u64,
}

/// What a batch needs to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// The others have to get the lock before the next piece.
    Yield,
    /// The next write is long, and the batch may do none: its caller must hold `MemoryStore::long_writes`.
    NeedsLongWrites,
}

impl Batch {
    /// Creates a batch of which nothing is done.
    pub fn new(writes: Vec<Write>) -> Self {
        Batch {
            results: Vec::with_capacity(writes.len()),
            writes: writes.into_iter(),
            begun_write: None,
            grown_inboxes: Vec::new(),
            commit: None,
        }
    }

    /// Does the next piece of the batch: as many writes, or as much of a long one, as are done at once. `may_do_long` says
    /// whether the caller holds `MemoryStore::long_writes`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] when the contents were replaced since the batch began. What it had stored is gone, and the
    /// rest must not be stored without it.
    pub fn advance(
        &mut self,
        state: &mut State,
        may_do_long: bool,
    ) -> Result<Progress, StoreError> {
        // One commit for the whole batch, so that an inbox which grows several times is reported once, unless another
        // batch has grown it in between.
        let CommitId { generation, number } = *self.commit.get_or_insert(CommitId {
            generation: state.generation,
            number: state.last_commit_number + 1,
        });
        if generation != state.generation {
            return Err(StoreError::Replaced);
        }
        state.current_commit = number;
        state.last_commit_number = state.last_commit_number.max(number);
        let end = state.work + WORK_AT_ONCE;
        loop {
            if let Some(begun_write) = &mut self.begun_write {
                let steps = end.saturating_sub(state.work);
                let Some(result) =
                    state.continue_write(begun_write, steps, &mut self.grown_inboxes)
                else {
                    return Ok(Progress::Yield);
                };
                self.begun_write = None;
                self.results.push(result);
            }
            let Some(next) = self.writes.as_slice().first() else {
                return Ok(Progress::Done);
            };
            if state.work >= end {
                return Ok(Progress::Yield);
            }
            let is_long = state.is_long(next);
            if is_long && !may_do_long {
                return Ok(Progress::NeedsLongWrites);
            }
            let Some(next) = self.writes.next() else {
                return Ok(Progress::Done);
            };
            if is_long {
                match state.begin(next, &mut self.grown_inboxes) {
                    Ok(FirstStep::Begun(begun)) => self.begun_write = Some(begun),
                    Ok(FirstStep::Done(outcome)) => self.results.push(Ok(outcome)),
                    Err(rejected) => self.results.push(Err(rejected)),
                }
            } else {
                self.results
                    .push(state.apply(next, &mut self.grown_inboxes));
            }
        }
    }

    /// Returns what became of the batch. It must be done.
    pub fn finish(self) -> Committed {
        Committed {
            results: self.results,
            grown_inboxes: self.grown_inboxes,
        }
    }
}

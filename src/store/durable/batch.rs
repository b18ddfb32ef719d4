//! A batch that is being stored: in one commit if it costs little, or else piece by piece in several commits, so that
//! small batches need not wait for it.
//!
//! Serves the writer. The writes of a batch are done in their order, and each is done once.

use std::collections::BTreeMap;
use std::vec;

use super::answers::{AnswerSender, PendingAnswer};
use super::draft::Draft;
use crate::id::Uid;
use crate::store::{Committed, InboxState, Rejected, StoreError, Write, WriteOutcome};

/// The most that a piece of a batch may cost, as far as its cost is known before it is done. Then the batch lets the
/// others go first. A single write that costs more is a piece of its own, which is done only when it is the batch's
/// turn.
pub const MAX_PIECE_COST: usize = 64;

/// How many bytes of text cost as much as an entry of an inbox, approximately.
pub const BYTES_PER_ENTRY: usize = 512;

/// The approximate cost of finding the message that an ack accepts, in entries of an inbox. A message to a group can be
/// one of many with the same id; the cost of the others is known only when they were read.
const LOOK_UP: usize = 4;

/// A batch, and how far it is stored.
#[derive(Debug)]
pub struct BatchProgress {
    /// The writes that were not done yet.
    writes: vec::IntoIter<Write>,
    /// The results of the writes that were done.
    results: Vec<Result<WriteOutcome, Rejected>>,
    /// How many of the results earlier commits have stored.
    stored: usize,
    /// The inboxes that have grown, as the last piece that added to each has left it. They are noted piece by piece: a
    /// batch may have hundreds of thousands of inboxes, and to look all of them up at its end would hold up every
    /// commit that waits.
    grown_inboxes: BTreeMap<Uid, InboxState>,
    /// Sends the answer to the task that has asked.
    sender: AnswerSender<Result<Committed, StoreError>>,
}

impl BatchProgress {
    /// Creates a batch of which nothing is done.
    pub fn new(batch: Vec<Write>, sender: AnswerSender<Result<Committed, StoreError>>) -> Self {
        BatchProgress {
            results: Vec::with_capacity(batch.len()),
            writes: batch.into_iter(),
            stored: 0,
            grown_inboxes: BTreeMap::new(),
            sender,
        }
    }

    /// Does a piece of the batch in a draft, and returns its cost: an entry of an inbox costs 1. If it is the batch's
    /// turn, at least one write is done, whatever it costs. Otherwise all writes that are done cost no more than a
    /// piece.
    pub fn do_piece(&mut self, draft: &mut Draft<'_>, is_its_turn: bool) -> usize {
        let (mut spent, mut grown_uids) = (0, Vec::new());
        while let Some(write) = self.writes.as_slice().first() {
            let cost = cost(draft, write);
            let must = is_its_turn && spent == 0;
            if spent + cost > MAX_PIECE_COST && !must {
                break;
            }
            spent += cost;
            let Some(write) = self.writes.next() else {
                break;
            };
            let done = draft.apply(write, &mut grown_uids);
            spent += draft.take_lookup_cost();
            self.results.push(done.unwrap_or_else(|error| {
                tracing::error!(%error, "a write was refused");
                Err(Rejected::Unreadable)
            }));
        }
        for uid in grown_uids {
            if let Ok(state) = draft.inbox_state(uid) {
                self.grown_inboxes.insert(uid, state);
            }
        }
        spent
    }

    /// Returns the cost of the batch's next write, as [`do_piece`](Self::do_piece) counts it; 0 if none is left.
    pub fn next_cost(&self, draft: &mut Draft<'_>) -> usize {
        let next = self.writes.as_slice().first();
        next.map_or(0, |write| cost(draft, write))
    }

    /// Returns the answer, if all of the batch is done.
    ///
    /// # Errors
    ///
    /// The batch itself, if something is left to do.
    pub fn into_answer_if_done(self) -> Result<PendingAnswer, BatchProgress> {
        if self.writes.len() > 0 {
            return Err(self);
        }
        let committed = Committed {
            results: self.results,
            grown_inboxes: self.grown_inboxes.into_values().collect(),
        };
        Ok(PendingAnswer::Batch {
            sender: self.sender,
            committed,
            stored: self.stored,
        })
    }

    /// Notes that a commit has stored all writes of the batch that were done.
    pub fn note_stored(&mut self) {
        self.stored = self.results.len();
    }

    /// Ends a batch that is not continued, and returns its answer: the results of earlier commits hold unless the store has
    /// failed, and all other writes are refused. The caller corrects the totals of the inboxes with
    /// [`PendingAnswer::forget_last_piece`].
    pub fn abort(mut self) -> PendingAnswer {
        self.results
            .extend(self.writes.map(|_| Err(Rejected::DiskFull)));
        PendingAnswer::Batch {
            sender: self.sender,
            committed: Committed {
                results: self.results,
                grown_inboxes: self.grown_inboxes.into_values().collect(),
            },
            stored: self.stored,
        }
    }
}

/// Returns the cost of a write: an entry of an inbox costs 1.
fn cost(draft: &mut Draft<'_>, write: &Write) -> usize {
    match write {
        Write::P2p { message, .. } => 1 + message.text().len() / BYTES_PER_ENTRY,
        Write::Ack { .. } => LOOK_UP,
        Write::Group { message } => {
            draft.receiver_count(message.group().unwrap_or_default())
                + 1
                + message.text().len() / BYTES_PER_ENTRY
        }
        Write::CreateGroup { members, .. } => 1 + members.len(),
        // Joining copies the group's list of members.
        Write::Join { uids, group, .. } => 1 + uids.len() + draft.receiver_count(*group) / LOOK_UP,
        Write::Quit { group, .. } => 1 + draft.receiver_count(*group) / LOOK_UP,
        Write::Register { .. } | Write::MarkRead { .. } | Write::IssuedIds { .. } => 1,
    }
}

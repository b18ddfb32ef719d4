//! A batch on its way through the writer: in one commit where it costs little, else in a piece of each of several.

use std::collections::BTreeMap;
use std::vec;

use super::answers::{Answer, Open};
use super::draft::Draft;
use crate::id::Uid;
use crate::store::{Committed, Level, Rejected, StoreError, Write, WriteOutcome};

/// A batch goes on until it has cost so much, and is then behind the others. What costs more than this by itself is never
/// done in front of them.
pub const PIECE: usize = 64;

/// So many bytes of text cost as much as an entry of an inbox, roughly.
const BYTES: usize = 512;

/// What it costs to look for a message that is accepted, in entries of an inbox, roughly. A message to a group can be one
/// of many with its id: what these cost more is known only after they were looked at.
const LOOK: usize = 4;

/// A batch, and how far it has come.
#[derive(Debug)]
pub struct Begun {
    writes: vec::IntoIter<Write>,
    results: Vec<Result<WriteOutcome, Rejected>>,
    /// How many of the results earlier commits have stored.
    stored: usize,
    /// How far each inbox reached that has grown, when it grew last. Noted piece by piece: a batch may have hundreds of
    /// thousands of inboxes, and to look them all up at its end would hold up every commit that waits.
    grown: BTreeMap<Uid, Level>,
    answer: Answer<Result<Committed, StoreError>>,
}

impl Begun {
    /// One of which nothing is done.
    pub fn new(batch: Vec<Write>, answer: Answer<Result<Committed, StoreError>>) -> Self {
        Begun {
            results: Vec::with_capacity(batch.len()),
            writes: batch.into_iter(),
            stored: 0,
            grown: BTreeMap::new(),
            answer,
        }
    }

    /// Does a piece of it, and says what that has cost: an entry of an inbox costs 1. In its turn it does one write at
    /// least; before, only what costs little.
    pub fn go_on(&mut self, draft: &mut Draft<'_>, is_its_turn: bool) -> usize {
        let (mut spent, mut grown) = (0, Vec::new());
        while let Some(write) = self.writes.as_slice().first() {
            let cost = cost(draft, write);
            let must = is_its_turn && spent == 0;
            if spent + cost > PIECE && !must {
                break;
            }
            spent += cost;
            let Some(write) = self.writes.next() else {
                break;
            };
            let done = draft.apply(write, &mut grown);
            spent += draft.take_looked();
            self.results.push(done.unwrap_or_else(|error| {
                tracing::error!(%error, "a write was refused");
                Err(Rejected::Unreadable)
            }));
        }
        for uid in grown {
            if let Ok(level) = draft.level(uid) {
                self.grown.insert(uid, level);
            }
        }
        spent
    }

    /// Returns what its next write costs, as [`go_on`](Self::go_on) counts; 0 if none is left.
    pub fn next_cost(&self, draft: &mut Draft<'_>) -> usize {
        let next = self.writes.as_slice().first();
        next.map_or(0, |write| cost(draft, write))
    }

    /// Its answer, if all of it is done.
    ///
    /// # Errors
    ///
    /// The batch, if something is left.
    pub fn end(self) -> Result<Open, Begun> {
        if self.writes.len() > 0 {
            return Err(self);
        }
        let committed = Committed {
            results: self.results,
            grown_inboxes: self.grown.into_values().collect(),
        };
        Ok(Open::Commit(self.answer, committed, self.stored))
    }

    /// A commit has stored what is done of it.
    pub fn stored(&mut self) {
        self.stored = self.results.len();
    }

    /// Its answer, where the rest is not done any more: of the results, those count that are stored. `level` says how far an
    /// inbox goes by then.
    pub fn give_up(mut self, level: impl Fn(Uid) -> Option<Level>) -> Open {
        self.results
            .extend(self.writes.map(|_| Err(Rejected::DiskFull)));
        let committed = Committed {
            results: self.results,
            grown_inboxes: self.grown.into_keys().filter_map(level).collect(),
        };
        Open::Commit(self.answer, committed, self.stored)
    }
}

/// What a write costs.
fn cost(draft: &mut Draft<'_>, write: &Write) -> usize {
    match write {
        Write::P2p { message, .. } => 1 + message.text().len() / BYTES,
        Write::Ack { .. } => LOOK,
        Write::Group { message } => {
            draft.receivers(message.group().unwrap_or_default()) + 1 + message.text().len() / BYTES
        }
        Write::CreateGroup { members, .. } => 1 + members.len(),
        // The list of the members is made anew.
        Write::Join { uids, group, .. } => 1 + uids.len() + draft.receivers(*group) / LOOK,
        Write::Quit { group, .. } => 1 + draft.receivers(*group) / LOOK,
        Write::Register { .. } | Write::Read { .. } | Write::Ids { .. } => 1,
    }
}

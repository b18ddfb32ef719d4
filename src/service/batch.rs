//! Batches: messages that are handed to the store together.
//!
//! Serves the fronts. How many batches an access server makes of one read of a connection: see "One read, one commit" in
//! docs/architecture.md.

use std::sync::Arc;

use super::commit::Stored;
use super::{Caller, PendingNotifies, SendError, Services, SyncRequest, Target};
use crate::clock::Clock;
use crate::id::{Uid, Version};
use crate::lab::{Action, Site};
use crate::proto::Cmd;
use crate::store::{Kind, Message, Rejected, StoreError, Write, WriteOutcome};

/// A message or an acceptance that was checked and is to be stored.
#[derive(Debug)]
pub struct PendingWrite {
    /// The user or the group that it is for.
    pub target: Target,
    /// What is stored, of any kind.
    pub message: Arc<Message>,
    /// Whether the server gave the message its id, because the request brought none. If the message is not stored, the
    /// client is not told this id.
    pub has_generated_id: bool,
}

/// Writes that are handed to the store together, in the order of the requests that have brought them.
#[derive(Debug, Default)]
pub struct WriteBatch {
    writes: Vec<PendingWrite>,
    /// A read mark that the request which follows the batch is about to set.
    read_mark: Option<Write>,
    /// The time in the newest id, if one was given to a message of this batch.
    issued_ids: Option<Write>,
    /// When the first message of the batch was taken in, in Unix milliseconds. It is the send time of all of them: they
    /// came in the same read.
    sent_at: Option<i64>,
}

/// What became of the writes of a batch.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    writes: Vec<PendingWrite>,
    /// The store's results; the first ones are those of the writes, in their order. Empty if the commit has failed.
    results: Vec<Result<WriteOutcome, Rejected>>,
    /// Why the commit as a whole has failed, if it has.
    failure: Option<SendError>,
    /// The notifies to the receivers. They are sent when the value is dropped, which has to be after the acknowledgements
    /// were queued.
    pub notifies: Option<PendingNotifies>,
}

impl PendingWrite {
    /// Returns the command that brought it.
    pub fn cmd(&self) -> Cmd {
        match self.message.kind {
            Kind::P2p => Cmd::SendP2PMsg,
            Kind::Group => Cmd::SendGroupMsg,
            Kind::Ack => Cmd::AcceptP2PMsgAck,
        }
    }

    fn write(&self) -> Write {
        let message = Arc::clone(&self.message);
        match self.target {
            Target::Group(_) => Write::Group { message },
            Target::User(target) if message.kind == Kind::Ack => Write::Ack { target, message },
            Target::User(target) => Write::P2p { target, message },
        }
    }
}

impl WriteBatch {
    /// Returns the number of writes so far.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Returns whether there is nothing to be stored.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(super) fn push(&mut self, write: PendingWrite) {
        self.writes.push(write);
    }

    /// Adds a read mark, which is stored together with the writes, so that the sync which follows the batch need not do it.
    pub(super) fn mark_read(&mut self, uid: Uid, request: &SyncRequest) {
        let after = request.after;
        self.read_mark = (after > Version::START).then_some(Write::Read { uid, after });
    }

    /// Adds the time in the newest id, which is stored together with the messages that ids were given to.
    pub(super) fn set_issued_ids(&mut self, reached: i64) {
        self.issued_ids = Some(Write::IssuedIds { reached });
    }

    /// Returns the send time of the messages of this batch, in Unix milliseconds.
    pub(super) fn sent_at(&mut self, clock: &dyn Clock) -> i64 {
        *self.sent_at.get_or_insert_with(|| clock.unix_ms())
    }
}

impl BatchOutcome {
    fn new(writes: Vec<PendingWrite>, committed: Result<Stored, SendError>) -> Self {
        match committed {
            Ok(Stored { results, notifies }) => BatchOutcome {
                writes,
                results,
                failure: None,
                notifies,
            },
            Err(failure) => BatchOutcome {
                writes,
                failure: Some(failure),
                ..BatchOutcome::default()
            },
        }
    }

    /// Returns each write of the batch, in the order of the requests, with its result.
    pub fn results(&self) -> impl Iterator<Item = (&PendingWrite, Result<(), SendError>)> {
        let mut results = self.results.iter();
        self.writes.iter().map(move |write| {
            let result = match (results.next(), &self.failure) {
                (Some(Ok(_)), _) => Ok(()),
                (Some(Err(rejected)), _) => Err(SendError::Rejected(*rejected)),
                (None, Some(failure)) => Err(failure.clone()),
                (None, None) => Err(SendError::NotCommitted(StoreError::Unanswered)),
            };
            (write, result)
        })
    }
}

impl Services {
    /// Hands the writes of a batch to the store together. Each of them is stored, or refused for a reason of its own; if the
    /// store fails, all are refused. The batch is no transaction: see [`MessageStore::commit`](crate::store::MessageStore::commit).
    ///
    /// When this returns, what was stored is as safe as the store makes it. Receivers are notified when the
    /// [`notifies`](BatchOutcome::notifies) of the outcome are dropped, also where this future is dropped midway.
    pub async fn commit_batch(&self, caller: Caller<'_>, batch: WriteBatch) -> BatchOutcome {
        if batch.is_empty() {
            return BatchOutcome::default();
        }
        let WriteBatch {
            writes,
            read_mark,
            issued_ids,
            ..
        } = batch;
        let mut announced = if self.announces() {
            Some(Box::pin(self.announce(&writes)).await)
        } else {
            None
        };
        let caller = Caller {
            // Quirk `login_not_required`: the session is nobody's, and what it brought is somebody's.
            uid: caller.uid.or_else(|| Some(writes.first()?.message.source)),
            ..caller
        };
        let injected = self.inject_fault(Site::StoreWrite, caller, |_| true);
        let injected = match &mut announced {
            Some(announced) => Box::pin(announced.beside(injected)).await,
            None => injected.await,
        };
        let committed = match injected {
            Some(Action::Error(code)) => Err(SendError::Injected(code)),
            Some(Action::Drop) => Ok(self.lose(&writes)),
            _ => {
                let mut all = Vec::with_capacity(writes.len() + 2);
                all.extend(writes.iter().map(PendingWrite::write));
                // Behind the messages, so that the first results are those of the messages.
                all.extend(read_mark);
                all.extend(issued_ids);
                let commit = self.committer.commit(all, writes.len(), announced);
                commit.await.map_err(|failed| {
                    tracing::error!(error = %failed, "the store has failed");
                    SendError::NotCommitted(failed)
                })
            }
        };
        let outcome = BatchOutcome::new(writes, committed);
        self.count_refusals(&outcome);
        outcome
    }

    /// Does what an injected fault asks for that loses a batch: the senders are told that it is stored, and it is not.
    fn lose(&self, writes: &[PendingWrite]) -> Stored {
        self.audit.count_lost(writes.len() as u64);
        Stored {
            results: vec![Ok(WriteOutcome::Done); writes.len()],
            notifies: None,
        }
    }

    fn count_refusals(&self, outcome: &BatchOutcome) {
        for (write, result) in outcome.results() {
            if let Err(error) = result {
                self.counted(write.cmd(), error);
            }
        }
    }
}

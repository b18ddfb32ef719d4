//! Batches: messages that are handed to the store together.
//!
//! Serves the access servers, which collect the messages of one read of a connection, and `direct`, whose batches have one
//! message. "One read, one commit" in docs/architecture.md says into how many batches a read is divided.

use std::sync::Arc;

use super::commit::CommitResult;
use super::{Caller, PendingNotifies, SendError, Services, SyncRequest, Target};
use crate::clock::Clock;
use crate::directory::SessionHandle;
use crate::id::{Uid, Version};
use crate::lab::{Action, Site};
use crate::proto::Cmd;
use crate::store::{Kind, Message, Rejected, StoreError, Write, WriteOutcome};

/// A message or an acceptance that was checked and is to be stored.
#[derive(Debug)]
pub struct PendingWrite {
    /// The user or the group that receives the message; for an acceptance, the sender of the accepted message.
    pub target: Target,
    /// The message, or the acceptance as a message of the kind [`Kind::Ack`].
    pub message: Arc<Message>,
    /// Whether the server gave the message its id, because the request brought none. If the message is not stored, the
    /// client is not told this id.
    pub has_generated_id: bool,
}

/// Writes that are handed to the store together, in the order of their requests.
#[derive(Debug, Default)]
pub struct WriteBatch {
    writes: Vec<PendingWrite>,
    /// The read mark of the sync that follows the batch, if there is one.
    read_mark: Option<Write>,
    /// The time in the newest id that the server gave to a message of this batch, in Unix milliseconds; none if it gave none.
    last_issued_ms: Option<i64>,
    /// The send time of all messages of the batch, in Unix milliseconds: when the first one was added. All of them arrived
    /// in the same read.
    sent_at: Option<i64>,
}

/// The results of the writes of a batch, and the notifies that are still to be sent.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    writes: Vec<PendingWrite>,
    /// The store's results; the first ones are those of the writes, in their order. Empty if the commit has failed.
    results: Vec<Result<WriteOutcome, Rejected>>,
    /// The error of the commit as a whole, if it has failed.
    failure: Option<SendError>,
    /// The notifies to the receivers. They are sent when the value is dropped, which has to be after the acknowledgements
    /// were queued.
    pub notifies: Option<PendingNotifies>,
}

impl PendingWrite {
    /// Returns the command that asked for the write.
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

    /// Adds a write that was checked.
    pub(super) fn push(&mut self, write: PendingWrite) {
        self.writes.push(write);
    }

    /// Sets the read mark that is stored together with the writes. The sync after the batch marks it again, which then
    /// changes nothing, and so costs no commit of its own.
    pub(super) fn set_read_mark(&mut self, uid: Uid, request: &SyncRequest) {
        let read = request.after;
        self.read_mark = (read > Version::START).then_some(Write::MarkRead { uid, read });
    }

    /// Sets the time in the newest id that the server gave to a message. It is stored together with the messages, so that a
    /// restarted stack gives out greater ids.
    pub(super) fn set_last_issued_ms(&mut self, last_issued_ms: i64) {
        self.last_issued_ms = Some(last_issued_ms);
    }

    /// Returns the send time of the messages of this batch, in Unix milliseconds.
    pub(super) fn sent_at(&mut self, clock: &dyn Clock) -> i64 {
        *self.sent_at.get_or_insert_with(|| clock.unix_ms())
    }
}

impl BatchOutcome {
    fn new(writes: Vec<PendingWrite>, committed: Result<CommitResult, SendError>) -> Self {
        match committed {
            Ok(CommitResult { results, notifies }) => BatchOutcome {
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
    /// When this returns, the stored writes are as durable as the store makes them. The receivers are notified when the
    /// [`notifies`](BatchOutcome::notifies) of the outcome are dropped. If this future is dropped midway, a commit that has
    /// begun is finished without it, and its receivers are notified too.
    ///
    /// `session` is the one on which the requests came, if they came on one.
    pub async fn commit_batch(
        &self,
        session: Option<&dyn SessionHandle>,
        batch: WriteBatch,
    ) -> BatchOutcome {
        let Some(first) = batch.writes.first() else {
            return BatchOutcome::default();
        };
        let caller = Caller {
            // All writes are by the user of the session. Only with the quirk `login_not_required` they may be by several.
            uid: first.message.source,
            session,
        };
        let WriteBatch {
            writes,
            read_mark,
            last_issued_ms,
            ..
        } = batch;
        let mut announced = if self.notifies_before_store() {
            Some(Box::pin(self.announce(&writes)).await)
        } else {
            None
        };
        let injected = self.hit_after_delay(Site::StoreWrite, caller, |_| true);
        let injected = match &mut announced {
            Some(announced) => Box::pin(announced.await_outside_tick(injected)).await,
            None => injected.await,
        };
        let committed = match injected {
            Some(Action::Error(code)) => Err(SendError::Injected(code)),
            Some(Action::Drop) => Ok(self.pretend_to_commit(&writes)),
            _ => {
                let mut all = Vec::with_capacity(writes.len() + 2);
                all.extend(writes.iter().map(PendingWrite::write));
                // Added last, so that the first results are those of the messages.
                all.extend(read_mark);
                all.extend(last_issued_ms.map(|up_to_ms| Write::IssuedIds { up_to_ms }));
                let commit = self.committer.commit(all, writes.len(), announced);
                commit.await.map_err(|failed| {
                    failed.log();
                    SendError::NotCommitted(failed)
                })
            }
        };
        let outcome = BatchOutcome::new(writes, committed);
        self.count_refusals(&outcome);
        outcome
    }

    /// Returns the result of a commit that an injected fault loses: every write appears to be done, and nothing is stored. The
    /// writes are counted as lost.
    fn pretend_to_commit(&self, writes: &[PendingWrite]) -> CommitResult {
        self.audit.count_lost(writes.len() as u64);
        CommitResult {
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

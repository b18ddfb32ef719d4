//! Commits batches of messages, and creates the notifies that follow.
//!
//! Serves `batch`. Invariants: a commit that has begun is finished even if its caller ends, and every receiver of a stored
//! message is notified.
//!
//! Both hold whatever happens to the task that asked for the commit: the task of a session or of an HTTP request can end at
//! any await, for example when its access server is killed or its handler panics. A commit that is dropped midway becomes a
//! task of its own, and the notifies are held by a value that sends them when it is dropped. Other writes, such as a
//! registration, do not pass the [`Committer`], since nobody is notified of them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::announced::Announced;
use crate::directory::SessionDirectory;
use crate::id::Uid;
use crate::metrics::Metrics;
use crate::store::{
    Committed, Entry, InboxState, Message, MessageStore, Rejected, StoreError, Write, WriteOutcome,
};

/// Commits batches, and finishes those whose caller has ended.
#[derive(Debug)]
pub(super) struct Committer {
    store: Arc<dyn MessageStore>,
    directory: Arc<dyn SessionDirectory>,
    metrics: Arc<Metrics>,
    /// Whether messages to one user are pushed to the receiver, besides the notify.
    pushes: bool,
    /// Runs the commits whose caller has ended.
    orphaned: TaskTracker,
}

/// The outcome of a commit: the store's results, and the notifies for the inboxes that have grown.
#[derive(Debug)]
pub(super) struct CommitResult {
    /// The result of each write, in the order of the batch.
    pub results: Vec<Result<WriteOutcome, Rejected>>,
    /// The notifies to the receivers; none if no inbox has grown.
    pub notifies: Option<PendingNotifies>,
}

/// The notifies for what a commit has stored, and the messages that are pushed besides.
///
/// They are sent when this is dropped: by a front that has queued the acknowledgements, or because the task that held it
/// has ended early. All receivers are notified before the drop returns, on the task that drops this.
pub struct PendingNotifies {
    directory: Arc<dyn SessionDirectory>,
    grown_inboxes: Vec<InboxState>,
    /// Empty, and without an allocation, unless messages are pushed.
    pushes: Vec<Push>,
}

/// A message that is pushed to its receiver.
struct Push {
    receiver: Uid,
    entry: Entry,
}

impl PendingNotifies {
    /// Adds the notifies of a later commit, which are sent together with these.
    pub fn append(&mut self, mut later: PendingNotifies) {
        self.grown_inboxes.append(&mut later.grown_inboxes);
        self.pushes.append(&mut later.pushes);
    }
}

impl Drop for PendingNotifies {
    fn drop(&mut self) {
        // The messages come first, so that a session which writes at once has them before the notify.
        for Push { receiver, entry } in &self.pushes {
            self.directory.push(*receiver, entry);
        }
        self.directory.notify(&self.grown_inboxes);
    }
}

impl fmt::Debug for PendingNotifies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingNotifies")
            .field(&self.grown_inboxes)
            .finish()
    }
}

impl Committer {
    /// Creates a committer without unfinished commits. `pushes` says whether messages to one user are pushed to the receiver.
    pub fn new(
        store: Arc<dyn MessageStore>,
        directory: Arc<dyn SessionDirectory>,
        metrics: Arc<Metrics>,
        pushes: bool,
    ) -> Arc<Self> {
        Arc::new(Committer {
            store,
            directory,
            metrics,
            pushes,
            orphaned: TaskTracker::new(),
        })
    }

    /// Stores a batch whose first `messages` writes are messages and acks. Receivers who were notified before, as `announced` says,
    /// are not notified again.
    ///
    /// From the first poll of the returned future on, the commit is finished even if the future is dropped.
    pub fn commit(
        self: &Arc<Self>,
        batch: Vec<Write>,
        messages: usize,
        announced: Option<Announced>,
    ) -> Commit {
        let committer = Arc::clone(self);
        let to_push = match self.pushes {
            true => batch.iter().map(message_to_push).collect(),
            false => Vec::new(),
        };
        Commit {
            work: Some(Box::pin(async move {
                let begun = Instant::now();
                let Committed {
                    results,
                    grown_inboxes,
                } = committer.store.commit(batch).await?;
                let mut notifies = (!grown_inboxes.is_empty()).then(|| PendingNotifies {
                    directory: Arc::clone(&committer.directory),
                    grown_inboxes,
                    pushes: pushes(to_push, &results),
                });
                // A duplicate is accepted too: its sender is answered as if it were stored now.
                let accepted = results.iter().take(messages);
                let accepted = accepted.filter(|result| result.is_ok()).count();
                committer.metrics.committed(accepted, begun.elapsed());
                if let (Some(announced), Some(notifies)) = (announced, &mut notifies) {
                    announced.remove_from(&mut notifies.grown_inboxes);
                }
                Ok(CommitResult { results, notifies })
            })),
            has_begun: false,
            orphaned: self.orphaned.clone(),
        }
    }

    /// Returns how many commits are in progress whose caller has ended.
    pub fn unfinished(&self) -> usize {
        self.orphaned.len()
    }

    /// Resolves when every commit whose caller has ended is done.
    pub async fn finished(&self) {
        // Commits can still be spawned on a closed tracker.
        self.orphaned.close();
        self.orphaned.wait().await;
    }
}

/// Returns the message that is pushed if this write is done: one to a single user with a text. Without a text, its receiver
/// would take it for the reply to a message of its own.
fn message_to_push(write: &Write) -> Option<Arc<Message>> {
    match write {
        Write::P2p { message, .. } if !message.text().is_empty() => Some(Arc::clone(message)),
        _ => None,
    }
}

/// Returns the messages to be pushed after a commit: of those in `to_push`, which has one element for each write, those that
/// are new in an inbox.
fn pushes(
    to_push: Vec<Option<Arc<Message>>>,
    results: &[Result<WriteOutcome, Rejected>],
) -> Vec<Push> {
    let stored = to_push.into_iter().zip(results);
    stored
        .filter_map(|(message, result)| match result {
            Ok(WriteOutcome::Stored { uid, version }) => Some(Push {
                receiver: *uid,
                entry: Entry {
                    version: *version,
                    message: message?,
                },
            }),
            _ => None,
        })
        .collect()
}

type CommitFuture = Pin<Box<dyn Future<Output = Result<CommitResult, StoreError>> + Send>>;

/// A commit. If it is dropped after it has begun and before its end, a task of its own finishes it.
pub(super) struct Commit {
    /// The work of the store. Taken out during each poll, so that work which panics is not polled again; none after its end.
    work: Option<CommitFuture>,
    /// Whether the work was polled, so that the store may have taken the batch.
    has_begun: bool,
    /// Runs the rest of the work, if this future is dropped before its end.
    orphaned: TaskTracker,
}

impl Future for Commit {
    type Output = Result<CommitResult, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.has_begun = true;
        let Some(mut work) = self.work.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        // Without a runtime the commit can't be finished. The sessions have ended with the runtime, so nobody misses a
        // notify.
        if let Some(work) = self.work.take().filter(|_| self.has_begun)
            && Handle::try_current().is_ok()
        {
            // The output holds the notifies, which are sent when it is dropped.
            self.orphaned.spawn(async { drop(work.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::SecondLogin;
    use crate::directory::LocalDirectory;
    use crate::id::{GroupId, MsgId, Uid};
    use crate::store::{Kind, MemoryStore, Message, Retention, StoreAdmin};
    use std::time::Duration;

    fn committer() -> (Arc<Committer>, Arc<MemoryStore>) {
        let (clock, metrics) = (Arc::new(ManualClock::default()), Arc::default());
        let second = SecondLogin::Close;
        let directory = LocalDirectory::new(clock, Duration::ZERO, second, Arc::clone(&metrics));
        let store = Arc::new(MemoryStore::new(1 << 30, Retention::default()));
        let committer = Committer::new(store.clone(), Arc::new(directory), metrics, false);
        (committer, store)
    }

    /// Returns `count` messages to a group of a thousand members, which it creates.
    async fn to_group(store: &MemoryStore, count: usize) -> Vec<Write> {
        let made = Write::CreateGroup {
            group: GroupId(9),
            name: "team".into(),
            owner: Uid(1),
            members: (1..=1_000).map(Uid).collect(),
            made_at: 1,
        };
        store.commit(vec![made]).await.unwrap();
        let message = |id: usize| {
            Message::new(
                Kind::Group,
                Uid(1),
                Some(GroupId(9)),
                MsgId(&id.to_string()),
                "x",
                1,
            )
        };
        let write = |id| Write::Group {
            message: Arc::new(message(id)),
        };
        (0..count).map(write).collect()
    }

    /// The memory store yields to other tasks in the middle of a batch of this size, which is where the commit is dropped.
    #[tokio::test]
    async fn a_commit_that_is_dropped_midway_is_finished_as_a_whole() {
        let (committer, store) = committer();
        let batch = to_group(&store, 50).await;
        let mut commit = committer.commit(batch, 50, None);
        let begun = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut commit).poll(cx))).await;
        assert!(begun.is_pending() && store.ledger().stored < 50_000);
        assert_eq!(committer.unfinished(), 0);
        drop(commit);
        assert_eq!(committer.unfinished(), 1);
        committer.finished().await;
        assert_eq!(store.ledger().stored, 50_000);
    }

    #[tokio::test]
    async fn a_commit_that_has_not_begun_is_not_made() {
        let (committer, store) = committer();
        let batch = to_group(&store, 1).await;
        drop(committer.commit(batch, 1, None));
        committer.finished().await;
        assert_eq!(store.ledger().stored, 0);
    }

    #[test]
    fn without_a_runtime_a_commit_ends_with_its_caller() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let (committer, store) = committer();
        let batch = runtime.block_on(to_group(&store, 50));
        let mut commit = committer.commit(batch, 50, None);
        let begun = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut commit).poll(cx)));
        assert!(runtime.block_on(begun).is_pending());
        drop(runtime);
        drop(commit);
        assert_eq!(committer.unfinished(), 0);
    }
}

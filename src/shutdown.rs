//! Graceful shutdown of a group of tasks: a request to stop, a grace period, and a request to stop at once.
//!
//! Serves everything that owns tasks and stops them: the session managers, the HTTP servers and the cleaning of the store. A
//! task that was spawned on a [`Shutdown`] is counted until it ends, so that none is forgotten.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::running::timeout;

/// Stops a group of tasks, in two steps: [`begin`](Self::begin) asks them to finish what they have begun, and
/// [`hurry`](Self::hurry) to end at once.
///
/// Every task holds a clone, and all clones share the same state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    now: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Spawns a task that [`ended`](Self::ended) waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Asks the tasks to finish what they have begun, and to begin nothing new.
    pub fn begin(&self) {
        self.stop.cancel();
    }

    /// Asks the tasks to end at once.
    pub fn hurry(&self) {
        self.stop.cancel();
        self.now.cancel();
    }

    /// Returns whether [`begin`](Self::begin) or [`hurry`](Self::hurry) was called.
    pub fn has_begun(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves when the tasks are asked to finish what they have begun.
    pub async fn begun(&self) {
        self.stop.cancelled().await;
    }

    /// Resolves when the tasks are asked to end at once.
    pub async fn hurried(&self) {
        self.now.cancelled().await;
    }

    /// Returns whether every task has ended.
    pub fn has_ended(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Returns the number of tasks that have not ended.
    pub fn unfinished(&self) -> usize {
        self.tasks.len()
    }

    /// Resolves when every task has ended. A task that is spawned after this call is not waited for.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits for the end of the tasks for the grace period, then asks them to end at once and waits one more second.
    /// Returns how many are still running then: each of them waits for something outside the control of the process.
    ///
    /// The grace period is real time during which the process was running. A test with a stopped clock must still be able
    /// to stop its stack, and a suspended machine must not use the period up.
    pub async fn ended_within(&self, grace: Duration) -> usize {
        if timeout(grace, self.ended()).await.is_err() {
            self.hurry();
            // Whether this timed out as well is known from the number of unfinished tasks.
            let _ = timeout(Duration::from_secs(1), self.ended()).await;
        }
        self.unfinished()
    }
}

//! The end of things: a request to stop, the tasks that must have ended, and a grace period for them.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::running::timeout;

/// What every task of an owner holds: told once to stop, and once more to stop at once.
///
/// Clones share the same state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    now: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Spawns a task that this owner waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Asks the tasks to finish what they have begun.
    pub fn begin(&self) {
        self.stop.cancel();
    }

    /// Asks them to finish at once.
    pub fn hurry(&self) {
        self.stop.cancel();
        self.now.cancel();
    }

    /// Whether [`begin`](Self::begin) was called.
    pub fn has_begun(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves when the tasks are asked to finish.
    pub async fn begun(&self) {
        self.stop.cancelled().await;
    }

    /// Resolves when no time is left for manners.
    pub async fn hurried(&self) {
        self.now.cancelled().await;
    }

    /// Whether every task has ended, so that there is nothing to wait for any more.
    pub fn has_ended(&self) -> bool {
        self.tasks.is_empty()
    }

    /// How many tasks have not ended.
    pub fn unfinished(&self) -> usize {
        self.tasks.len()
    }

    /// Resolves when every task has ended. Call after [`begin`](Self::begin).
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits for the tasks, at most for the grace period; then hurries them, and waits a second more.
    ///
    /// Returns how many are still running: each waits for something outside this process's control.
    ///
    /// The grace period is real time in which the process ran: a test that has stopped its clock must still be able to
    /// stop its daemon.
    pub async fn ended_within(&self, grace: Duration) -> usize {
        if timeout(grace, self.ended()).await.is_err() {
            self.hurry();
            // Whether they made it is what len() says.
            let _ = timeout(Duration::from_secs(1), self.ended()).await;
        }
        self.unfinished()
    }
}

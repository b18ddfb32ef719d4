//! Groups of tasks that end together: a request to finish, a grace period, and a request to end at once.
//!
//! Serves everything that owns tasks and stops them: the session managers, the HTTP servers and the cleaning of the store. A
//! task that was spawned in a [`TaskGroup`] is counted until it ends, so that none is forgotten.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::running::timeout;

/// How long a task may take to end after the group was asked to end at once, in real time.
const END: Duration = Duration::from_secs(1);

/// A group of tasks, which are ended in two steps: [`begin_shutdown`](Self::begin_shutdown) asks them to finish what they
/// have begun, and [`hurry`](Self::hurry) to end at once.
///
/// Every task holds a clone, and all clones share the same state.
#[derive(Debug, Clone, Default)]
pub struct TaskGroup {
    /// Cancelled when the shutdown begins.
    finish: CancellationToken,
    /// Cancelled when the tasks are to end at once.
    end_now: CancellationToken,
    tasks: TaskTracker,
}

impl TaskGroup {
    /// Spawns a task that [`ended`](Self::ended) waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Asks the tasks to finish what they have begun, and to begin nothing new.
    pub fn begin_shutdown(&self) {
        self.finish.cancel();
    }

    /// Asks the tasks to end at once.
    pub fn hurry(&self) {
        self.finish.cancel();
        self.end_now.cancel();
    }

    /// Returns whether [`begin_shutdown`](Self::begin_shutdown) or [`hurry`](Self::hurry) was called.
    pub fn has_shutdown_begun(&self) -> bool {
        self.finish.is_cancelled()
    }

    /// Resolves when the tasks are asked to finish what they have begun.
    pub async fn shutdown_begun(&self) {
        self.finish.cancelled().await;
    }

    /// Resolves when the tasks are asked to end at once.
    pub async fn hurried(&self) {
        self.end_now.cancelled().await;
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

    /// Waits for the end of the tasks for the grace period, and then [ends them at once](Self::end_at_once). Does not begin
    /// the shutdown. Returns how many tasks are still running after that.
    ///
    /// The grace period is real time during which the process was running. A test with a stopped clock must still be able
    /// to stop its stack, and a suspended machine must not use the period up.
    pub async fn finish_within(&self, grace: Duration) -> usize {
        match timeout(grace, self.ended()).await {
            Ok(()) => self.unfinished(),
            Err(_) => self.end_at_once().await,
        }
    }

    /// Asks the tasks to end at once, and waits up to one second for that. Returns how many are still running then: each of
    /// them waits for something outside the control of the process.
    pub async fn end_at_once(&self) -> usize {
        self.hurry();
        // Whether this timed out is known from the number of unfinished tasks.
        let _ = timeout(END, self.ended()).await;
        self.unfinished()
    }
}

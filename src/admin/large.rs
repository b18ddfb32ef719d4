//! Makes the answers of the admin API that take long: the journal, and lists of groups with all their members.
//!
//! Serves `events` and `contents`. On a thread of the runtime, such an answer would keep clients of the stack waiting. It is
//! made on a thread for blocking work, and only one at a time, so that all of them together take one processor at most.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::answer::Problem;

/// Makes large answers one after another. Clones share the queue.
#[derive(Debug, Clone)]
pub struct LargeAnswers(Arc<Semaphore>);

impl Default for LargeAnswers {
    fn default() -> Self {
        LargeAnswers(Arc::new(Semaphore::new(1)))
    }
}

impl LargeAnswers {
    /// Makes an answer on a thread for blocking work, after those that were requested before it.
    ///
    /// # Errors
    ///
    /// When the runtime ends meanwhile, or `make` panics.
    pub async fn make<R: IntoResponse>(
        &self,
        make: impl FnOnce() -> R + Send + 'static,
    ) -> Result<Response, Problem> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let permit = permit.map_err(Problem::broken)?;
        let made = tokio::task::spawn_blocking(move || {
            // Held by the thread, which goes on if the request is cancelled: the next answer must not be made beside this one.
            let _permit = permit;
            make().into_response()
        });
        made.await.map_err(Problem::broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// The runtime of this test has one thread. If an answer kept that thread, the test would not end.
    #[tokio::test]
    async fn answers_are_made_one_after_another_and_keep_no_thread_of_the_runtime() {
        let answers = LargeAnswers::default();
        let (go, goes) = channel::<()>();
        let (began, begins) = channel();
        let first = {
            let began = began.clone();
            answers.make(move || {
                began.send(1).unwrap();
                goes.recv().unwrap();
            })
        };
        let second = answers.make(move || began.send(2).unwrap());
        let (mut first, mut second) = (Box::pin(first), Box::pin(second));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert_eq!(begins.recv(), Ok(1));
        assert!(futures_util::poll!(&mut second).is_pending());
        begins.try_recv().unwrap_err();
        go.send(()).unwrap();
        first.await.unwrap();
        second.await.unwrap();
        assert_eq!(begins.recv(), Ok(2));
    }
}

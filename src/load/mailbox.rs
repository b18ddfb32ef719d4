//! How the task of a connection learns of requests that it is to make, of deliveries, and of the end of the run.
//!
//! Serves the users of `imd bench` and `examples/side_by_side`. One task reads a mailbox, and any thread may add to it.
//! Whatever is added wakes the task; whatever was added before the task looks is seen in one go.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Whether a run goes on, for one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The run goes on.
    #[default]
    None,
    /// Make no more requests, ask once whether anything else has arrived, and close the connection.
    Leave,
    /// Close the connection at once.
    Now,
}

/// A message that has reached its receiver, as its sender knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// The number of the user to whom it was sent.
    pub receiver: usize,
    /// The number that the sender gave to the message, among those to this receiver.
    pub seq: u64,
}

/// What one connection's task is told from outside. The task is woken whenever something is added.
#[derive(Debug, Default)]
pub struct Mailbox(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    /// For each request that is to be made: when it was due, in nanoseconds since the run began.
    due: VecDeque<u64>,
    /// The messages of this connection's user that have reached their receivers.
    deliveries: Vec<Delivery>,
    end: End,
    task: Option<Waker>,
}

impl Mailbox {
    /// Adds a request that was due at this time.
    pub fn push(&self, due: u64) {
        self.change(|contents| contents.due.push_back(due));
    }

    /// Adds a message of this connection's user that has reached its receiver.
    pub fn deliver(&self, delivery: Delivery) {
        self.change(|contents| contents.deliveries.push(delivery));
    }

    /// Announces the end.
    pub fn end(&self, end: End) {
        self.change(|contents| contents.end = end);
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) {
        let mut contents = self.0.lock();
        change(&mut contents);
        let task = contents.task.take();
        drop(contents);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Moves the requests to the end of `due`. The task of `cx` is woken when something else is added.
    pub fn take(&self, cx: &Context<'_>, due: &mut VecDeque<u64>) -> End {
        let mut contents = self.0.lock();
        due.append(&mut contents.due);
        match &mut contents.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        contents.end
    }

    /// Returns the deliveries since the last call.
    pub fn take_deliveries(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.0.lock().deliveries)
    }

    /// Waits for the next request, and returns when it was due; nothing at the end of the run.
    pub async fn next(&self) -> Option<u64> {
        self.wait(|contents| contents.due.pop_front()).await
    }

    /// Waits for the end of the run.
    pub async fn ended(&self) {
        self.wait(|_| None).await;
    }

    /// Waits until `take` returns something, or for the end.
    async fn wait(&self, take: impl Fn(&mut Contents) -> Option<u64>) -> Option<u64> {
        poll_fn(|cx| {
            let mut contents = self.0.lock();
            let taken = take(&mut contents);
            if taken.is_some() || contents.end > End::None {
                return Poll::Ready(taken);
            }
            contents.task = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

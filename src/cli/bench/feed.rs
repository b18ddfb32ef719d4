//! How a connection's task hears from the schedule, and of the end.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// How far the end has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Not yet.
    #[default]
    None,
    /// Requests are made no more: look once whether anything else has come, and leave.
    Leave,
    /// Leave at once.
    Now,
}

/// What waits for a task.
#[derive(Debug, Default)]
pub struct Feed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the requests were due that are to be made, in nanoseconds since the run began.
    due: VecDeque<u64>,
    end: End,
    task: Option<Waker>,
}

impl Feed {
    /// A request is due.
    pub fn push(&self, due: u64) {
        self.change(|state| state.due.push_back(due));
    }

    /// The end is near.
    pub fn end(&self, end: End) {
        self.change(|state| state.end = end);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Moves what is due behind what `due` holds already; the task is woken when there is more.
    pub fn take(&self, cx: &Context<'_>, due: &mut VecDeque<u64>) -> End {
        let mut state = self.0.lock();
        due.append(&mut state.due);
        match &mut state.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        state.end
    }

    /// Waits for the next request, or for the end.
    pub async fn next(&self) -> Option<u64> {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if let Some(due) = state.due.pop_front() {
                return Poll::Ready(Some(due));
            }
            if state.end > End::None {
                return Poll::Ready(None);
            }
            state.task = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits for the end.
    pub async fn ended(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.end > End::None {
                return Poll::Ready(());
            }
            state.task = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

//! Reading a journal event by event, and being told what is missing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Event, Journal, Mark, Missed, State};

/// A reader takes so many events at once: those who record wait for it.
const TAKEN: usize = 64;

/// Reads a journal event by event.
#[derive(Debug)]
pub struct Reader {
    pub(super) journal: Arc<Journal>,
    pub(super) at: Mark,
    /// Taken out already, and not asked for yet.
    pub(super) taken: VecDeque<Event>,
}

/// What a reader comes to next.
#[derive(Debug)]
pub enum Step {
    /// An event.
    Event(Event),
    /// Events are missing here.
    Gap {
        /// How many.
        missed: Missed,
        /// The number of the last of them.
        last: u64,
    },
}

impl Reader {
    /// The next event that is there or comes. What is missing is passed over.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Step::Event(event) = self.step().await {
                return event;
            }
        }
    }

    /// The next event that is there or comes, or what is missing before it.
    pub async fn step(&mut self) -> Step {
        loop {
            if let Some(event) = self.taken.pop_front() {
                return Step::Event(event);
            }
            let journal = Arc::clone(&self.journal);
            let mut grown = std::pin::pin!(journal.grown.notified());
            grown.as_mut().enable();
            if let Some(gap) = self.take() {
                return gap;
            }
            if self.taken.len() == TAKEN {
                // Who reads as fast as it can leaves the thread to those who are served.
                tokio::task::yield_now().await;
            }
            if self.taken.is_empty() {
                grown.await;
            }
        }
    }

    /// Takes out the events that are there, up to where some are missing; or says what is missing before them.
    fn take(&mut self) -> Option<Step> {
        let state = self.journal.state.lock();
        let State { ring, recording } = &*state;
        let (from, first) = (self.at.0, ring.first(self.at));
        if first > from {
            self.at = Mark(first);
            let missed = recording.missed(from, first);
            let last = first - 1;
            return Some(Step::Gap { missed, last });
        }
        for event in ring.since(self.at).take(TAKEN) {
            if event.seq != self.at.0 {
                break;
            }
            self.at = Mark(event.seq + 1);
            self.taken.push_back(event.clone());
        }
        None
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.journal.reader_left();
    }
}

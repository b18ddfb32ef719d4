//! Reads the journal event by event, and reports where events are missing.
//!
//! Serves `Imd::wait_for` and the event streams of the admin API. A reader keeps the recording on and never slows the sessions
//! down: one that is too slow for the bounds of the journal gets a gap.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Contents, Event, Journal, Mark, Missed};

/// How many events a reader copies while it holds the journal's lock, which sessions that record wait for.
const MAX_BUFFERED: usize = 64;

/// Reads a journal event by event. While it exists, everything is recorded, unless the config says never.
#[derive(Debug)]
pub struct Reader {
    pub(super) journal: Arc<Journal>,
    /// Position behind the buffered events.
    pub(super) next: Mark,
    /// Events that were copied from the journal and not returned yet.
    pub(super) buffered: VecDeque<Event>,
}

/// What a reader returns next.
#[derive(Debug)]
pub enum Step {
    /// The next event.
    Event(Event),
    /// One or more events are missing here.
    Gap {
        /// How many are missing, and why.
        missed: Missed,
        /// Sequence number of the last missing event.
        last: u64,
    },
}

impl Reader {
    /// Returns the next event, and waits for it if there is none yet. Missing events are skipped without a report.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Step::Event(event) = self.step().await {
                return event;
            }
        }
    }

    /// Returns the next event or the gap before it, and waits if there is neither yet.
    pub async fn step(&mut self) -> Step {
        loop {
            if let Some(event) = self.buffered.pop_front() {
                return Step::Event(event);
            }
            let journal = Arc::clone(&self.journal);
            // Created before the journal is read, so that an event in between is not overlooked.
            let mut appended = std::pin::pin!(journal.appended.notified());
            appended.as_mut().enable();
            if let Some(gap) = self.fill_buffer() {
                return gap;
            }
            if self.buffered.len() == MAX_BUFFERED {
                // A reader that is far behind has more to read at once, and must leave the thread to the sessions meanwhile.
                tokio::task::yield_now().await;
            }
            if self.buffered.is_empty() {
                appended.await;
            }
        }
    }

    /// Copies the next events from the journal, up to the next gap. Returns the gap if there is one before them.
    fn fill_buffer(&mut self) -> Option<Step> {
        let contents = self.journal.contents.lock();
        let Contents { ring, recording } = &*contents;
        let (from, first) = (self.next.0, ring.first(self.next));
        if first > from {
            self.next = Mark(first);
            let missed = recording.missed(from, first);
            let last = first - 1;
            return Some(Step::Gap { missed, last });
        }
        for event in ring.since(self.next).take(MAX_BUFFERED) {
            if event.seq != self.next.0 {
                break;
            }
            self.next = Mark(event.seq + 1);
            self.buffered.push_back(event.clone());
        }
        None
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.journal.remove_reader();
    }
}

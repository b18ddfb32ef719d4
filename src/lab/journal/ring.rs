//! The ring buffer of events, bounded by count and by bytes.
//!
//! Serves the journal, which holds it under its lock. The sequence numbers of its events rise, but are not always consecutive,
//! since a hole in the recording takes one too.

use std::collections::VecDeque;

use super::{Bounds, Event, EventKind, Mark};

/// Estimated memory of an event without its frame and its name, in bytes.
pub(super) const OVERHEAD: usize = size_of::<Event>() + 32;

/// The recorded events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) events: VecDeque<Event>,
    /// Estimated memory of all events, in bytes.
    pub(super) bytes: usize,
    /// Sequence number of the next event.
    pub(super) next: u64,
    /// Number of events that were dropped or cleared since the start.
    pub(super) dropped: u64,
}

impl Event {
    /// Returns the estimated memory of the event, in bytes.
    fn size(&self) -> usize {
        let detail = match &self.what {
            EventKind::Fault(name, _) => name.len(),
            _ => 0,
        };
        OVERHEAD + self.frame.len() + detail
    }
}

impl Ring {
    /// Appends an event under the next sequence number, and drops the oldest ones beyond the bounds.
    pub(super) fn push(&mut self, mut event: Event, bounds: Bounds) {
        event.seq = self.next;
        self.next += 1;
        self.bytes += event.size();
        self.events.push_back(event);
        while self.events.len() > bounds.events || self.bytes > bounds.bytes {
            let Some(oldest) = self.events.pop_front() else {
                return;
            };
            self.bytes -= oldest.size();
            self.dropped += 1;
        }
    }

    /// Returns the events from a mark on.
    pub(super) fn since(&self, Mark(from): Mark) -> impl Iterator<Item = &Event> {
        let first = self.events.partition_point(|event| event.seq < from);
        self.events.iter().skip(first)
    }

    /// Returns the sequence number of the first event from a mark on, or of the next event if there is none.
    pub(super) fn first(&self, mark: Mark) -> u64 {
        let first = self.since(mark).next();
        first.map_or(self.next, |event| event.seq)
    }
}

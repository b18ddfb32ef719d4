//! The events themselves, bounded by count and by bytes.

use std::collections::VecDeque;

use super::{Bounds, Event, Mark, What};

/// What an event takes beside its frame and its detail, in bytes, roughly.
pub(super) const OVERHEAD: usize = size_of::<Event>() + 32;

#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) events: VecDeque<Event>,
    pub(super) bytes: usize,
    /// The number of the next event.
    pub(super) next: u64,
    /// How many have fallen out, or were cleared.
    pub(super) dropped: u64,
}

impl Event {
    fn size(&self) -> usize {
        let detail = match &self.what {
            What::Fault(name, _) => name.len(),
            _ => 0,
        };
        OVERHEAD + self.frame.len() + detail
    }
}

impl Ring {
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

    pub(super) fn since(&self, Mark(from): Mark) -> impl Iterator<Item = &Event> {
        let first = self.events.partition_point(|event| event.seq < from);
        self.events.iter().skip(first)
    }

    /// The number of the first event from a mark on that is there or comes.
    pub(super) fn first(&self, mark: Mark) -> u64 {
        let first = self.since(mark).next();
        first.map_or(self.next, |event| event.seq)
    }
}

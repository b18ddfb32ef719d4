//! Decides when events are recorded, and counts those that are not.
//!
//! Serves the journal, which holds this state under its lock. A hole is an interval in which events happened and were not
//! recorded. Each hole takes one sequence number, so that a mark is either before the hole or after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::lab::Switches;

/// How long a mark keeps the recording on when `capture` is `auto`. Real time: a manual clock may stand still.
pub const MARKED: Duration = Duration::from_secs(300);

/// How many holes are remembered one by one. The oldest two are merged beyond that.
const MAX_HOLES: usize = 256;

/// When events are recorded: `[journal] capture`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// While someone reads the journal, and for [`MARKED`] after a mark was taken.
    #[default]
    Auto,
    /// From the start.
    Always,
    /// Never.
    Off,
}

/// The events that a reader does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missed {
    /// Number of events that were recorded, and dropped when the journal was full or cleared.
    pub dropped: u64,
    /// Number of events that happened while nothing was recorded.
    pub unrecorded: u64,
}

impl Missed {
    /// Returns the number of all missing events.
    pub fn total(&self) -> u64 {
        self.dropped.saturating_add(self.unrecorded)
    }
}

/// An interval in which events happened and were not recorded.
#[derive(Debug, Clone, Copy)]
struct Hole {
    /// The sequence number that the hole takes.
    seq: u64,
    /// Number of events in it.
    events: u64,
}

/// Decides whether events are recorded, and keeps account of those that are not.
#[derive(Debug)]
pub(super) struct Recording {
    capture: Capture,
    switches: Arc<Switches>,
    readers: usize,
    /// Time until which the recording stays on without readers.
    until: Option<Instant>,
    /// The count of events at the moment in which the recording was turned off; `None` while it is on.
    off_since: Option<u64>,
    /// Oldest first, at most [`MAX_HOLES`].
    holes: Vec<Hole>,
}

impl Recording {
    /// Creates the state at the start of `imd`.
    pub(super) fn new(capture: Capture, switches: Arc<Switches>) -> Recording {
        let is_on = capture == Capture::Always;
        switches.record(is_on);
        Recording {
            capture,
            switches,
            readers: 0,
            until: None,
            off_since: (!is_on).then_some(0),
            holes: Vec::new(),
        }
    }

    /// Returns the config of when events are recorded.
    pub(super) fn capture(&self) -> Capture {
        self.capture
    }

    /// Returns whether events are recorded at the moment.
    pub(super) fn is_on(&self) -> bool {
        self.off_since.is_none()
    }

    /// Counts a reader. The recording is turned on by the next [`update`](Self::update).
    pub(super) fn add_reader(&mut self) {
        self.readers += 1;
    }

    /// Counts a reader less. The recording is turned off by the next [`update`](Self::update).
    pub(super) fn remove_reader(&mut self) {
        self.readers = self.readers.saturating_sub(1);
    }

    /// Keeps the recording on until `end` at least.
    pub(super) fn stay_on(&mut self, end: Instant) {
        self.until = self.until.max(Some(end));
    }

    /// Returns whether the recording is on although its time is over and nobody reads.
    pub(super) fn has_lapsed(&self, now: impl FnOnce() -> Instant) -> bool {
        self.is_on() && self.readers == 0 && self.until.is_some_and(|until| until <= now())
    }

    /// Turns the recording on or off, depending on config, readers and time. `event_count` returns the number of all events
    /// so far. Returns whether a hole ends here, which then takes the sequence number `next`.
    pub(super) fn update(
        &mut self,
        now: Instant,
        next: u64,
        event_count: impl Fn() -> u64,
    ) -> bool {
        let is_wanted = match self.capture {
            Capture::Always => true,
            Capture::Off => false,
            Capture::Auto => self.readers > 0 || self.until.is_some_and(|until| until > now),
        };
        match (is_wanted, self.off_since) {
            (true, Some(before)) => {
                self.switches.record(true);
                self.off_since = None;
                let events = event_count().saturating_sub(before);
                if events > 0 {
                    self.add_hole(Hole { seq: next, events });
                }
                events > 0
            }
            (false, None) => {
                self.switches.record(false);
                self.until = None;
                self.off_since = Some(event_count());
                false
            }
            _ => false,
        }
    }

    fn add_hole(&mut self, hole: Hole) {
        self.holes.push(hole);
        if self.holes.len() > MAX_HOLES {
            let oldest = self.holes.remove(0);
            if let Some(second) = self.holes.first_mut() {
                second.events = second.events.saturating_add(oldest.events);
            }
        }
    }

    /// Returns the events from the sequence number `from` up to `to` as missing: those in holes as unrecorded, the others as
    /// dropped.
    pub(super) fn missed(&self, from: u64, to: u64) -> Missed {
        let holes = self.holes.iter();
        let holes = holes.filter(|hole| (from..to).contains(&hole.seq));
        let (numbers, unrecorded) = holes.fold((0u64, 0u64), |(numbers, unrecorded), hole| {
            (numbers + 1, unrecorded.saturating_add(hole.events))
        });
        Missed {
            dropped: to.saturating_sub(from).saturating_sub(numbers),
            unrecorded,
        }
    }

    /// Returns how many events from the sequence number `from` on were not recorded.
    pub(super) fn unrecorded(&self, from: u64) -> u64 {
        self.missed(from, u64::MAX).unrecorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn recording(capture: Capture) -> (Recording, Arc<Switches>) {
        let switches = Arc::new(Switches::default());
        (Recording::new(capture, Arc::clone(&switches)), switches)
    }

    #[test]
    fn a_mark_keeps_the_recording_on_for_a_while_without_a_reader() {
        let (mut recording, switches) = recording(Capture::Auto);
        let start = Instant::now();
        recording.stay_on(start + MARKED);
        recording.update(start, 0, || 0);
        assert!(switches.is_recording());
        let before = start + MARKED - SECOND;
        assert!(!recording.has_lapsed(|| before));
        // A later end extends the recording, and an earlier one does not shorten it.
        recording.stay_on(start + MARKED + SECOND);
        recording.stay_on(start + SECOND);
        assert!(!recording.has_lapsed(|| start + MARKED));
        let end = start + MARKED + SECOND;
        assert!(recording.has_lapsed(|| end));
        recording.update(end, 0, || 0);
        assert!(!switches.is_recording());
    }

    #[test]
    fn marks_and_readers_change_nothing_with_capture_off_or_always() {
        let start = Instant::now();
        for (capture, is_on) in [(Capture::Off, false), (Capture::Always, true)] {
            let (mut recording, switches) = recording(capture);
            recording.add_reader();
            recording.stay_on(start + MARKED);
            recording.update(start, 0, || 9);
            assert_eq!(switches.is_recording(), is_on);
            recording.remove_reader();
            recording.update(start + 2 * MARKED, 0, || 9);
            assert_eq!(
                (switches.is_recording(), recording.unrecorded(0)),
                (is_on, 0)
            );
        }
    }

    #[test]
    fn a_mark_from_before_a_hole_misses_its_events_and_a_later_mark_does_not() {
        let (mut recording, _) = recording(Capture::Auto);
        let start = Instant::now();
        recording.add_reader();
        // No event has passed, so there is no hole.
        assert!(!recording.update(start, 0, || 0));
        recording.remove_reader();
        recording.update(start, 5, || 5);
        recording.add_reader();
        assert!(recording.update(start, 5, || 8));
        assert_eq!(
            (recording.unrecorded(5), recording.unrecorded(6)),
            (3, 0),
            "the hole is after the first mark and before the second"
        );
        let missed = recording.missed(2, 8);
        assert_eq!((missed.dropped, missed.unrecorded), (5, 3));
        assert_eq!(missed.total(), 8);
    }

    #[test]
    fn the_oldest_holes_are_merged_and_their_events_still_counted() {
        let (mut recording, _) = recording(Capture::Auto);
        let start = Instant::now();
        let holes = 2 * MAX_HOLES as u64;
        for n in 0..holes {
            recording.add_reader();
            recording.update(start, n, || 2 * n + 1);
            recording.remove_reader();
            recording.update(start, n, || 2 * n + 1);
        }
        assert_eq!(recording.holes.len(), MAX_HOLES);
        assert_eq!(recording.unrecorded(0), 2 * holes - 1);
        assert_eq!(recording.unrecorded(holes - 1), 2);
    }
}

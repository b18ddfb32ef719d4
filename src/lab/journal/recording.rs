//! When frames are recorded, and how much has passed while they were not. Serves the journal, which holds it under its
//! lock.
//!
//! A hole is a time in which nothing was recorded and something has passed. Each hole takes one event number, so that a
//! mark says whether it was taken before the hole or after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::lab::Switches;

/// How long a mark keeps the recording on when `capture` is `auto`. Real time: a manual clock may stand still.
pub const MARKED: Duration = Duration::from_secs(300);

/// Older holes are merged when there are more than this.
const MOST_HOLES: usize = 256;

/// When frames are recorded.
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

/// What a reader does not get of the events behind a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missed {
    /// Events that were recorded and that the journal no longer has.
    pub dropped: u64,
    /// Frames, connections, closes and hits of faults that passed while nothing was recorded.
    pub unrecorded: u64,
}

impl Missed {
    /// Both together.
    pub fn total(&self) -> u64 {
        self.dropped.saturating_add(self.unrecorded)
    }
}

/// Something passed here and was not recorded.
#[derive(Debug, Clone, Copy)]
struct Hole {
    /// The event number that the hole takes.
    at: u64,
    /// How much has passed.
    passed: u64,
}

/// Turns the recording on and off.
#[derive(Debug)]
pub(super) struct Recording {
    capture: Capture,
    switches: Arc<Switches>,
    readers: usize,
    /// Until when it stays on although nobody reads.
    until: Option<Instant>,
    /// How much had passed when it was turned off; `None` while it is on.
    off_since: Option<u64>,
    /// The oldest first.
    holes: Vec<Hole>,
}

impl Recording {
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

    pub(super) fn capture(&self) -> Capture {
        self.capture
    }

    pub(super) fn is_on(&self) -> bool {
        self.off_since.is_none()
    }

    pub(super) fn reader_came(&mut self) {
        self.readers += 1;
    }

    pub(super) fn reader_left(&mut self) {
        self.readers = self.readers.saturating_sub(1);
    }

    /// Stays on until `end` at least, if it is on at all.
    pub(super) fn stay_on(&mut self, end: Instant) {
        self.until = self.until.max(Some(end));
    }

    /// Whether it is on only for a time, which is over.
    pub(super) fn has_lapsed(&self, now: impl FnOnce() -> Instant) -> bool {
        self.is_on() && self.readers == 0 && self.until.is_some_and(|until| until <= now())
    }

    /// Turns it on or off, as is wanted at `now`. `passed` counts what has passed so far, recorded or not. Returns
    /// whether a hole ends here, which takes the event number `next`.
    pub(super) fn settle(&mut self, now: Instant, next: u64, passed: impl Fn() -> u64) -> bool {
        let is_wanted = match self.capture {
            Capture::Always => true,
            Capture::Off => false,
            Capture::Auto => self.readers > 0 || self.until.is_some_and(|until| until > now),
        };
        match (is_wanted, self.off_since) {
            (true, Some(before)) => {
                self.switches.record(true);
                self.off_since = None;
                let passed = passed().saturating_sub(before);
                if passed > 0 {
                    self.remember(Hole { at: next, passed });
                }
                passed > 0
            }
            (false, None) => {
                self.switches.record(false);
                self.until = None;
                self.off_since = Some(passed());
                false
            }
            _ => false,
        }
    }

    fn remember(&mut self, hole: Hole) {
        self.holes.push(hole);
        if self.holes.len() > MOST_HOLES {
            let oldest = self.holes.remove(0);
            if let Some(second) = self.holes.first_mut() {
                second.passed = second.passed.saturating_add(oldest.passed);
            }
        }
    }

    /// What a reader misses who wants the events from `from` on, and is given none before `to`.
    pub(super) fn missed(&self, from: u64, to: u64) -> Missed {
        let holes = self.holes.iter();
        let holes = holes.filter(|hole| (from..to).contains(&hole.at));
        let (numbers, unrecorded) = holes.fold((0u64, 0u64), |(numbers, unrecorded), hole| {
            (numbers + 1, unrecorded.saturating_add(hole.passed))
        });
        Missed {
            dropped: to.saturating_sub(from).saturating_sub(numbers),
            unrecorded,
        }
    }

    /// How much has passed unrecorded from the event number `from` on.
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
    fn a_mark_keeps_it_on_for_a_while_without_a_reader() {
        let (mut recording, switches) = recording(Capture::Auto);
        let start = Instant::now();
        recording.stay_on(start + MARKED);
        recording.settle(start, 0, || 0);
        assert!(switches.records());
        let before = start + MARKED - SECOND;
        assert!(!recording.has_lapsed(|| before));
        // A later mark renews it; one that ends earlier takes nothing away.
        recording.stay_on(start + MARKED + SECOND);
        recording.stay_on(start + SECOND);
        assert!(!recording.has_lapsed(|| start + MARKED));
        let end = start + MARKED + SECOND;
        assert!(recording.has_lapsed(|| end));
        recording.settle(end, 0, || 0);
        assert!(!switches.records());
    }

    #[test]
    fn neither_marks_nor_readers_turn_it_on_where_it_is_off_or_off_where_it_is_always_on() {
        let start = Instant::now();
        for (capture, is_on) in [(Capture::Off, false), (Capture::Always, true)] {
            let (mut recording, switches) = recording(capture);
            recording.reader_came();
            recording.stay_on(start + MARKED);
            recording.settle(start, 0, || 9);
            assert_eq!(switches.records(), is_on);
            recording.reader_left();
            recording.settle(start + 2 * MARKED, 0, || 9);
            assert_eq!((switches.records(), recording.unrecorded(0)), (is_on, 0));
        }
    }

    #[test]
    fn what_passes_while_it_is_off_is_counted_behind_the_marks_of_before() {
        let (mut recording, _) = recording(Capture::Auto);
        let start = Instant::now();
        recording.reader_came();
        // Nothing has passed: no hole.
        assert!(!recording.settle(start, 0, || 0));
        recording.reader_left();
        recording.settle(start, 5, || 5);
        recording.reader_came();
        assert!(recording.settle(start, 5, || 8));
        assert_eq!(
            (recording.unrecorded(5), recording.unrecorded(6)),
            (3, 0),
            "a mark of before knows of it, a mark of after does not"
        );
        let missed = recording.missed(2, 8);
        assert_eq!((missed.dropped, missed.unrecorded), (5, 3));
        assert_eq!(missed.total(), 8);
    }

    #[test]
    fn many_holes_are_merged_and_none_is_forgotten() {
        let (mut recording, _) = recording(Capture::Auto);
        let start = Instant::now();
        let holes = 2 * MOST_HOLES as u64;
        for n in 0..holes {
            recording.reader_came();
            recording.settle(start, n, || 2 * n + 1);
            recording.reader_left();
            recording.settle(start, n, || 2 * n + 1);
        }
        assert_eq!(recording.holes.len(), MOST_HOLES);
        assert_eq!(recording.unrecorded(0), 2 * holes - 1);
        assert_eq!(recording.unrecorded(holes - 1), 2);
    }
}

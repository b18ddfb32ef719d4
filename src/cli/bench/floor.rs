//! What the connections of one generator thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::args::{Pace, Plan};
use super::pacer::Schedule;
use super::tally::{Counts, Tally};

/// How much is read at once, in bytes.
const READ: usize = 64 * 1024;

/// What one thread counts, and what it reads into: its connections take turns.
pub struct Desk {
    pub tally: Tally,
    pub scratch: Box<[u8]>,
}

impl Default for Desk {
    fn default() -> Self {
        Desk {
            tally: Tally::default(),
            scratch: vec![0; READ].into(),
        }
    }
}

/// What all threads share of a run.
#[derive(Debug)]
pub struct Run {
    pub plan: Plan,
    /// Marks this run's messages.
    pub id: u32,
    /// Requests that were allowed so far, where they are counted.
    allowed: AtomicU64,
}

impl Run {
    /// A run that has not begun.
    pub fn new(plan: Plan) -> Self {
        Run {
            plan,
            id: rand::random(),
            allowed: AtomicU64::new(0),
        }
    }

    /// Whether one more request may be made at that time, in a closed loop. Who asks has to make it.
    pub fn allows(&self, now: u64) -> bool {
        let in_time = self.plan.time.is_none_or(|time| now < nanos(time));
        in_time
            && self
                .plan
                .count
                .is_none_or(|count| self.allowed.fetch_add(1, Ordering::Relaxed) < count)
    }

    /// Whether no more requests are made from that time on, when so many have been.
    pub fn is_sent(&self, now: u64, counts: &Counts) -> bool {
        let Plan { time, count, .. } = self.plan;
        match self.plan.pace {
            Pace::Closed(_) => {
                time.is_some_and(|time| now >= nanos(time))
                    || count.is_some_and(|count| counts.sent >= count)
            }
            Pace::Open(rate) => {
                counts.sent == counts.scheduled
                    && counts.scheduled >= Schedule::length(rate, time, count)
            }
        }
    }
}

/// Where one thread's work happens, from the moment when the run begins.
#[derive(Clone)]
pub struct Floor {
    pub run: Arc<Run>,
    pub desk: Arc<Mutex<Desk>>,
    pub begun: Instant,
}

impl Floor {
    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        nanos(self.begun.elapsed())
    }

    /// In a closed loop, whether a user with so many open requests makes another one now.
    pub fn allows(&self, open: usize, now: u64) -> bool {
        match self.run.plan.pace {
            Pace::Closed(outstanding) => open < outstanding && self.run.allows(now),
            Pace::Open(_) => false,
        }
    }
}

/// A duration in nanoseconds.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

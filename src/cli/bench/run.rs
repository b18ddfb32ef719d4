//! A run of `imd bench`, and one thread's view of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use imd::load::{Schedule, nanos};
use parking_lot::Mutex;

use super::args::{Pace, Plan};
use super::tally::{Counts, Tally};

/// What all threads share of a run.
#[derive(Debug)]
pub struct Run {
    pub plan: Plan,
    /// Distinguishes the messages of this run from those that inboxes held before.
    pub id: u32,
    /// How many requests were allowed so far in a closed loop that ends after a number of them.
    allowed: AtomicU64,
}

impl Run {
    /// Creates a run that has not begun.
    pub fn new(plan: Plan) -> Self {
        Run {
            plan,
            id: rand::random(),
            allowed: AtomicU64::new(0),
        }
    }

    /// Allows one more request of a closed loop, unless the run is over. An allowed request must be made.
    fn allows(&self, now: u64) -> bool {
        let Plan { time, count, .. } = self.plan;
        time.is_none_or(|time| now < nanos(time))
            && count.is_none_or(|count| self.allowed.fetch_add(1, Ordering::Relaxed) < count)
    }

    /// Whether all requests of the run have been made.
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

/// What the connections of one thread share. Clones share it too.
#[derive(Clone)]
pub struct WorkerState {
    pub run: Arc<Run>,
    /// What this thread has counted; other threads only read it.
    pub tally: Arc<Mutex<Tally>>,
    /// When the run began.
    pub begun: Instant,
}

impl WorkerState {
    /// Returns the nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        nanos(self.begun.elapsed())
    }

    /// Allows a user with `open` unanswered requests one more, in a closed loop. An allowed request must be made.
    pub fn allows(&self, open: usize, now: u64) -> bool {
        match self.run.plan.pace {
            Pace::Closed(outstanding) => open < outstanding && self.run.allows(now),
            Pace::Open(_) => false,
        }
    }
}

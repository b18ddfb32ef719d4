//! Holds the state of a run of `imd bench`, and the part of it that the users of one thread share.
//!
//! Serves `worker`, `user` and `dialer`. It decides when another request may be made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use imd::load::{Mailbox, Schedule, nanos};
use parking_lot::Mutex;

use super::args::{Pace, Plan};
use super::tally::{Counts, Tally};

/// The state of a run that all threads share.
#[derive(Debug)]
pub struct Run {
    /// What the run does.
    pub plan: Plan,
    /// Random id of the run, which tells its messages from those that inboxes held before.
    pub id: u32,
    /// The mailboxes of all users, by their numbers.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// Number of requests that a closed loop with a count has allowed so far.
    allowed: AtomicU64,
}

impl Run {
    /// Creates the state of a run that has not begun.
    pub fn new(plan: Plan) -> Self {
        Run {
            id: rand::random(),
            mailboxes: (0..plan.users).map(|_| Arc::default()).collect(),
            plan,
            allowed: AtomicU64::new(0),
        }
    }

    /// Returns whether one more request of a closed loop may be made. A request that was allowed has to be made,
    /// because it is counted.
    fn allows(&self, now: u64) -> bool {
        let Plan { time, count, .. } = self.plan;
        time.is_none_or(|time| now < nanos(time))
            && count.is_none_or(|count| self.allowed.fetch_add(1, Ordering::Relaxed) < count)
    }

    /// Returns whether all requests of the run were made.
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

/// The state that the connections of one thread share. Clones refer to the same state.
#[derive(Clone)]
pub struct WorkerState {
    pub run: Arc<Run>,
    /// The counts of this thread. Other threads only read them.
    pub tally: Arc<Mutex<Tally>>,
    /// When the run began. All times are measured from it.
    pub begun: Instant,
}

impl WorkerState {
    /// Returns the time since the run began, in nanoseconds.
    pub fn now(&self) -> u64 {
        nanos(self.begun.elapsed())
    }

    /// Returns whether a user with `open` requests that are not done may make one more, in a closed loop. A request that was
    /// allowed has to be made.
    pub fn allows(&self, open: usize, now: u64) -> bool {
        match self.run.plan.pace {
            Pace::Closed(outstanding) => open < outstanding && self.run.allows(now),
            Pace::Open(_) => false,
        }
    }
}

//! One rule in force: what it counts, and when it fires.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::{Action, Fault, Passing, Site};

/// A rule in force, and what it has done so far.
#[derive(Debug)]
pub(super) struct Rule {
    pub name: String,
    pub fault: Fault,
    /// None if it has no end.
    until: Option<Duration>,
    state: Mutex<State>,
    hits: AtomicU64,
    /// Cancelled when the rule is no longer in force: what it holds is released.
    pub ended: CancellationToken,
}

#[derive(Debug)]
struct State {
    seen: u64,
    chance: SmallRng,
}

impl Rule {
    /// A rule that has seen nothing. `seed` decides what it chooses by chance.
    pub fn new(name: String, fault: Fault, now: Duration, seed: u64) -> Rule {
        Rule {
            until: fault.lasting.map(|time| now + time),
            fault: fault.named(&name),
            state: Mutex::new(State {
                seen: 0,
                chance: SmallRng::seed_from_u64(seed),
            }),
            hits: AtomicU64::new(0),
            ended: CancellationToken::new(),
            name,
        }
    }

    /// Whether what passes is what the rule is about.
    pub fn matches(&self, at: Site, passing: &Passing<'_>, now: Duration) -> bool {
        let fault = &self.fault;
        fault.at == at
            && self.until.is_none_or(|until| now < until)
            && fault.uid.is_none_or(|uid| passing.uid == Some(uid))
            && fault.session.is_none_or(|id| passing.session == Some(id))
            && fault.cmd.is_none_or(|cmd| passing.cmd == Some(cmd))
            && (fault.access.as_deref()).is_none_or(|name| passing.access == Some(name))
    }

    /// Counts what matches, and says what the rule would do to it. Called for everything that matches, also where another
    /// rule comes first: so what a rule counts and draws depends on nothing but its seed and on what matches.
    pub fn counts(&self) -> Option<Action> {
        let mut state = self.state.lock();
        state.seen += 1;
        if state.seen <= self.fault.after || self.is_spent() {
            return None;
        }
        if self.fault.probability < 1.0 && !state.chance.random_bool(self.fault.probability) {
            return None;
        }
        Some(match self.fault.action {
            Action::Delay { by, jitter } if !jitter.is_zero() => Action::Delay {
                by: by + jitter.mul_f64(state.chance.random::<f64>()),
                jitter: Duration::ZERO,
            },
            action => action,
        })
    }

    fn is_spent(&self) -> bool {
        self.fault.times.is_some_and(|times| self.hits() >= times)
    }

    /// It has done something.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has done something.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

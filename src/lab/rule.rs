//! A rule in force: which frames and calls it matches, when it fires, and its counters.
//!
//! Serves `faults`, which holds the rules. What a rule counts and the numbers that it draws depend on its seed and on its
//! own matches alone, so that the same run of a test gets the same faults, whatever other rules are in force. Its `times`
//! count hits only: a match that an earlier rule hits does not use them up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::{Action, Fault, FrameContext, Site};

/// A rule in force with its counters.
#[derive(Debug)]
pub(super) struct Rule {
    pub name: String,
    pub fault: Fault,
    /// Time of `imd`'s clock from which the rule matches nothing; `None` for a rule without a duration.
    until: Option<Duration>,
    draws: Mutex<Draws>,
    hits: AtomicU64,
    /// Cancelled when the rule is removed, which releases every frame and call that it holds back.
    pub ended: CancellationToken,
}

/// The state that decides whether the next match fires.
#[derive(Debug)]
struct Draws {
    /// Number of matches so far.
    seen: u64,
    random: SmallRng,
}

impl Rule {
    /// Creates a rule that has matched nothing yet. `seed` determines its random choices.
    pub fn new(name: String, fault: Fault, now: Duration, seed: u64) -> Rule {
        Rule {
            until: fault.lasting.map(|time| now + time),
            fault: fault.named(&name),
            draws: Mutex::new(Draws {
                seen: 0,
                random: SmallRng::seed_from_u64(seed),
            }),
            hits: AtomicU64::new(0),
            ended: CancellationToken::new(),
            name,
        }
    }

    /// Returns whether the rule's site and filters match.
    pub fn matches(&self, at: Site, context: &FrameContext<'_>, now: Duration) -> bool {
        let fault = &self.fault;
        fault.at == at
            && self.until.is_none_or(|until| now < until)
            && fault.uid.is_none_or(|uid| context.uid == Some(uid))
            && fault.session.is_none_or(|id| context.session == Some(id))
            && fault.cmd.is_none_or(|cmd| context.cmd == Some(cmd))
            && (fault.access.as_deref()).is_none_or(|name| context.access == Some(name))
    }

    /// Counts a match, and returns the action if the rule fires for it.
    ///
    /// This is called for every match, also when an earlier rule has fired for the same frame. So the counters and random
    /// choices of a rule depend on its seed and its matches alone, and not on the other rules.
    pub fn fire_if_due(&self) -> Option<Action> {
        let mut draws = self.draws.lock();
        draws.seen += 1;
        if draws.seen <= self.fault.after || self.is_spent() {
            return None;
        }
        if self.fault.probability < 1.0 && !draws.random.random_bool(self.fault.probability) {
            return None;
        }
        Some(match self.fault.action {
            Action::Delay { by, jitter } if !jitter.is_zero() => Action::Delay {
                by: by + jitter.mul_f64(draws.random.random::<f64>()),
                jitter: Duration::ZERO,
            },
            action => action,
        })
    }

    fn is_spent(&self) -> bool {
        self.fault.times.is_some_and(|times| self.hits() >= times)
    }

    /// Counts a hit: the action is about to be applied.
    pub fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often the rule's action was applied.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

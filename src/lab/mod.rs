//! The lab: failures on command, and what has passed, to look at.
//!
//! Nothing is paid for it while nothing is injected and nobody records: each place that could fail asks one relaxed load,
//! [`Lab::watches`] or [`Lab::records`], and goes on.
//!
//! | file | what it does |
//! |---|---|
//! | `site`, `action` | where a fault can be, and what it does there |
//! | `fault`, `form`, `written`, `check` | one rule, how it is written, and whether it can be |
//! | `faults`, `rule` | the rules in force, and what each of them counts |
//! | `hold` | what a rule holds back, and its release |
//! | `journal`, `describe` | what has passed, and how it is told |
//! | `switches` | the one load |

mod action;
mod check;
mod describe;
mod fault;
mod faults;
mod form;
mod hold;
mod journal;
mod rule;
mod site;
mod switches;
mod written;

pub use action::Action;
pub use check::FaultError;
pub use describe::{describe, describe_frame};
pub use fault::Fault;
pub use faults::{FaultGuard, Faults, Hit, Listed, Passing};
pub use hold::{Held, Hold};
pub use journal::{
    Bounds, Capture, Event, Frames, Journal, MARKED, Mark, Missed, Page, Reader, Record, Step,
    Unknowable, What,
};
pub use site::{Direction, Site};

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use switches::Switches;

/// Whether the lab is compiled out: `RUSTFLAGS="--cfg imd_without_lab"`, for the benchmark that says what it costs.
pub(crate) const IS_LEFT_OUT: bool = cfg!(imd_without_lab);

/// What stands for the gateway wherever access servers stand by their names. None of them may be called that.
pub const GATEWAY: &str = "gateway";

/// The faults and the journal of one `imd`.
#[derive(Debug)]
pub struct Lab {
    switches: Arc<Switches>,
    faults: Arc<Faults>,
    journal: Arc<Journal>,
    addresses: Mutex<Addresses>,
}

/// So many addresses that were listed once are remembered.
const MOST_GONE: usize = 64;

/// What the gateway has on its list, and what was on it.
#[derive(Debug, Default)]
struct Addresses {
    listed: Vec<String>,
    /// The newest last.
    gone: Vec<String>,
}

impl Lab {
    /// A lab in which nothing fails. `seed` decides what faults choose by chance.
    pub fn new(clock: Arc<dyn Clock>, seed: u64, capture: Capture, bounds: Bounds) -> Arc<Lab> {
        let switches = Arc::new(Switches::default());
        let faults = Faults::new(Arc::clone(&switches), Arc::clone(&clock), seed);
        let journal = Journal::new(Arc::clone(&switches), clock, capture, bounds);
        Arc::new(Lab {
            switches,
            faults: Arc::new(faults),
            journal: Arc::new(journal),
            addresses: Mutex::default(),
        })
    }

    /// One that is not used.
    #[cfg(test)]
    pub fn idle() -> Arc<Lab> {
        let bounds = Bounds {
            events: 0,
            bytes: 0,
        };
        let clock = Arc::new(crate::clock::ManualClock::default());
        Lab::new(clock, 0, Capture::Off, bounds)
    }

    /// The rules.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// What has passed.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Whether there are no rules and nothing is recorded. One relaxed load.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.switches.are_off()
    }

    /// The gateway's list has changed: for faults that give out what is on it no longer.
    pub fn listed(&self, now: &[String]) {
        let mut addresses = self.addresses.lock();
        let known = std::mem::replace(&mut addresses.listed, now.to_vec());
        addresses.gone.extend(known);
        addresses.gone.retain(|addr| !now.contains(addr));
        let many = addresses.gone.len().saturating_sub(MOST_GONE);
        addresses.gone.drain(..many);
    }

    /// The gateway's list begins anew: nothing was ever on it.
    pub fn forget_addresses(&self) {
        *self.addresses.lock() = Addresses::default();
    }

    /// The address that went off the gateway's list last, if one ever did.
    pub fn gone_address(&self) -> Option<String> {
        self.addresses.lock().gone.last().cloned()
    }

    /// Whether there is a rule for one of these sites. One relaxed load.
    #[inline]
    pub fn watches<const N: usize>(&self, sites: [Site; N]) -> bool {
        self.switches.watches(sites)
    }

    /// Whether what passes is recorded. One relaxed load.
    #[inline]
    pub fn records(&self) -> bool {
        self.switches.records()
    }

    /// What happens to what passes a site: mostly nothing. A rule is hit only where its action `can` do something to what
    /// passes. The caller records the hit.
    pub fn hit(
        &self,
        at: Site,
        passing: &Passing<'_>,
        can: impl Fn(&Action) -> bool,
    ) -> Option<Hit> {
        if !self.watches([at]) {
            return None;
        }
        self.faults.at(at, passing, &can)
    }

    /// As [`hit`](Self::hit) where no frame passes, recorded.
    pub fn meet(
        &self,
        at: Site,
        passing: &Passing<'_>,
        can: impl Fn(&Action) -> bool,
    ) -> Option<Hit> {
        let hit = self.hit(at, passing, can)?;
        if self.records() {
            self.journal.push(Record {
                what: What::Fault(hit.name.clone(), hit.action.name()),
                server: &passing.access.unwrap_or(at.name()).into(),
                session: None,
                uid: passing.uid,
                cmd: None,
                frame: &[],
            });
        } else {
            self.journal.passed_unrecorded();
        }
        Some(hit)
    }
}

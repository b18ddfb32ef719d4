//! Fault injection, and the journal of frames and events.
//!
//! Serves sessions, services and the registration of access servers, which ask this module at every point where a fault can
//! be injected, and tests, which inject faults and read the journal. While no rule is in force and nothing is recorded, each
//! of these checks is one relaxed atomic load ([`Lab::has_rule_at`], [`Lab::is_recording`]).
//!
//! | file | content |
//! |---|---|
//! | `site`, `action` | the points where faults can be injected, and what a fault does there |
//! | `fault`, `rule_table`, `raw_value`, `check` | one rule: as Rust builds it, as TOML and JSON write it, and its validation |
//! | `faults`, `rule`, `context` | the rules in force, the counters of each, and what their filters compare |
//! | `hold` | frames and calls that a rule holds back, and their release |
//! | `journal`, `describe` | recorded events, and their text for people |
//! | `switches` | the atomic word behind the relaxed load |

mod action;
mod check;
mod context;
mod describe;
mod fault;
mod faults;
mod hold;
mod journal;
mod raw_value;
mod rule;
mod rule_table;
mod site;
mod switches;

pub use action::Action;
pub use check::FaultError;
pub use context::FrameContext;
pub use describe::{describe, describe_frame};
pub use fault::Fault;
pub use faults::{FaultGuard, FaultStatus, Faults, Hit};
pub use hold::{Hold, UntilRelease};
pub use journal::{
    Bounds, Capture, Event, EventKind, Frames, Journal, MARKED, Mark, Missed, Page, Reader, Record,
    Step, Unknowable,
};
pub use site::{Direction, Site};

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use switches::Switches;

/// Whether the lab is compiled out. `RUSTFLAGS="--cfg imd_without_lab"` does so, for the benchmark that measures what the
/// checks cost.
pub(crate) const IS_LEFT_OUT: bool = cfg!(imd_without_lab);

/// Name of the gateway wherever servers are listed by name. The config refuses an access server of this name.
pub const GATEWAY: &str = "gateway";

/// The fault rules and the journal of one `imd`.
#[derive(Debug)]
pub struct Lab {
    switches: Arc<Switches>,
    faults: Arc<Faults>,
    journal: Arc<Journal>,
    addresses: Mutex<Addresses>,
}

/// How many addresses that left the gateway's list are remembered.
const MAX_GONE: usize = 64;

/// The addresses on the gateway's list, and those that were on it before. [`Action::Stale`] answers with one of the latter.
#[derive(Debug, Default)]
struct Addresses {
    listed: Vec<String>,
    /// Addresses that left the list, oldest first, at most [`MAX_GONE`].
    gone: Vec<String>,
}

impl Lab {
    /// Creates a lab without rules. `seed` determines every random choice of the rules.
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

    /// Creates a lab that injects and records nothing, for unit tests of other modules.
    #[cfg(test)]
    pub fn idle() -> Arc<Lab> {
        let bounds = Bounds {
            events: 0,
            bytes: 0,
        };
        let clock = Arc::new(crate::clock::ManualClock::default());
        Lab::new(clock, 0, Capture::Off, bounds)
    }

    /// Returns the fault rules.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// Returns the journal.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Returns whether no rule is in force and nothing is recorded. Costs one relaxed load.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.switches.are_off()
    }

    /// Notes the gateway's new list of addresses, so that [`Action::Stale`] can answer with one that has left it.
    pub fn note_addresses(&self, listed: &[String]) {
        let mut addresses = self.addresses.lock();
        let known = std::mem::replace(&mut addresses.listed, listed.to_vec());
        addresses.gone.extend(known);
        addresses.gone.retain(|addr| !listed.contains(addr));
        let excess = addresses.gone.len().saturating_sub(MAX_GONE);
        addresses.gone.drain(..excess);
    }

    /// Forgets every address that the gateway has ever listed, as a reset of the stack does.
    pub fn forget_addresses(&self) {
        *self.addresses.lock() = Addresses::default();
    }

    /// Returns the address that left the gateway's list most recently, or `None` if none ever did.
    pub fn gone_address(&self) -> Option<String> {
        self.addresses.lock().gone.last().cloned()
    }

    /// Returns whether a rule is in force at one of these sites. Costs one relaxed load.
    #[inline]
    pub fn has_rule_at<const N: usize>(&self, sites: [Site; N]) -> bool {
        self.switches.has_rule_at(sites)
    }

    /// Returns whether the journal records frames and events. Costs one relaxed load.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.switches.is_recording()
    }

    /// Finds the rule that hits a frame of a session, or its connection, at a site. Returns `None` in the common case, which
    /// costs one relaxed load while no rule is in force at the site.
    ///
    /// A rule whose action does not apply to this frame, as the caller says with `applies`, does not hit it. A hit is recorded,
    /// as [`record`](Self::record) does it.
    pub fn find_and_record_hit<'a>(
        &self,
        at: Site,
        context: &FrameContext<'_>,
        applies: impl Fn(&Action) -> bool,
        to_record: impl FnOnce(EventKind) -> Record<'a>,
    ) -> Option<Hit> {
        if !self.has_rule_at([at]) {
            return None;
        }
        let hit = self.faults.find_hit(at, context, &applies)?;
        let what = EventKind::Fault(hit.name.clone(), hit.action.name());
        self.record(what, to_record);
        Some(hit)
    }

    /// Finds the rule that hits a call without a frame at a site, as [`find_and_record_hit`](Self::find_and_record_hit)
    /// does, and records the hit.
    pub fn find_and_record_call_hit(
        &self,
        at: Site,
        context: &FrameContext<'_>,
        applies: impl Fn(&Action) -> bool,
    ) -> Option<Hit> {
        // Asked here too, so that the name is copied only if there is a rule.
        if !self.has_rule_at([at]) {
            return None;
        }
        let server = &Arc::from(context.access.unwrap_or(at.name()));
        self.find_and_record_hit(at, context, applies, |what| Record {
            what,
            server,
            session: None,
            uid: context.uid,
            cmd: None,
            frame: &[],
        })
    }

    /// Records an event in the journal, or counts it as unrecorded while nothing is recorded. `to_record` makes the record of
    /// it, only if it is needed.
    pub fn record<'a>(&self, what: EventKind, to_record: impl FnOnce(EventKind) -> Record<'a>) {
        if self.is_recording() {
            self.journal.push(to_record(what));
        } else if !matches!(what, EventKind::Frame(_)) {
            // The metrics count the frames already.
            self.journal.count_unrecorded();
        }
    }
}

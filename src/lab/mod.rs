//! The lab: failures on command, and what has passed, to look at.
//!
//! Nothing is paid for it while nothing is injected and nobody records: each place that could fail asks one relaxed load,
//! [`Lab::watches`] or [`Lab::records`], and goes on.
//!
//! | file | what it does |
//! |---|---|
//! | `site`, `action` | where a fault can be, and what it does there |
//! | `fault`, `form` | one rule, and how it is written |
//! | `faults` | the rules in force |
//! | `journal`, `describe` | what has passed, and how it is told |
//! | `switches` | the one load |

mod action;
mod describe;
mod fault;
mod faults;
mod form;
mod journal;
mod site;
mod switches;

pub use action::Action;
pub use describe::describe;
pub use fault::{Fault, FaultError};
pub use faults::{FaultGuard, Faults, Hit, Listed, Passing};
pub use journal::{Bounds, Capture, Event, Frames, Journal, Mark, Reader, Record, What};
pub use site::{Direction, Site};

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use switches::Switches;

/// The faults and the journal of one `imd`.
#[derive(Debug)]
pub struct Lab {
    switches: Arc<Switches>,
    faults: Arc<Faults>,
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
}

impl Lab {
    /// A lab in which nothing fails. `seed` decides what faults choose by chance.
    pub fn new(clock: Arc<dyn Clock>, seed: u64, capture: Capture, bounds: Bounds) -> Arc<Lab> {
        let switches = Arc::new(Switches::default());
        let faults = Faults::new(Arc::clone(&switches), Arc::clone(&clock), seed);
        let journal = Journal::new(Arc::clone(&switches), Arc::clone(&clock), capture, bounds);
        Arc::new(Lab {
            switches,
            faults: Arc::new(faults),
            journal: Arc::new(journal),
            clock,
        })
    }

    /// The rules.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// What has passed.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
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

    /// What happens to what passes a site: mostly nothing. Who asks has asked [`watches`](Self::watches) before.
    pub fn hit(&self, at: Site, passing: &Passing<'_>) -> Option<Hit> {
        self.faults.at(at, passing)
    }

    /// The same, after the wait that a [`Action::Delay`] asks for: what is left to do.
    pub async fn pass(&self, at: Site, passing: &Passing<'_>) -> Option<Hit> {
        let hit = self.hit(at, passing)?;
        match hit.action {
            Action::Delay { by, .. } => {
                self.sleep(by).await;
                None
            }
            _ => Some(hit),
        }
    }

    /// Waits by `imd`'s clock.
    pub async fn sleep(&self, time: Duration) {
        if !time.is_zero() {
            self.clock.ticks(time).tick().await;
        }
    }
}

use std::sync::atomic::{AtomicU32, Ordering};

use super::{IS_LEFT_OUT, Site};

/// Which sites have a rule, and whether frames are recorded: what every passing frame asks.
#[derive(Debug, Default)]
pub struct Switches(AtomicU32);

/// Beside the sites, whose bits are the lowest.
const RECORDS: u32 = 1 << 31;

impl Switches {
    /// The one load.
    #[inline]
    fn bits(&self) -> u32 {
        if IS_LEFT_OUT {
            return 0;
        }
        self.0.load(Ordering::Relaxed)
    }

    /// Whether there is neither a rule nor a record.
    #[inline]
    pub fn are_off(&self) -> bool {
        self.bits() == 0
    }

    /// Whether one of these sites has a rule.
    #[inline]
    pub fn watches<const N: usize>(&self, sites: [Site; N]) -> bool {
        let wanted = sites.iter().fold(0, |all, site| all | site.bit());
        self.bits() & wanted != 0
    }

    /// Whether frames are recorded.
    #[inline]
    pub fn records(&self) -> bool {
        self.bits() & RECORDS != 0
    }

    /// From now on these sites have rules, and no others.
    pub fn arm(&self, sites: u32) {
        self.change(|bits| bits & RECORDS | sites);
    }

    /// Whether frames are recorded from now on.
    pub fn record(&self, is_on: bool) {
        self.change(|bits| {
            if is_on {
                bits | RECORDS
            } else {
                bits & !RECORDS
            }
        });
    }

    fn change(&self, change: impl Fn(u32) -> u32) {
        // It always has a value to change to.
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |bits| {
                Some(change(bits))
            });
    }
}

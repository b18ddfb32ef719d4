//! The atomic word that tells which sites have a rule, and whether the journal records.
//!
//! Serves [`Lab`](super::Lab), which reads it for every frame, and `faults` and `journal`, which write it. It keeps the cost
//! of an idle lab to one relaxed load for each check.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{IS_LEFT_OUT, Site};

/// One bit for each [`Site`] that has a rule, and one for the journal.
#[derive(Debug, Default)]
pub struct Switches(AtomicU32);

/// Bit that is set while the journal records. The bits of the sites are the lowest ones.
const IS_RECORDING: u32 = 1 << 31;

impl Switches {
    #[inline]
    fn bits(&self) -> u32 {
        if IS_LEFT_OUT {
            return 0;
        }
        self.0.load(Ordering::Relaxed)
    }

    /// Returns whether no site has a rule and the journal does not record.
    #[inline]
    pub fn are_off(&self) -> bool {
        self.bits() == 0
    }

    /// Returns whether one of these sites has a rule.
    #[inline]
    pub fn has_rule_at<const N: usize>(&self, sites: [Site; N]) -> bool {
        let wanted = sites.iter().fold(0, |all, site| all | site.bit());
        self.bits() & wanted != 0
    }

    /// Returns whether the journal records.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.bits() & IS_RECORDING != 0
    }

    /// Marks exactly the sites in `sites`, a union of [`Site::bit`], as having rules.
    pub fn arm(&self, sites: u32) {
        self.change(|bits| bits & IS_RECORDING | sites);
    }

    /// Switches recording on or off.
    pub fn record(&self, is_on: bool) {
        self.change(|bits| {
            if is_on {
                bits | IS_RECORDING
            } else {
                bits & !IS_RECORDING
            }
        });
    }

    fn change(&self, change: impl Fn(u32) -> u32) {
        // The closure always returns a new value, so this can't fail.
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |bits| {
                Some(change(bits))
            });
    }
}

//! What became of the messages of this run.

use hashbrown::HashMap;
use quick_cache::unsync::Cache;

use super::draft::Touched;
use crate::store::{Ledger, Page};

/// Inboxes that are counted exactly. Of one that falls out, what is still to be delivered counts as never delivered.
const INBOXES: usize = 1 << 18;

/// Counts what is stored and delivered.
#[derive(Debug)]
pub struct Tally {
    ledger: Ledger,
    /// The highest version that stood in a page or was removed, or the newest one before this run.
    delivered: Cache<i64, i64>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            ledger: Ledger::default(),
            delivered: Cache::new(INBOXES),
        }
    }
}

impl Tally {
    /// Inboxes have grown, or were trimmed.
    pub fn committed(&mut self, touched: &HashMap<i64, Touched>) {
        for (&uid, &Touched { before, now }) in touched {
            if now.total > before.total {
                self.ledger.stored += (now.total - before.total).unsigned_abs();
                if !self.delivered.contains_key(&uid) {
                    self.delivered.insert(uid, before.total);
                }
            }
            if now.cut > before.cut {
                self.removed(uid, now.cut);
            }
        }
    }

    /// A page was read.
    pub fn paged(&mut self, uid: i64, page: &Page) {
        let Some(first) = page.entries.first() else {
            return;
        };
        // An inbox that has not grown in this run holds nothing that is counted.
        let Some(mut delivered) = self.delivered.get_mut(&uid) else {
            return;
        };
        let before = (*delivered).max(first.version - 1);
        if page.current > before {
            self.ledger.delivered += (page.current - before).unsigned_abs();
            *delivered = page.current;
        }
    }

    /// Entries of an inbox were removed, up to version `cut`.
    fn removed(&mut self, uid: i64, cut: i64) {
        // An inbox that has not grown in this run holds nothing that is counted.
        let Some(mut delivered) = self.delivered.get_mut(&uid) else {
            return;
        };
        if cut > *delivered {
            self.ledger.removed += (cut - *delivered).unsigned_abs();
            *delivered = cut;
        }
    }

    /// The counts.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }
}

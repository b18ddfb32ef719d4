//! What became of the messages of this run.

use std::collections::HashMap;

use quick_cache::unsync::Cache;

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
    /// So many entries were stored; `begun` has the newest versions before.
    pub fn grew(&mut self, begun: &HashMap<i64, i64>, entries: u64) {
        self.ledger.stored += entries;
        for (&uid, &total) in begun {
            if !self.delivered.contains_key(&uid) {
                self.delivered.insert(uid, total);
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

    /// Entries were removed; `cut` has the last version of each inbox.
    pub fn removed(&mut self, cut: &HashMap<i64, i64>) {
        for (uid, &through) in cut {
            let Some(mut delivered) = self.delivered.get_mut(uid) else {
                continue;
            };
            if through > *delivered {
                self.ledger.removed += (through - *delivered).unsigned_abs();
                *delivered = through;
            }
        }
    }

    /// The counts.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }
}

//! Counts how many entries were stored, delivered and removed in this run.
//!
//! Serves the ledgers of the store: the writer adds each commit, and the store each page that it has served. The counts
//! are in memory, so they begin anew with each start, and with each replacement of the contents.

use std::collections::BinaryHeap;

use hashbrown::HashMap;
use quick_cache::unsync::Cache;

use super::bounds::InboxChange;
use crate::id::{Uid, Version};
use crate::store::{Ledger, Page};

/// How many inboxes are counted one by one. When one is evicted, its entries that were neither delivered nor removed
/// stay pending for ever.
const COUNTED_INBOXES: usize = 1 << 18;

/// The counts of stored, delivered and removed entries.
#[derive(Debug)]
pub struct DeliveryCounts {
    ledger: Ledger,
    inboxes: Cache<Uid, InboxCounts>,
}

/// The counts of an inbox that has grown in this run.
#[derive(Debug, Clone, Copy)]
struct InboxCounts {
    /// The newest version that was in a page or was removed, or that was there before this run.
    accounted_through: Version,
    ledger: Ledger,
}

impl Default for DeliveryCounts {
    fn default() -> Self {
        DeliveryCounts {
            ledger: Ledger::default(),
            inboxes: Cache::new(COUNTED_INBOXES),
        }
    }
}

impl DeliveryCounts {
    /// Counts the entries that a commit has stored and removed.
    pub fn committed(&mut self, changes: &HashMap<Uid, InboxChange>) {
        for (&uid, change) in changes {
            let (old, new) = (change.old.bounds, change.new.bounds);
            if new.total > old.total {
                let added = (new.total - old.total).unsigned_abs();
                self.ledger.stored += added;
                let counted = self.inboxes.get(&uid).copied();
                let mut counted = counted.unwrap_or(InboxCounts {
                    accounted_through: old.total,
                    ledger: Ledger::default(),
                });
                counted.ledger.stored += added;
                self.inboxes.insert(uid, counted);
            }
            if new.trimmed_through > old.trimmed_through {
                self.trimmed(uid, new.trimmed_through);
            }
        }
    }

    /// Counts the entries of a page that was read.
    pub fn count_delivered(&mut self, uid: Uid, page: &Page) {
        let Some(first) = page.entries.first() else {
            return;
        };
        // An inbox that has not grown in this run has no entries that count.
        let Some(mut counted) = self.inboxes.get_mut(&uid) else {
            return;
        };
        let before = counted.accounted_through.max(first.version - 1);
        if page.current > before {
            let new = (page.current - before).unsigned_abs();
            self.ledger.delivered += new;
            counted.ledger.delivered += new;
            counted.accounted_through = page.current;
        }
    }

    /// Counts the entries up to version `through` as removed, unless they were delivered before.
    fn trimmed(&mut self, uid: Uid, through: Version) {
        // An inbox that has not grown in this run has no entries that count.
        let Some(mut counted) = self.inboxes.get_mut(&uid) else {
            return;
        };
        if through > counted.accounted_through {
            let new = (through - counted.accounted_through).unsigned_abs();
            self.ledger.removed += new;
            counted.ledger.removed += new;
            counted.accounted_through = through;
        }
    }

    /// Returns the counts of the inboxes of users above `after` that have grown in this run, by uid: the first `limit`.
    pub fn ledgers(&self, after: Uid, limit: usize) -> Vec<(Uid, Ledger)> {
        let uids = smallest(self.inboxes.iter().map(|(&uid, _)| uid), after, limit);
        let ledger = |uid| Some((uid, self.inboxes.peek(&uid)?.ledger));
        uids.into_iter().filter_map(ledger).collect()
    }

    /// Returns the counts of all inboxes together.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }
}

/// Returns the smallest of `keys` that are greater than `after`, in ascending order, at most `limit` of them.
fn smallest<K: Ord + Copy>(keys: impl Iterator<Item = K>, after: K, limit: usize) -> Vec<K> {
    let mut kept = BinaryHeap::new();
    for key in keys.filter(|&key| key > after) {
        if kept.len() < limit {
            kept.push(key);
        } else if let Some(mut largest) = kept.peek_mut()
            && key < *largest
        {
            *largest = key;
        }
    }
    kept.into_sorted_vec()
}

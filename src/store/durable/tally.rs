//! What became of the messages of this run.

use std::collections::BinaryHeap;

use hashbrown::HashMap;
use quick_cache::unsync::Cache;

use super::draft::Touched;
use crate::id::{Uid, Version};
use crate::store::{Ledger, Page};

/// Inboxes that are counted exactly. Of one that falls out, what is still to be delivered counts as never delivered.
const INBOXES: usize = 1 << 18;

/// Counts what is stored and delivered.
#[derive(Debug)]
pub struct Tally {
    ledger: Ledger,
    inboxes: Cache<Uid, Counted>,
}

/// An inbox that has grown in this run.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// The highest version that stood in a page or was removed, or the newest one before this run.
    delivered: Version,
    ledger: Ledger,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            ledger: Ledger::default(),
            inboxes: Cache::new(INBOXES),
        }
    }
}

impl Tally {
    /// Inboxes have grown, or were trimmed.
    pub fn committed(&mut self, touched: &HashMap<Uid, Touched>) {
        for (&uid, &Touched { before, now }) in touched {
            if now.total > before.total {
                let new = (now.total - before.total).unsigned_abs();
                self.ledger.stored += new;
                let counted = self.inboxes.get(&uid).copied();
                let mut counted = counted.unwrap_or(Counted {
                    delivered: before.total,
                    ledger: Ledger::default(),
                });
                counted.ledger.stored += new;
                self.inboxes.insert(uid, counted);
            }
            if now.cut > before.cut {
                self.removed(uid, now.cut);
            }
        }
    }

    /// A page was read.
    pub fn paged(&mut self, uid: Uid, page: &Page) {
        let Some(first) = page.entries.first() else {
            return;
        };
        // An inbox that has not grown in this run holds nothing that is counted.
        let Some(mut counted) = self.inboxes.get_mut(&uid) else {
            return;
        };
        let before = counted.delivered.max(first.version - 1);
        if page.current > before {
            let new = (page.current - before).unsigned_abs();
            self.ledger.delivered += new;
            counted.ledger.delivered += new;
            counted.delivered = page.current;
        }
    }

    /// Entries of an inbox were removed, up to version `cut`.
    fn removed(&mut self, uid: Uid, cut: Version) {
        // An inbox that has not grown in this run holds nothing that is counted.
        let Some(mut counted) = self.inboxes.get_mut(&uid) else {
            return;
        };
        if cut > counted.delivered {
            let new = (cut - counted.delivered).unsigned_abs();
            self.ledger.removed += new;
            counted.ledger.removed += new;
            counted.delivered = cut;
        }
    }

    /// The counts of the inboxes above uid `after`, by uid: the first so many. Each of them has grown.
    pub fn ledgers(&self, after: Uid, most: usize) -> Vec<(Uid, Ledger)> {
        let uids = smallest(self.inboxes.iter().map(|(&uid, _)| uid), after, most);
        let ledger = |uid| Some((uid, self.inboxes.peek(&uid)?.ledger));
        uids.into_iter().filter_map(ledger).collect()
    }

    /// The counts.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }
}

/// Returns the smallest of `keys` that are greater than `after`, in ascending order, `most` of them at most.
fn smallest<K: Ord + Copy>(keys: impl Iterator<Item = K>, after: K, most: usize) -> Vec<K> {
    let mut kept = BinaryHeap::new();
    for key in keys.filter(|&key| key > after) {
        if kept.len() < most {
            kept.push(key);
        } else if let Some(mut largest) = kept.peek_mut()
            && key < *largest
        {
            *largest = key;
        }
    }
    kept.into_sorted_vec()
}

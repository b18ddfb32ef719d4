use std::sync::atomic::{AtomicU64, Ordering};

use crate::lab;
use crate::store::Page;

/// What clients were told that was not so: nothing, unless a fault or a quirk wants it. Counts alone, whatever the number
/// of messages.
#[derive(Debug, Default)]
pub struct Audit {
    lost: AtomicU64,
    repeated: AtomicU64,
    swapped: AtomicU64,
}

/// The counts so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audited {
    /// Messages that were acknowledged and not stored, and entries that a page passed over.
    pub lost: u64,
    /// Entries of a page that its reader had asked to come after.
    pub repeated: u64,
    /// Entries that stood before older ones.
    pub swapped: u64,
}

impl Audit {
    /// So many messages are lost, and nobody was told.
    pub fn lost(&self, messages: u64) {
        self.lost.fetch_add(messages, Ordering::Relaxed);
    }

    /// A page goes to who has asked for what comes after version `after`.
    pub fn page(&self, after: i64, page: &Page) {
        if lab::IS_LEFT_OUT {
            return;
        }
        // Beyond the inbox: it was answered from the beginning.
        let after = if after > page.total { 0 } else { after };
        let mut found = Audited::default();
        let mut last = None;
        for entry in &page.entries {
            let version = entry.version;
            found.repeated += u64::from(version <= after);
            if let Some(last) = last {
                found.swapped += u64::from(version <= last);
                found.lost += u64::try_from(version - last - 1).unwrap_or(0);
            }
            last = Some(version);
        }
        if found != Audited::default() {
            self.lost(found.lost);
            self.repeated.fetch_add(found.repeated, Ordering::Relaxed);
            self.swapped.fetch_add(found.swapped, Ordering::Relaxed);
        }
    }

    /// The counts.
    pub fn read(&self) -> Audited {
        Audited {
            lost: self.lost.load(Ordering::Relaxed),
            repeated: self.repeated.load(Ordering::Relaxed),
            swapped: self.swapped.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entry, Kind, Message};
    use std::sync::Arc;

    fn audited(after: i64, versions: &[i64]) -> Audited {
        let message = Arc::new(Message::new(Kind::P2p, 1, 0, "id", "text", 1));
        let entry = |&version: &i64| Entry {
            version,
            message: Arc::clone(&message),
        };
        let audit = Audit::default();
        audit.page(
            after,
            &Page {
                entries: versions.iter().map(entry).collect(),
                current: 0,
                total: 9,
            },
        );
        audit.read()
    }

    #[test]
    fn what_is_not_so_is_counted() {
        let nothing = Audited::default();
        assert_eq!(audited(0, &[]), nothing);
        assert_eq!(audited(2, &[3, 4, 5]), nothing);
        // Where old ones were removed, a page begins later; one from beyond the inbox begins at its start.
        assert_eq!(audited(2, &[7, 8]), nothing);
        assert_eq!(audited(99, &[1, 2]), nothing);
        let (lost, repeated, swapped) = (1, 1, 1);
        assert_eq!(audited(0, &[1, 3]), Audited { lost, ..nothing });
        assert_eq!(
            audited(3, &[3, 4]),
            Audited {
                repeated,
                ..nothing
            }
        );
        assert_eq!(audited(0, &[2, 1]), Audited { swapped, ..nothing });
        assert_eq!(audited(0, &[1, 1]), Audited { swapped, ..nothing });
    }
}

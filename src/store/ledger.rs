//! Ledgers: counts of what became of the messages that a store has taken.
//!
//! Serves [`StoreAdmin`](super::StoreAdmin), which returns one for the whole store and one for each inbox; the report
//! of a stack is made of them. Every entry in `delivered` or `removed` is also in `stored`, and in only one of the two.

/// Counts of what became of the messages of this run: one for each receiver of each message. The counts begin anew when
/// the contents of the store are [replaced](super::StoreAdmin::replace).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The entries that were put into inboxes.
    pub stored: u64,
    /// The entries of `stored` that were read in a page by [`read_page`](super::MessageStore::read_page). An entry that
    /// is read after newer ones of its inbox is not counted.
    pub delivered: u64,
    /// The entries of `stored` that were removed before they or newer ones of their inbox were read.
    pub removed: u64,
}

impl Ledger {
    /// Returns the number of entries that were neither read nor removed.
    pub fn pending(&self) -> u64 {
        self.stored.saturating_sub(self.delivered + self.removed)
    }
}

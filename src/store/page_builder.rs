//! Fills a page entry by entry, until one of the limits of [`PageLimit`] is reached.
//!
//! Serves every implementation of a store, so that the same request gets the same page from each.

use crate::id::{Uid, Version};
use crate::store::{Entry, Page, PageLimit};

/// A page that is being filled.
pub struct PageBuilder {
    /// The user to whom the page is sent. The size of an entry depends on it.
    uid: Uid,
    /// The version of the last entry so far, or the version after which the page begins.
    current: Version,
    entries: Vec<Entry>,
    /// The limit of the number of entries, and how many bytes may still be added.
    limit: PageLimit,
}

impl PageBuilder {
    /// Creates an empty page of the inbox of `uid`, which begins after version `current`.
    pub fn new(uid: Uid, current: Version, limit: PageLimit) -> Self {
        PageBuilder {
            uid,
            current,
            entries: Vec::new(),
            limit,
        }
    }

    /// Returns whether the page has as many entries as it may have.
    pub fn is_full(&self) -> bool {
        self.limit.entries != 0 && self.entries.len() >= self.limit.entries
    }

    /// Returns whether the page has no entries.
    #[cfg(feature = "durable")]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the version of the last entry so far, or the version after which the page begins.
    #[cfg(feature = "durable")]
    pub fn current(&self) -> Version {
        self.current
    }

    /// Lets a page without entries begin after version `current`.
    #[cfg(feature = "durable")]
    pub fn begin_after(&mut self, current: Version) {
        self.current = current;
    }

    /// Adds the next entry, and returns true; false if it is too large for the rest of the page.
    pub fn add(&mut self, entry: Entry) -> bool {
        match self.limit.bytes.checked_sub(entry.in_page(self.uid).size()) {
            Some(left) => self.limit.bytes = left,
            None => return false,
        }
        self.current = entry.version;
        self.entries.push(entry);
        true
    }

    /// Returns the page. `total` is the newest version of the inbox.
    pub fn finish(self, total: Version) -> Page {
        Page {
            entries: self.entries,
            current: self.current,
            total,
        }
    }
}

use std::sync::Arc;

use super::entries::Entries;
use super::ids::Ids;
use crate::id::{Uid, Version};
use crate::store::{Entry, Ledger, Level, Message, Page, PageLimit};

/// So many entries a page has mostly at the most.
const USUAL_PAGE: usize = 64;

/// The page of an inbox that there is not.
pub(super) const NO_PAGE: Page = Page {
    entries: Vec::new(),
    current: Version::START,
    total: Version::START,
};

/// What was put into an inbox, and what of it is left.
#[derive(Default)]
pub(super) struct Inbox {
    /// The last version that was removed, or 0.
    pub removed: Version,
    /// What is left: the entry of version n is at n - 1 - removed.
    pub entries: Entries,
    /// The read mark. Never below what was removed.
    pub read: Version,
    /// The highest version that stood in a page, or was there before what is counted.
    pub delivered: Version,
    /// What is counted of it.
    pub ledger: Ledger,
    /// The messages that were for this user alone.
    pub ids: Ids<()>,
    /// The last commit that it grew in, and its place among those that did.
    pub grown_in: u64,
    pub grown_at: usize,
}

impl Inbox {
    pub fn total(&self) -> Version {
        self.removed + self.entries.len().cast_signed() as i64
    }

    pub fn level(&self, uid: Uid) -> Level {
        Level {
            uid,
            read: self.read,
            total: self.total(),
        }
    }

    /// Appends an entry, and returns its version; `grown` has one level for each inbox that grew in this commit.
    pub fn append(
        &mut self,
        uid: Uid,
        message: Arc<Message>,
        commit: u64,
        grown: &mut Vec<Level>,
    ) -> Version {
        self.entries.push_back(message);
        self.ledger.stored += 1;
        let level = self.level(uid);
        match grown.get_mut(self.grown_at) {
            Some(known) if self.grown_in == commit => *known = level,
            _ => {
                (self.grown_in, self.grown_at) = (commit, grown.len());
                grown.push(level);
            }
        }
        level.total
    }

    /// The entries after version `after`, and after which version they begin.
    pub fn page(&self, uid: Uid, after: Version, limit: PageLimit) -> (Version, Page) {
        let total = self.total();
        let start = if after <= total {
            self.removed.max(after)
        } else {
            self.removed
        };
        let most = if limit.entries == 0 {
            usize::MAX
        } else {
            limit.entries
        };
        let mut room = limit.bytes;
        let mut current = start;
        let skipped = usize::try_from(start - self.removed).unwrap_or(usize::MAX);
        let found = self.entries.len().saturating_sub(skipped).min(most);
        let mut entries = Vec::with_capacity(found.min(USUAL_PAGE));
        for message in self.entries.after(skipped).take(most) {
            let entry = Entry {
                version: current + 1,
                message: Arc::clone(message),
            };
            match room.checked_sub(entry.in_page(uid).size()) {
                Some(left) => room = left,
                None => break,
            }
            current = entry.version;
            entries.push(entry);
        }
        let page = Page {
            entries,
            current,
            total,
        };
        (start, page)
    }
}

//! The inboxes of a memory store.

use std::sync::Arc;

use super::entries::Entries;
use super::ids::Ids;
use crate::id::{Uid, Version};
use crate::store::page_builder::PageBuilder;
use crate::store::{Entry, InboxState, Ledger, Message, Page, PageLimit};

/// The page of an inbox that has never had an entry.
pub(super) const EMPTY_PAGE: Page = Page {
    entries: Vec::new(),
    current: Version::START,
    total: Version::START,
};

/// An inbox: the entries that are left, and what is known of those that were removed.
#[derive(Default)]
pub(super) struct Inbox {
    /// The newest version that retention has removed, or 0.
    pub trimmed_through: Version,
    /// The entries that are left: that of version n is at the index n - 1 - `trimmed_through`.
    pub entries: Entries,
    /// The read mark. It is never below `trimmed_through`.
    pub read: Version,
    /// The newest version that was in a page, or that was restored from a snapshot.
    pub delivered_through: Version,
    /// The counts of this inbox.
    pub ledger: Ledger,
    /// The messages and acks to this user alone.
    pub ids: Ids<()>,
    /// The number of the last commit that has grown the inbox.
    pub grown_in: u64,
    /// The index of the inbox among those that this commit has grown.
    pub grown_at: usize,
}

impl Inbox {
    /// Returns the newest version.
    pub fn total(&self) -> Version {
        self.trimmed_through + self.entries.len().cast_signed() as i64
    }

    /// Returns what a client is told of the inbox, which is that of `uid`.
    pub fn inbox_state(&self, uid: Uid) -> InboxState {
        InboxState {
            uid,
            read: self.read,
            total: self.total(),
        }
    }

    /// Appends an entry, and returns its version. `grown` has the inboxes that the commit with the number `commit` has
    /// grown, each of them once unless another batch has grown it in between.
    pub fn append(
        &mut self,
        uid: Uid,
        message: Arc<Message>,
        commit: u64,
        grown: &mut Vec<InboxState>,
    ) -> Version {
        self.entries.push_back(message);
        self.ledger.stored += 1;
        let state = self.inbox_state(uid);
        match grown.get_mut(self.grown_at) {
            Some(known) if self.grown_in == commit => *known = state,
            _ => {
                (self.grown_in, self.grown_at) = (commit, grown.len());
                grown.push(state);
            }
        }
        state.total
    }

    /// Returns the entries after version `after` as a page for `uid`, and the version after which they begin.
    pub fn page(&self, uid: Uid, after: Version, limit: PageLimit) -> (Version, Page) {
        let total = self.total();
        let start = if after <= total {
            self.trimmed_through.max(after)
        } else {
            self.trimmed_through
        };
        let skipped = usize::try_from(start - self.trimmed_through).unwrap_or(usize::MAX);
        let mut page = PageBuilder::new(uid, start, limit);
        page.reserve(self.entries.len().saturating_sub(skipped));
        for message in self.entries.after(skipped) {
            if page.is_full() {
                break;
            }
            let entry = Entry {
                version: page.current() + 1,
                message: Arc::clone(message),
            };
            if !page.add(entry) {
                break;
            }
        }
        (start, page.finish(total))
    }
}

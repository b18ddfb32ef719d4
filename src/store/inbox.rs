//! Inboxes as their readers see them: entries, pages, and how far a reader has come.
//!
//! Serves [`MessageStore`](super::MessageStore), which returns these types. The access servers encode a page as the
//! answer to a sync. The directory passes an [`InboxState`] to a session, which encodes it as a notify. The entries of
//! a page follow one another without gaps, whatever retention has removed before them.

use std::sync::Arc;

use super::Message;
use crate::id::{Uid, Version};
use crate::proto::MeasuredEntry;
use crate::proto::fields::Fields;

/// How far an inbox goes, and how far its user has read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxState {
    /// The user to whom the inbox belongs.
    pub uid: Uid,
    /// The newest version that the user has read, or that was removed. All entries that are still to be read are newer.
    pub read: Version,
    /// The newest version of the inbox, or 0 if it has never had an entry.
    pub total: Version,
}

/// An entry of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The number of the entry in its inbox: from 1, without gaps, in the order of storing.
    pub version: Version,
    /// The message. The entries of a message to a group may share it.
    pub message: Arc<Message>,
}

impl Entry {
    /// Returns the entry as it stands in a page of the inbox of `uid`.
    pub fn in_page(&self, uid: Uid) -> MeasuredEntry<'_> {
        self.message.in_page(uid, self.version).measured()
    }
}

/// How much a page may hold. A page ends before the first entry that would exceed one of the limits.
#[derive(Debug, Clone, Copy)]
pub struct PageLimit {
    /// The number of entries; 0 for no limit.
    pub entries: usize,
    /// The size of all entries together, in bytes, as [`MeasuredEntry::size`] counts them.
    pub bytes: usize,
}

/// Consecutive entries of an inbox, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries, without gaps between their versions.
    pub entries: Vec<Entry>,
    /// The version of the last entry. In a page without entries, the version after which it would have begun.
    pub current: Version,
    /// The newest version of the inbox.
    pub total: Version,
}

impl Page {
    /// Returns the version after which the page begins: a sync with it returns the same page.
    pub fn began_after(&self) -> Version {
        let first = self.entries.first();
        first.map_or(self.current, |first| first.version - 1)
    }
}

/// A page whose entries are encoded as they stand in the answer to a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPage {
    /// The encoded entries, without gaps between their versions.
    pub entries: Vec<u8>,
    /// The version of the last entry. In a page without entries, the version after which it would have begun.
    pub current: Version,
    /// The newest version of the inbox.
    pub total: Version,
}

impl EncodedPage {
    /// Encodes a page of the inbox of `uid`.
    pub fn new(uid: Uid, page: &Page) -> Self {
        let mut entries = Vec::new();
        let mut fields = Fields::to(&mut entries);
        for entry in &page.entries {
            entry.in_page(uid).write(&mut fields);
        }
        drop(fields);
        EncodedPage {
            entries,
            current: page.current,
            total: page.total,
        }
    }
}

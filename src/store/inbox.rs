//! Inboxes as their readers see them: entries, pages, and how far a reader has come.

use std::sync::Arc;

use super::Message;
use crate::id::{Uid, Version};
use crate::proto::fields::{Fields, number_len, prefixed_len, text_len};

/// How far an inbox goes, and how far its user has read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
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
    /// The message, shared with the other inboxes that it is in.
    pub message: Arc<Message>,
}

impl Entry {
    /// The field of a `ResSyncMsg` that entries stand in.
    const TAG: u32 = 6;

    /// How many bytes this entry takes in a `ResSyncMsg` to `uid`: an offsetMsg with its field header.
    pub fn wire_len(&self, uid: Uid) -> usize {
        prefixed_len(Self::TAG, self.body_len(uid))
    }

    fn body_len(&self, uid: Uid) -> usize {
        let message = &self.message;
        number_len(1, message.source.0)
            + number_len(2, uid.0)
            + number_len(3, message.group().map_or(0, |group| group.0))
            + text_len(4, message.kind.msg_type())
            + text_len(5, message.msg_id().0)
            + text_len(6, message.text())
            + number_len(7, self.version.0)
            + number_len(8, message.sent_at)
    }

    /// Appends this entry to a `ResSyncMsg` to `uid`.
    pub fn write(&self, uid: Uid, fields: &mut Fields<'_>) {
        let message = &self.message;
        fields.prefix(Self::TAG, self.body_len(uid));
        fields.number(1, message.source.0);
        fields.number(2, uid.0);
        fields.number(3, message.group().map_or(0, |group| group.0));
        fields.text(4, message.kind.msg_type());
        fields.text(5, message.msg_id().0);
        fields.text(6, message.text());
        fields.number(7, self.version.0);
        fields.number(8, message.sent_at);
    }
}

/// How much a page may hold. A page ends before the first entry that would exceed one of the limits.
#[derive(Debug, Clone, Copy)]
pub struct PageLimit {
    /// The number of entries; 0 for no limit.
    pub entries: usize,
    /// The size of all entries together, in bytes, as [`Entry::wire_len`] counts them.
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

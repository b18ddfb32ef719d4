//! The bounds of an inbox: where its entries begin and end, and how far they were read.
//!
//! Serves the readers, the draft of a commit and the cache of the newest entries, which all work on bounds.

use super::engine::{EngineError, Key, Value, View};
use super::record::{self, EntryRecord, Record};
use crate::id::{Uid, Version};
use crate::store::InboxState;

/// The bounds of an inbox. The versions of its entries are `trimmed_through` + 1 to `total`, without gaps.
#[derive(Debug, Clone, Copy, Default)]
pub struct InboxBounds {
    /// The newest version, or 0 if the inbox has never had an entry.
    pub total: Version,
    /// The read mark as it was set. It may be below `trimmed_through`.
    pub read: Version,
    /// The newest version that retention has removed, or 0 if it has removed none.
    pub trimmed_through: Version,
}

impl InboxBounds {
    /// Reads the bounds of an inbox.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when a record of them can't be read, or is damaged.
    pub fn read(view: &View<'_>, uid: Uid) -> Result<InboxBounds, EngineError> {
        let newest = newest_entry(view, uid)?;
        Self::ending_with(newest.as_ref(), view, uid)
    }

    /// Reads the bounds of an inbox whose newest entry is known.
    fn ending_with(
        newest: Option<&(Key, Value)>,
        view: &View<'_>,
        uid: Uid,
    ) -> Result<InboxBounds, EngineError> {
        let trimmed_through = Version(view.number(&record::trimmed_through_key(uid))?);
        Ok(InboxBounds {
            total: newest.map_or(trimmed_through, |(key, _)| record::last_number(key)),
            read: Version(view.number(&record::read_key(uid))?),
            trimmed_through,
        })
    }

    /// Returns these bounds with the read mark moved forward to `read`. A mark beyond the inbox counts as one at its
    /// end.
    pub fn with_mark(self, read: Version) -> InboxBounds {
        let read = self.read.max(read.min(self.total));
        InboxBounds { read, ..self }
    }

    /// Returns the state of an inbox with these bounds, as clients are told.
    pub fn inbox_state(self, uid: Uid) -> InboxState {
        InboxState {
            uid,
            read: self.read.max(self.trimmed_through),
            total: self.total,
        }
    }
}

/// Reads the newest entry of an inbox.
fn newest_entry(view: &View<'_>, uid: Uid) -> Result<Option<(Key, Value)>, EngineError> {
    let first = record::entry_key(uid, Version::START);
    let last = record::entry_key(uid, Version::MAX);
    view.range(&first, &last).next_back().transpose()
}

/// What a commit has to know of an inbox: its bounds, and its highest ordered id.
#[derive(Debug, Clone, Copy, Default)]
pub struct KnownInbox {
    pub bounds: InboxBounds,
    /// The highest [ordered id](crate::store::ordered_id) of the inbox; 0 if there is none.
    pub highest_ordered_id: i64,
}

impl KnownInbox {
    /// Reads an inbox. If the newest entry is damaged, the highest ordered id is taken for the highest of all:
    /// then every new id gets a record, and nothing but the damaged entry itself is refused.
    ///
    /// # Errors
    ///
    /// As [`InboxBounds::read`].
    pub fn read(view: &View<'_>, uid: Uid) -> Result<KnownInbox, EngineError> {
        let newest = newest_entry(view, uid)?;
        let highest_ordered_id = match &newest {
            Some((key, value)) => EntryRecord::decode_checked(key, value)
                .map_or(i64::MAX, |entry| entry.highest_ordered_id()),
            None => 0,
        };
        Ok(KnownInbox {
            bounds: InboxBounds::ending_with(newest.as_ref(), view, uid)?,
            highest_ordered_id,
        })
    }
}

/// How a commit changes an inbox.
#[derive(Debug, Clone, Copy)]
pub struct InboxChange {
    /// The inbox as the last commit has left it.
    pub old: KnownInbox,
    /// The inbox with this commit.
    pub new: KnownInbox,
}

//! The bounds of an inbox: where its entries begin and end, and how far they were read.
//!
//! Serves the readers, the draft of a commit and the cache of the newest entries, which all work on bounds.

use super::engine::{EngineError, View};
use super::record::{self, EntryRecord};
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
        let trimmed_through = Version(view.number(&record::trimmed_through_key(uid))?);
        let (first, last) = (
            record::entry_key(uid, Version::START),
            record::entry_key(uid, Version::MAX),
        );
        let newest = view.range(&first, &last).next_back().transpose()?;
        Ok(InboxBounds {
            total: newest.map_or(trimmed_through, |(key, _)| record::last_number(&key)),
            read: Version(view.number(&record::read_key(uid))?),
            trimmed_through,
        })
    }

    /// Reads the highest ordered id of the inbox of `uid`, which has these bounds: see
    /// [`EntryRecord::highest_ordered_id`]. 0 if the inbox has no entry.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when the newest entry can't be read, or is damaged.
    pub fn highest_ordered_id(&self, view: &View<'_>, uid: Uid) -> Result<i64, EngineError> {
        let newest: Option<EntryRecord> = view.get(&record::entry_key(uid, self.total))?;
        Ok(newest.map_or(0, |newest| newest.highest_ordered_id()))
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

/// How a commit changes an inbox.
#[derive(Debug, Clone, Copy)]
pub struct InboxChange {
    /// The bounds that the last commit has left.
    pub old: InboxBounds,
    /// The bounds with this commit.
    pub new: InboxBounds,
    /// The highest ordered id that the last commit has left; 0 if there is none.
    pub old_highest_id: i64,
    /// The highest ordered id with this commit; 0 if there is none.
    pub new_highest_id: i64,
}

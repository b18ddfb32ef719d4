//! Ways in which a store can break its promises.

use crate::torture::breach::Charge;

/// A bug that is planted in the simulated store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The store acknowledges a commit, and syncs it some commits later.
    AckBeforeSync,
    /// Readers are shown what is not synced yet.
    ReadBeforeSync,
    /// Versions come from a counter that a crash does not take back.
    VersionOutsideBatch,
    /// Versions are those of the last batch's end: two entries of one batch get the same.
    VersionTwice,
    /// Now and then a page leaves out its first entry.
    SyncSkips,
    /// A page says that it ends further than it does.
    SyncOverstates,
    /// What was stored before a crash is not known as sent before.
    DuplicateOnResend,
    /// Acks that were stored before a crash are not known as sent before.
    AckTwice,
    /// A crash in the middle of a group message keeps some of its entries.
    GroupHalf,
    /// Read marks are not synced.
    MarkBack,
    /// A sync sets the mark to the end of its page, not to its beginning.
    MarkAhead,
    /// A crash cuts the last text.
    Torn,
    /// After a crash the last two entries of each inbox have changed places, when two users sent them.
    Reordered,
    /// The messages of a batch are stored backwards.
    Backwards,
    /// A message sent again replaces the text of the first.
    Overwrites,
    /// A crash forgets who joined.
    ForgetsMembers,
    /// A crash forgets the signing key.
    ForgetsKey,
}

impl Bug {
    /// Returns each bug with a charge that it must be caught by.
    pub const ALL: [(Bug, &'static [Charge]); 17] = [
        (Bug::AckBeforeSync, &[Charge::Lost]),
        (
            Bug::ReadBeforeSync,
            &[Charge::Vanished, Charge::Moved, Charge::Gap],
        ),
        (Bug::VersionOutsideBatch, &[Charge::Gap]),
        (Bug::VersionTwice, &[Charge::Gap]),
        (Bug::SyncSkips, &[Charge::Gap]),
        (Bug::SyncOverstates, &[Charge::Gap]),
        (Bug::DuplicateOnResend, &[Charge::Duplicate]),
        (Bug::AckTwice, &[Charge::Duplicate]),
        (Bug::GroupHalf, &[Charge::HalfStored]),
        (Bug::MarkBack, &[Charge::MarkBack]),
        (Bug::MarkAhead, &[Charge::MarkAhead, Charge::NotNotified]),
        (Bug::Torn, &[Charge::Altered]),
        (Bug::Reordered, &[Charge::Moved]),
        (Bug::Backwards, &[Charge::OutOfOrder]),
        (Bug::Overwrites, &[Charge::Altered]),
        (Bug::ForgetsMembers, &[Charge::Refused]),
        (Bug::ForgetsKey, &[Charge::Refused]),
    ];
}

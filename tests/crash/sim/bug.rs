//! The bugs that can be planted in the simulated store, and the breaches by which the checker must find each.
//!
//! Serves the test of the checker: a promise that no bug here breaks is a promise that the checker may fail to check.

use crate::torture::breach::BreachKind;

/// A bug that is planted in the simulated store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The store acknowledges a commit, and syncs it some commits later.
    AckBeforeSync,
    /// Readers are shown entries that are not synced yet.
    ReadBeforeSync,
    /// Versions come from a counter that a crash does not take back to the synced state.
    VersionOutsideBatch,
    /// The next version of an inbox is read once for a whole batch, so that two of its entries get the same version.
    VersionTwice,
    /// Every fourth page or so leaves out its first entry.
    SyncSkips,
    /// The currentID of a page is beyond its last entry.
    SyncOverstates,
    /// A crash forgets the ids of messages, so that one that is sent again is stored again.
    DuplicateOnResend,
    /// A crash forgets the ids of acks, so that one that is sent again is stored again.
    AckTwice,
    /// A crash in the middle of a group message keeps some of its entries.
    GroupHalf,
    /// Read marks are not synced.
    ReadMarkNotSynced,
    /// The marks of pages are kept in memory until the store is closed.
    ReadMarkOnlyAtClose,
    /// A sync moves the read mark to the end of its page, and not to its beginning.
    ReadMarkAhead,
    /// A crash cuts the end off the last text of each inbox.
    TornText,
    /// A crash swaps the last two entries of each inbox, if two users have sent them.
    Reordered,
    /// The writes of a batch are stored in reverse order.
    Backwards,
    /// A message that is sent again replaces the text of the first.
    Overwrites,
    /// A crash forgets all members of a group except its creator.
    ForgetsMembers,
    /// A crash forgets the signing key.
    ForgetsKey,
}

impl Bug {
    /// Every bug, each with kinds of breaches of which at least one must be found.
    pub const ALL: [(Bug, &'static [BreachKind]); 18] = [
        (Bug::AckBeforeSync, &[BreachKind::Lost]),
        (
            Bug::ReadBeforeSync,
            &[BreachKind::Vanished, BreachKind::Moved, BreachKind::Gap],
        ),
        (Bug::VersionOutsideBatch, &[BreachKind::Gap]),
        (Bug::VersionTwice, &[BreachKind::Gap]),
        (Bug::SyncSkips, &[BreachKind::Gap]),
        (Bug::SyncOverstates, &[BreachKind::Gap]),
        (Bug::DuplicateOnResend, &[BreachKind::Duplicate]),
        (Bug::AckTwice, &[BreachKind::Duplicate]),
        (Bug::GroupHalf, &[BreachKind::HalfStored]),
        (Bug::ReadMarkNotSynced, &[BreachKind::ReadMarkBack]),
        (Bug::ReadMarkOnlyAtClose, &[BreachKind::ReadMarkBack]),
        (
            Bug::ReadMarkAhead,
            &[BreachKind::ReadMarkAhead, BreachKind::NotNotified],
        ),
        (Bug::TornText, &[BreachKind::Altered]),
        (Bug::Reordered, &[BreachKind::Moved]),
        (Bug::Backwards, &[BreachKind::OutOfOrder]),
        (Bug::Overwrites, &[BreachKind::Altered]),
        (Bug::ForgetsMembers, &[BreachKind::Refused]),
        (Bug::ForgetsKey, &[BreachKind::Refused]),
    ];
}

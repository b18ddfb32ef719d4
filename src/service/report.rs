//! The report: how many messages were stored, delivered, refused or lost, in all and for each inbox.
//!
//! Serves [`Imd::report`](crate::Imd::report), the line that the program prints at its end, and the admin API. A report is
//! made of the counts of the store's ledgers and those of `audit`.

use std::fmt;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{RefusalCount, Services};
use crate::id::Uid;
use crate::store::Ledger;

/// The largest number of inboxes that a report lists.
pub const MAX_REPORTED_INBOXES: usize = 1_000;

/// The largest number of inboxes that [`Report::lines`] describes.
const MAX_DESCRIBED: usize = 20;

/// What became of the messages since the start, or since the contents of the store were replaced. A message counts once for
/// each of its receivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Entries in inboxes: messages times receivers, acks included.
    pub stored: u64,
    /// Entries of `stored` that were sent to their receivers in a page.
    pub delivered: u64,
    /// Messages that were pushed to a receiver who was logged in, besides the notify: zero unless `delivery.push` of the config
    /// asks for it. They count as delivered only when a page brings them.
    pub pushed: u64,
    /// Entries of `stored` that were not sent yet.
    pub pending: u64,
    /// Entries of `stored` that retention has removed before they were sent.
    pub removed: u64,
    /// Messages that were not stored, and whose senders were told why.
    pub refused: u64,
    /// Messages that were acknowledged and not stored, and entries that a page skipped: zero without injected faults.
    pub lost: u64,
    /// Entries in a page whose reader had asked only for newer ones: zero without quirks.
    pub repeated: u64,
    /// Entries that followed a newer entry in their page.
    pub swapped: u64,
    /// Tasks, and commits whose caller has ended, that had not ended one second after the grace period of a shutdown. 0 in
    /// the report of a running stack.
    pub unfinished: usize,
    /// The counts of each inbox, by uid: the first thousand inboxes of which something was counted.
    pub inboxes: Vec<InboxReport>,
    /// Every kind of refusal, of messages and of other commands, by command and code.
    pub refusals: Vec<RefusalCount>,
}

/// What became of the messages to one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InboxReport {
    /// The user whose inbox it is.
    pub uid: i64,
    /// Entries that were put into this inbox.
    pub stored: u64,
    /// Entries of `stored` that were sent in a page.
    pub delivered: u64,
    /// Entries of `stored` that were not sent yet.
    pub pending: u64,
    /// Entries of `stored` that retention removed before they were sent.
    pub removed: u64,
}

impl From<(Uid, Ledger)> for InboxReport {
    fn from((uid, ledger): (Uid, Ledger)) -> Self {
        InboxReport {
            uid: uid.0,
            stored: ledger.stored,
            delivered: ledger.delivered,
            pending: ledger.pending(),
            removed: ledger.removed,
        }
    }
}

impl Services {
    /// Returns what became of the messages so far. `ledger` has the store's counts, and `inboxes` its counts of the first
    /// [`MAX_REPORTED_INBOXES`] inboxes.
    pub fn report(&self, ledger: Ledger, inboxes: Vec<(Uid, Ledger)>) -> Report {
        let audited = self.audit.read();
        Report {
            stored: ledger.stored,
            delivered: ledger.delivered,
            pushed: self.pushed(),
            pending: ledger.pending(),
            removed: ledger.removed,
            refused: audited.refused,
            lost: audited.lost,
            repeated: audited.repeated,
            swapped: audited.swapped,
            unfinished: 0,
            inboxes: inboxes.into_iter().map(InboxReport::from).collect(),
            refusals: self.audit.refusals(),
        }
    }

    /// Returns how many messages were pushed since the counts of the report began.
    pub fn pushed(&self) -> u64 {
        let earlier = self.earlier_pushes.load(Ordering::Relaxed);
        self.metrics.pushes().saturating_sub(earlier)
    }
}

impl Report {
    /// Returns the counts of one user's inbox, if the report lists it.
    pub fn inbox(&self, uid: impl Into<Uid>) -> Option<&InboxReport> {
        let uid = uid.into();
        self.inboxes.iter().find(|inbox| uid == inbox.uid)
    }

    /// Returns the report in words, line by line: the counts as a whole; the inboxes, beginning with those that hold most
    /// entries which were not sent; and the refusals, with their reasons.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.to_string()];
        let mut inboxes: Vec<&InboxReport> = self.inboxes.iter().collect();
        inboxes.sort_by_key(|inbox| std::cmp::Reverse(inbox.pending + inbox.removed));
        lines.extend(inboxes.iter().take(MAX_DESCRIBED).map(ToString::to_string));
        if inboxes.len() > MAX_DESCRIBED {
            lines.push("and other inboxes".into());
        }
        lines.extend(self.refusals.iter().map(ToString::to_string));
        lines
    }

    /// Asserts that every message that was acknowledged was stored, and that pages brought the entries of each inbox in
    /// order, without gaps or repetitions. An entry that was not sent yet is not lost.
    ///
    /// # Panics
    ///
    /// When that is not so, with the counts.
    #[allow(clippy::panic, reason = "it is an assertion, for tests")]
    #[track_caller]
    pub fn assert_no_loss(&self) {
        if (self.lost, self.repeated, self.swapped) != (0, 0, 0) {
            panic!("messages were lost, repeated or swapped: {self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            stored,
            delivered,
            pushed,
            pending,
            removed,
            refused,
            lost,
            repeated,
            swapped,
            unfinished,
            inboxes: _,
            refusals: _,
        } = self;
        write!(
            f,
            "stored {stored}   delivered {delivered}   pending {pending}   refused {refused}"
        )?;
        if *pushed > 0 {
            write!(f, "   pushed {pushed}")?;
        }
        if *removed > 0 {
            write!(f, "   removed unread {removed}")?;
        }
        for (what, count) in [("lost", lost), ("repeated", repeated), ("swapped", swapped)] {
            if *count > 0 {
                write!(f, "   {what} {count}")?;
            }
        }
        if *unfinished > 0 {
            write!(f, "   tasks cut off {unfinished}")?;
        }
        Ok(())
    }
}

impl fmt::Display for InboxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InboxReport {
            uid,
            stored,
            delivered,
            pending,
            removed,
        } = self;
        write!(
            f,
            "inbox of {uid}: stored {stored}   delivered {delivered}   pending {pending}"
        )?;
        if *removed > 0 {
            write!(f, "   removed unread {removed}")?;
        }
        Ok(())
    }
}

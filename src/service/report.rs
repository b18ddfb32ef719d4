use std::fmt;

use serde::Serialize;

use super::{Refused, Services};
use crate::id::Uid;
use crate::store::Ledger;

/// So many inboxes stand in a report.
const MOST_INBOXES: usize = 1_000;

/// So many of them are told in words.
const TOLD: usize = 20;

/// What became of the messages, counted once for each receiver, since the start or the last reset or load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Entries in inboxes: messages times receivers, acks included.
    pub stored: u64,
    /// Of these, the ones that were sent to their receivers in a page.
    pub delivered: u64,
    /// Of these, the ones that are still to come.
    pub pending: u64,
    /// Of these, the ones that retention has removed before they were sent.
    pub removed: u64,
    /// Messages that were not stored, and whose senders were told why.
    pub refused: u64,
    /// Messages that were acknowledged and not stored, and entries that a page passed over: none without a fault.
    pub lost: u64,
    /// Entries of a page that its reader had asked to come after: none without a quirk.
    pub repeated: u64,
    /// Entries that stood in a page before older ones.
    pub swapped: u64,
    /// Tasks that had not ended when the grace period was over. Each waits for the store.
    pub unfinished: usize,
    /// The same for each inbox, by uid: the first thousand of which something was counted.
    pub inboxes: Vec<InboxReport>,
    /// Every kind of refusal, of messages and of other commands, by command and code.
    pub refusals: Vec<Refused>,
}

/// What became of the messages to one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InboxReport {
    /// Whose inbox.
    pub uid: i64,
    /// As in [`Report`].
    pub stored: u64,
    /// As in [`Report`].
    pub delivered: u64,
    /// As in [`Report`].
    pub pending: u64,
    /// As in [`Report`].
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
    /// What became of the messages so far.
    pub fn report(&self) -> Report {
        let ledger = self.store.ledger();
        let audited = self.audit.read();
        Report {
            stored: ledger.stored,
            delivered: ledger.delivered,
            pending: ledger.pending(),
            removed: ledger.removed,
            refused: audited.refused,
            lost: audited.lost,
            repeated: audited.repeated,
            swapped: audited.swapped,
            unfinished: 0,
            inboxes: self.inboxes(Uid::default(), MOST_INBOXES),
            refusals: self.audit.refusals(),
        }
    }

    /// What became of the messages to the users above uid `after`, by uid: the first so many of which something was
    /// counted.
    pub fn inboxes(&self, after: Uid, most: usize) -> Vec<InboxReport> {
        let ledgers = self.store.ledgers(after, most);
        ledgers.into_iter().map(InboxReport::from).collect()
    }
}

impl Report {
    /// What became of the messages to one user.
    pub fn inbox(&self, uid: impl Into<Uid>) -> Option<&InboxReport> {
        let uid = uid.into();
        self.inboxes.iter().find(|inbox| uid == inbox.uid)
    }

    /// All of it in words, line by line: the counts as a whole, the inboxes, those to which something is still to come
    /// first, and what was refused, with the reason.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.to_string()];
        let mut inboxes: Vec<&InboxReport> = self.inboxes.iter().collect();
        inboxes.sort_by_key(|inbox| std::cmp::Reverse(inbox.pending + inbox.removed));
        lines.extend(inboxes.iter().take(TOLD).map(ToString::to_string));
        if inboxes.len() > TOLD {
            lines.push("and other inboxes".into());
        }
        lines.extend(self.refusals.iter().map(ToString::to_string));
        lines
    }

    /// Makes sure that what was acknowledged was stored, and went to its receivers without a gap, once for each time it
    /// was asked for, and in order. What is still to come is not lost.
    ///
    /// # Panics
    ///
    /// When that is not so; the text has the counts.
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

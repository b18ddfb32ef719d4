use std::fmt;

/// What became of the messages, counted once for each receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl Report {
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

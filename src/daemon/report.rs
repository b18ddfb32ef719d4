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
    /// Tasks that had not ended when the grace period was over. Each waits for the store.
    pub unfinished: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            stored,
            delivered,
            pending,
            removed,
            refused,
            unfinished,
        } = self;
        write!(
            f,
            "stored {stored}   delivered {delivered}   pending {pending}   refused {refused}"
        )?;
        if *removed > 0 {
            write!(f, "   removed unread {removed}")?;
        }
        if *unfinished > 0 {
            write!(f, "   tasks cut off {unfinished}")?;
        }
        Ok(())
    }
}

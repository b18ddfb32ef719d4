//! Read marks that pages have moved and that no commit has stored yet.
//!
//! Serves the store, whose pages note their marks here and so never wait for the disk, and the writer, which takes the
//! marks into its next commit. Part of [`Recent`](super::recent::Recent), because a noted mark is visible at once, like
//! the commits that were published.
//!
//! There is at most one mark for each inbox that has an entry. A mark only moves forward, and never beyond the newest
//! version of its inbox. It stays here until a commit has stored it, so that readers find it either here or in the
//! published state, and mostly in both while the commit is published. A mark of an inbox that can't be read is dropped
//! with the next commit, and logged.

use std::mem;
use std::time::Duration;

use hashbrown::HashMap;

use crate::id::{Uid, Version};

/// How long a mark waits for a commit that takes it along. Then the marks get a commit of their own. A kill must lose
/// no mark that is older than 100 ms; the rest of that time is for the commit.
pub const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// The marks, by the owner of the inbox.
#[derive(Debug, Default, Clone)]
pub struct ReadMarks {
    noted: HashMap<Uid, Version>,
    /// Whether a timer runs that ends with [`end_wait`](ReadMarks::end_wait).
    is_timed: bool,
}

impl ReadMarks {
    /// Notes that an inbox was read through version `read`, which the inbox must have. Returns whether the caller has
    /// to start a timer of [`LONGEST_WAIT`], since none is running.
    pub fn note(&mut self, uid: Uid, read: Version) -> bool {
        let noted = self.noted.entry(uid).or_default();
        *noted = read.max(*noted);
        !mem::replace(&mut self.is_timed, true)
    }

    /// Ends the timer, and returns whether marks are left that no commit has stored meanwhile.
    pub fn end_wait(&mut self) -> bool {
        self.is_timed = false;
        !self.is_empty()
    }

    /// Returns whether all marks are stored.
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// Returns all marks, for a commit.
    pub fn all(&self) -> Vec<(Uid, Version)> {
        self.noted.iter().map(|(&uid, &read)| (uid, read)).collect()
    }

    /// Removes marks that a commit has stored, unless they have moved on since.
    pub fn remove_stored(&mut self, stored: &[(Uid, Version)]) {
        for (uid, read) in stored {
            if self.noted.get(uid) == Some(read) {
                self.noted.remove(uid);
            }
        }
    }

    /// Returns the noted mark of a user, which may be below the stored one; 0 if none is noted.
    pub fn get(&self, uid: Uid) -> Version {
        self.noted.get(&uid).copied().unwrap_or_default()
    }
}

//! Retention: which entries and message ids a store removes when it is cleaned.
//!
//! Serves every implementation of a store, so that a cleaning removes the same entries from each. The limits are
//! `store.keep` and `store.max_inbox` of the config.

use std::time::Duration;

use crate::config;

/// Which entries are kept, and for how long. The default keeps everything for ever.
///
/// Entries are removed from the oldest on, so the rest of an inbox has no gaps, and versions are never used again. The
/// id of a message is remembered for as long as an inbox holds the message, and for [`KEEP_IDS`] at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// The age beyond which entries are removed.
    pub keep: Option<Duration>,
    /// How many entries of each inbox are kept: the newest ones.
    pub max_inbox: Option<u64>,
}

impl From<&config::Store> for Retention {
    fn from(config: &config::Store) -> Self {
        Retention {
            keep: config.keep,
            max_inbox: config.max_inbox,
        }
    }
}

impl Retention {
    /// Returns whether nothing is ever removed.
    pub fn is_off(&self) -> bool {
        *self == Retention::default()
    }

    /// Returns the send time before which entries are too old at the time `now`; both in Unix milliseconds.
    pub fn keep_from(&self, now: i64) -> i64 {
        self.keep.map_or(i64::MIN, |keep| before(now, keep))
    }
}

/// How long after its sending the id of a message is remembered at least, even if the message is removed earlier.
pub const KEEP_IDS: Duration = Duration::from_secs(24 * 3600);

/// Returns the send time before which the ids of removed messages are forgotten at the time `now`; both in Unix
/// milliseconds.
pub fn keep_ids_from(now: i64) -> i64 {
    before(now, KEEP_IDS)
}

fn before(now: i64, by: Duration) -> i64 {
    now.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

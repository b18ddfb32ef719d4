//! Implements the role of users who read their inboxes again and again.
//!
//! Serves `setup`, which creates the users of `sync` runs. Every page is checked for gaps and repetitions.

use std::collections::VecDeque;

use bytes::BytesMut;
use imd::codec;
use imd::load::FieldTable;
use imd::proto::{Cmd, ReqSyncMsg};

use super::connection::ConnectionError;
use super::tally::{Received, Tally};
use super::user::Role;

/// A user who reads an inbox from its beginning to its end, again and again.
pub struct Reader {
    /// The request for a page; its currentID is set for each request.
    sync: ReqSyncMsg,
    /// The version after which each requested page begins, oldest request first.
    requested: VecDeque<i64>,
    /// The versions after which the next pages begin. When it is empty, the inbox is read from its beginning.
    cursors: Vec<i64>,
}

impl Reader {
    /// Creates a user who requests pages with `sync`.
    pub fn new(sync: ReqSyncMsg) -> Self {
        Reader {
            sync,
            requested: VecDeque::new(),
            cursors: Vec::new(),
        }
    }

    /// Checks that a page begins where it was requested, without a gap or a repetition.
    fn page(&mut self, page: &FieldTable<'_>, now: u64, tally: &mut Tally) {
        let Some(after) = self.requested.pop_front() else {
            return;
        };
        let counts = &mut tally.counts;
        let mut version = after;
        for entry in page.entries() {
            let found = FieldTable::version(entry);
            // The first page may begin at any version, because the oldest messages may have been removed.
            let is_next = found == version + 1 || after == 0 && version == 0;
            if is_next {
                counts.delivered += 1;
                counts.last_delivery = now;
            } else if found > version {
                counts.gaps += 1;
            } else {
                counts.double += 1;
            }
            version = version.max(found);
        }
        let (end, total) = (page.number(5), page.number(7));
        if end != version {
            counts.gaps += 1;
        }
        let goes_on = end > after && end < total;
        self.cursors.push(if goes_on { end } else { 0 });
    }
}

impl Role for Reader {
    fn ask(&mut self, _due: u64, out: &mut BytesMut) -> Result<(), ConnectionError> {
        let cursor = self.cursors.pop().unwrap_or_default();
        self.requested.push_back(cursor);
        self.sync.current_id = cursor;
        Ok(codec::encode(&self.sync, out)?)
    }

    fn receive(
        &mut self,
        message: &FieldTable<'_>,
        now: u64,
        tally: &mut Tally,
        _out: &mut BytesMut,
    ) -> Result<Received, ConnectionError> {
        if message.cmd() != Some(Cmd::SyncMsg) {
            return Ok(Received::Other);
        }
        let status = message.status(3);
        if status.code != 0 {
            self.cursors.extend(self.requested.pop_front());
            return Ok(tally.refuse(status));
        }
        self.page(message, now, tally);
        Ok(Received::Answer)
    }
}

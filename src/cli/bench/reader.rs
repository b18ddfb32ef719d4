use std::collections::VecDeque;

use bytes::BytesMut;
use imd::codec;
use imd::proto::{Cmd, ReqSyncMsg};

use super::driver::{Heard, Record, Role};
use super::fields::{Fields, Value, command, verdict};
use super::line::Broken;
use super::tally::Tally;

/// Reads an inbox from its beginning to its end, again and again.
pub struct Reader {
    /// Asks for a page.
    sync: ReqSyncMsg,
    /// Where the pages begin that were asked for.
    asked: VecDeque<i64>,
    /// Where the next pages begin; at 0, when there is none.
    cursors: Vec<i64>,
}

impl Reader {
    /// A reader who asks in this way.
    pub fn new(sync: ReqSyncMsg) -> Self {
        Reader {
            sync,
            asked: VecDeque::new(),
            cursors: Vec::new(),
        }
    }

    /// Makes sure that a page goes on from where it was asked for, without a gap or a repetition.
    fn page(&mut self, frame: &[u8], now: u64, tally: &mut Tally) {
        let Some(after) = self.asked.pop_front() else {
            return;
        };
        let (mut version, mut end, mut total) = (after, after, 0);
        for field in Fields::of(frame) {
            match field {
                (5, current) => end = current.int(),
                (6, Value::Bytes(entry)) => {
                    let found = Fields::of(entry).find(|(tag, _)| *tag == 7);
                    let found = found.map_or(0, |(_, version)| version.int());
                    // Old messages may have been removed.
                    let is_next = found == version + 1 || after == 0 && version == 0;
                    let counts = &mut tally.counts;
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
                (7, newest) => total = newest.int(),
                _ => {}
            }
        }
        if end != version {
            tally.counts.gaps += 1;
        }
        let goes_on = end > after && end < total;
        self.cursors.push(if goes_on { end } else { 0 });
    }
}

impl Role for Reader {
    fn asks(&self) -> bool {
        true
    }

    fn ask(&mut self, _due: u64, out: &mut BytesMut) -> Result<(), Broken> {
        let cursor = self.cursors.pop().unwrap_or_default();
        self.asked.push_back(cursor);
        self.sync.current_id = cursor;
        Ok(codec::encode(&self.sync, out)?)
    }

    fn hear(
        &mut self,
        frame: &[u8],
        now: u64,
        tally: &mut Tally,
        _out: &mut BytesMut,
    ) -> Result<Heard, Broken> {
        match Cmd::from_number(command(frame)) {
            Some(Cmd::SyncMsg) => {}
            Some(Cmd::ErrServer) => return Err(Broken::told(verdict(frame, 2))),
            _ => return Ok(Heard::Other),
        }
        let verdict = verdict(frame, 3);
        if verdict.0 != 0 {
            self.cursors.extend(self.asked.pop_front());
            return Ok(tally.refuse(verdict));
        }
        self.page(frame, now, tally);
        Ok(Heard::Answer)
    }

    fn record(self) -> Record {
        Record::default()
    }
}

//! Implements the role of users who send messages and receive those of others.
//!
//! Serves `setup`, which creates the users of `p2p` and `group` runs. Every received message is checked: its text,
//! its sender, and that it was not received before.

use bytes::BytesMut;
use imd::codec;
use imd::load::{FieldTable, Template};
use imd::proto::{Cmd, ReqSyncMsg};

use super::connection::ConnectionError;
use super::stamp::Stamp;
use super::tally::{Received, Tally};
use super::user::{DeliveryRecord, Role};

/// A user who sends messages, and requests a page whenever a notify announces new ones.
pub struct Sender {
    /// The id of the run, which tells its messages from older ones in the inbox.
    pub run: u32,
    /// The encoded message, into which each stamp is put. Absent for users who only receive.
    pub request: Option<Template>,
    /// The UID of the user whose messages this one receives.
    pub receives_from: i64,
    /// The text of every message of the run.
    pub text: String,
    /// The request for the next page. Its currentID is the last version that this user has read.
    pub sync: ReqSyncMsg,
    /// The numbers of the messages that were acknowledged and received so far.
    pub record: DeliveryRecord,
    /// The number of the next message to send.
    pub next: u64,
    /// The newest version that the server has announced.
    pub known: i64,
    /// Set while a page was requested and has not arrived.
    pub is_syncing: bool,
    /// Progress of the last page, which is requested at the end of the run.
    pub leaving: Leaving,
}

/// The progress of a user with the last page, which shows whether any message is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leaving {
    /// The run is still going on.
    #[default]
    No,
    /// The last page has to be requested once the page before it has arrived.
    Wanted,
    /// The last page was requested.
    Requested,
    /// Everything in the inbox was read.
    Done,
}

impl Sender {
    /// Appends the request for the next page.
    fn request_page(&mut self, out: &mut BytesMut) -> Result<(), ConnectionError> {
        codec::encode(&self.sync, out)?;
        self.is_syncing = true;
        if self.leaving == Leaving::Wanted {
            self.leaving = Leaving::Requested;
        }
        Ok(())
    }

    /// Handles the answer to a message. Its code is in field 3, and the message id in the field `id`.
    fn answer(&mut self, answer: &FieldTable<'_>, id: usize, tally: &mut Tally) -> Received {
        let status = answer.status(3);
        if status.0 != 0 {
            return tally.refuse(status);
        }
        let is_expected = Stamp::read(answer.text(id)).is_some_and(|id| {
            id.run == self.run && id.seq < self.next && self.record.acknowledged.insert(id.seq)
        });
        if is_expected {
            return Received::Answer;
        }
        tally.counts.unasked += 1;
        Received::Other
    }

    /// Handles a notify, and requests a page unless one is on its way.
    fn notify(
        &mut self,
        notify: &FieldTable<'_>,
        out: &mut BytesMut,
    ) -> Result<(), ConnectionError> {
        self.known = self.known.max(notify.number(6));
        if self.known > self.sync.current_id && !self.is_syncing {
            self.request_page(out)?;
        }
        Ok(())
    }

    /// Handles a page, and requests the next one if there is more to read.
    fn page(
        &mut self,
        page: &FieldTable<'_>,
        now: u64,
        tally: &mut Tally,
        out: &mut BytesMut,
    ) -> Result<(), ConnectionError> {
        let status = page.status(3);
        if status.0 != 0 {
            return Err(ConnectionError::refused(status));
        }
        for entry in page.entries() {
            self.entry(&FieldTable::read(entry), now, tally);
        }
        let (before, read) = (self.sync.current_id, page.number(5));
        self.sync.current_id = read;
        self.known = self.known.max(page.number(7));
        self.is_syncing = false;
        if self.leaving == Leaving::Requested && read >= self.known {
            self.leaving = Leaving::Done;
        // An empty page is not requested again: the next one would be empty too.
        } else if self.leaving == Leaving::Wanted || read > before && read < self.known {
            self.request_page(out)?;
        }
        Ok(())
    }

    /// Checks and counts a message of a page. Messages of other runs are ignored.
    fn entry(&mut self, entry: &FieldTable<'_>, now: u64, tally: &mut Tally) {
        let stamp = Stamp::read(entry.text(5));
        let Some(stamp) = stamp.filter(|stamp| stamp.run == self.run) else {
            return;
        };
        let (source, text) = (entry.number(1), entry.text(6));
        if source != self.receives_from || text != self.text.as_bytes() {
            tally.counts.altered += 1;
        } else if self.record.found.insert(stamp.seq) {
            tally.counts.delivered += 1;
            tally.counts.last_delivery = now;
            tally.delivery.record(now.saturating_sub(stamp.due));
        } else {
            tally.counts.double += 1;
        }
    }
}

impl Role for Sender {
    fn asks(&self) -> bool {
        self.request.is_some()
    }

    fn ask(&mut self, due: u64, out: &mut BytesMut) -> Result<(), ConnectionError> {
        let stamp = Stamp {
            run: self.run,
            seq: self.next,
            due,
        };
        self.next += 1;
        if let Some(request) = &self.request {
            request.put(&stamp.digits(), out);
        }
        Ok(())
    }

    fn receive(
        &mut self,
        message: &FieldTable<'_>,
        now: u64,
        tally: &mut Tally,
        out: &mut BytesMut,
    ) -> Result<Received, ConnectionError> {
        match message.cmd() {
            Some(Cmd::SendP2PMsg) => return Ok(self.answer(message, 7, tally)),
            Some(Cmd::SendGroupMsg) => return Ok(self.answer(message, 6, tally)),
            Some(Cmd::SyncMsg) => self.page(message, now, tally, out)?,
            Some(Cmd::Notify) => self.notify(message, out)?,
            _ => {}
        }
        Ok(Received::Other)
    }

    fn leave(&mut self, out: &mut BytesMut) -> Result<(), ConnectionError> {
        self.leaving = Leaving::Wanted;
        if !self.is_syncing {
            self.request_page(out)?;
        }
        Ok(())
    }

    fn has_left(&self) -> bool {
        self.leaving == Leaving::Done
    }

    fn record(&mut self) -> DeliveryRecord {
        std::mem::take(&mut self.record)
    }
}

//! Implements the role of users who send messages and receive those of others.
//!
//! Serves `setup`, which creates the users of `p2p` and `group` runs. Every received message is checked: its text,
//! its sender, and that it was not received before.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use imd::codec;
use imd::load::{Delivery, FieldTable, ReceiverChooser, request};
use imd::proto::{Cmd, ReqSyncMsg};

use super::connection::ConnectionError;
use super::run::Run;
use super::stamp::{self, Stamp};
use super::tally::{Received, Tally};
use super::user::{DeliveryRecord, Role};

/// To whom a user sends.
pub enum Audience {
    /// To other users, chosen for each message.
    Users(ReceiverChooser),
    /// To the group with this id.
    Group(i64),
    /// The user only receives.
    Nobody,
}

/// A user who sends messages, and requests a page whenever a notify announces new ones.
pub struct Sender {
    run: Arc<Run>,
    audience: Audience,
    /// A text of the length of every message.
    text: String,
    /// The request for the next page. Its currentID is the last version that this user has read.
    sync: ReqSyncMsg,
    /// The numbers of the messages that were acknowledged and received so far.
    record: DeliveryRecord,
    /// For each receiver, the number of the next message to it.
    next: HashMap<usize, u64>,
    /// The messages that were not answered yet, oldest first.
    unanswered: VecDeque<Delivery>,
    /// The messages of which one of two things has happened: the acknowledgement or the delivery.
    half_done: HashSet<Delivery>,
    /// How many messages were acknowledged and not delivered yet.
    undelivered: usize,
    /// The newest version that the server has announced.
    known: i64,
    /// Set while a page was requested and has not arrived.
    is_syncing: bool,
    /// The progress of the last page, which is requested at the end of the run.
    last_page: LastPage,
}

/// The progress of a user's last page, which shows whether any message is left in the inbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LastPage {
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
    /// Creates the user with this number, who has read the inbox up to the version `read`.
    pub fn new(run: &Arc<Run>, user: usize, audience: Audience, read: i64) -> Self {
        let plan = &run.plan;
        Sender {
            run: Arc::clone(run),
            audience,
            text: "m".repeat(plan.size),
            sync: request::sync(plan.uid(user), read),
            record: DeliveryRecord {
                user,
                ..Default::default()
            },
            next: HashMap::new(),
            unanswered: VecDeque::new(),
            half_done: HashSet::new(),
            undelivered: 0,
            known: read,
            is_syncing: false,
            last_page: LastPage::default(),
        }
    }

    /// Returns the text of every message, without the stamp that it begins with where the server gives the ids.
    fn plain_text(&self) -> &str {
        let stamp = if self.run.plan.gives_ids {
            0
        } else {
            stamp::LEN
        };
        self.text.get(stamp..).unwrap_or_default()
    }

    /// Appends the request for the next page.
    fn request_page(&mut self, out: &mut BytesMut) -> Result<(), ConnectionError> {
        codec::encode(&self.sync, out)?;
        self.is_syncing = true;
        if self.last_page == LastPage::Wanted {
            self.last_page = LastPage::Requested;
        }
        Ok(())
    }

    /// Handles the answer to a message. Its code is in field 3, and the message id in the field `id`.
    fn answer(&mut self, answer: &FieldTable<'_>, id: usize, tally: &mut Tally) -> Received {
        let status = answer.status(3);
        if status.code != 0 {
            self.unanswered.pop_front();
            return tally.refuse(status);
        }
        let Some(message) = self.answered_message(answer.text(id)) else {
            tally.counts.unasked += 1;
            return Received::Other;
        };
        let acknowledged = self.record.acknowledged.entry(message.receiver);
        acknowledged.or_default().insert(message.seq);
        if self.run.plan.waits_for_delivery && !self.half_done.remove(&message) {
            self.half_done.insert(message);
            self.undelivered += 1;
        }
        Received::Answer
    }

    /// Removes the message that an answer with this message id belongs to, and returns it. Answers arrive in the order of
    /// the requests; an id that the server gave says nothing more.
    fn answered_message(&mut self, id: &[u8]) -> Option<Delivery> {
        if !self.run.plan.gives_ids {
            return self.unanswered.pop_front();
        }
        let stamp = Stamp::read(id).filter(|stamp| stamp.run == self.run.id)?;
        let Stamp { receiver, seq, .. } = stamp;
        let message = Delivery { receiver, seq };
        let at = self.unanswered.iter().position(|sent| *sent == message);
        self.unanswered.remove(at?)
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
        if status.code != 0 {
            return Err(ConnectionError::refused(status));
        }
        for entry in page.entries() {
            self.entry(&FieldTable::read(entry), now, tally);
        }
        let (before, read) = (self.sync.current_id, page.number(5));
        self.sync.current_id = read;
        self.known = self.known.max(page.number(7));
        self.is_syncing = false;
        if self.last_page == LastPage::Requested && read >= self.known {
            self.last_page = LastPage::Done;
        // An empty page is not requested again: the next one would be empty too.
        } else if self.last_page == LastPage::Wanted || read > before && read < self.known {
            self.request_page(out)?;
        }
        Ok(())
    }

    /// Checks and counts a message of a page, and tells its sender. Messages of other runs are ignored.
    fn entry(&mut self, entry: &FieldTable<'_>, now: u64, tally: &mut Tally) {
        let plan = &self.run.plan;
        let (id, text) = (entry.text(5), entry.text(6));
        let (stamp, text) = match plan.gives_ids {
            true => (id, text),
            false => text.split_at_checked(stamp::LEN).unwrap_or_default(),
        };
        let Some(stamp) = Stamp::read(stamp).filter(|stamp| stamp.run == self.run.id) else {
            return;
        };
        let source = plan.user(entry.number(1));
        let is_mine = [self.record.user, stamp::GROUP].contains(&stamp.receiver);
        let is_whole = text == self.plain_text().as_bytes();
        let Some(source) = source.filter(|_| is_mine && is_whole) else {
            tally.counts.altered += 1;
            return;
        };
        if !self
            .record
            .found
            .entry(source)
            .or_default()
            .insert(stamp.seq)
        {
            tally.counts.double += 1;
            return;
        }
        tally.counts.delivered += 1;
        tally.counts.last_delivery = now;
        tally.delivery.record(now.saturating_sub(stamp.due));
        if plan.waits_for_delivery
            && let Some(mailbox) = self.run.mailboxes.get(source)
        {
            mailbox.deliver(Delivery {
                receiver: stamp.receiver,
                seq: stamp.seq,
            });
        }
    }
}

impl Role for Sender {
    fn asks(&self) -> bool {
        !matches!(self.audience, Audience::Nobody)
    }

    fn ask(&mut self, due: u64, out: &mut BytesMut) -> Result<(), ConnectionError> {
        let (receiver, group) = match &mut self.audience {
            Audience::Users(receivers) => (receivers.choose(), None),
            Audience::Group(group) => (stamp::GROUP, Some(*group)),
            Audience::Nobody => return Ok(()),
        };
        let next = self.next.entry(receiver).or_default();
        let message = Delivery {
            receiver,
            seq: *next,
        };
        *next += 1;
        let stamp = Stamp {
            run: self.run.id,
            receiver,
            seq: message.seq,
            due,
        };
        let digits = stamp.digits();
        let digits = str::from_utf8(&digits).unwrap_or_default();
        let plan = &self.run.plan;
        let (id, begin) = match plan.gives_ids {
            true => (digits, ""),
            false => ("", digits),
        };
        let text = [begin, self.plain_text()].concat();
        let uid = self.sync.uid;
        match group {
            None => codec::encode(&request::p2p(uid, plan.uid(receiver), id, &text), out)?,
            Some(group) => codec::encode(&request::group(uid, group, id, &text), out)?,
        }
        self.unanswered.push_back(message);
        Ok(())
    }

    fn undelivered(&self) -> usize {
        self.undelivered
    }

    fn delivered(&mut self, delivery: Delivery) {
        if self.half_done.remove(&delivery) {
            self.undelivered -= 1;
        } else {
            self.half_done.insert(delivery);
        }
    }

    fn receive(
        &mut self,
        message: &FieldTable<'_>,
        now: u64,
        tally: &mut Tally,
        out: &mut BytesMut,
    ) -> Result<Received, ConnectionError> {
        match message.cmd() {
            // A server that pushes messages notifies of them as well. No answer has a text.
            Some(Cmd::SendP2PMsg) if !message.text(8).is_empty() => {}
            Some(Cmd::SendP2PMsg) => return Ok(self.answer(message, 7, tally)),
            Some(Cmd::SendGroupMsg) => return Ok(self.answer(message, 6, tally)),
            Some(Cmd::SyncMsg) => self.page(message, now, tally, out)?,
            Some(Cmd::Notify) => self.notify(message, out)?,
            _ => {}
        }
        Ok(Received::Other)
    }

    fn leave(&mut self, out: &mut BytesMut) -> Result<(), ConnectionError> {
        self.last_page = LastPage::Wanted;
        if !self.is_syncing {
            self.request_page(out)?;
        }
        Ok(())
    }

    fn has_left(&self) -> bool {
        self.last_page == LastPage::Done
    }

    fn record(&mut self) -> DeliveryRecord {
        std::mem::take(&mut self.record)
    }
}

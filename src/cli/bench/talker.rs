use bytes::BytesMut;
use imd::codec;
use imd::proto::{Cmd, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg};

use super::driver::{Heard, Record, Role};
use super::fields::{Fields, Value, command, verdict};
use super::line::Broken;
use super::stamp::Stamp;
use super::tally::Tally;

/// What a user sends.
pub enum Letter {
    /// Nothing: this user only gets messages.
    None,
    P2p(ReqSendP2pMsg),
    Group(ReqSendGroupMsg),
}

/// Sends messages, and follows notify, sync and page to those that others send.
pub struct Talker {
    /// Marks this run's messages.
    pub run: u32,
    pub letter: Letter,
    /// The UID of the one whose messages this user gets.
    pub hears: i64,
    /// The text of every message.
    pub text: String,
    /// Asks for the next page; its currentID is how far this user has read.
    pub sync: ReqSyncMsg,
    pub record: Record,
    /// The number of the next message.
    pub next: u64,
    /// The newest version that this user has heard of.
    pub known: i64,
    /// Whether a page is on its way.
    pub is_syncing: bool,
    pub leaving: Leaving,
}

/// How far a user has come with the last question: whether there is anything more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leaving {
    #[default]
    No,
    /// It is to be asked, after the page that is on its way.
    Wanted,
    Asked,
    Done,
}

impl Talker {
    fn ask_page(&mut self, out: &mut BytesMut) -> Result<(), Broken> {
        codec::encode(&self.sync, out)?;
        self.is_syncing = true;
        if self.leaving == Leaving::Wanted {
            self.leaving = Leaving::Asked;
        }
        Ok(())
    }

    /// An answer that has its code in field 3 and its id in that one.
    fn answer(&mut self, frame: &[u8], id: u32, tally: &mut Tally) -> Heard {
        let verdict = verdict(frame, 3);
        if verdict.0 != 0 {
            return tally.refuse(verdict);
        }
        let id = Fields::of(frame).find_map(|field| match field {
            (tag, Value::Bytes(text)) if tag == id => Stamp::read(text),
            _ => None,
        });
        let is_asked = id.is_some_and(|id| {
            id.run == self.run && id.seq < self.next && self.record.acknowledged.insert(id.seq)
        });
        if is_asked {
            return Heard::Answer;
        }
        tally.counts.unasked += 1;
        Heard::Other
    }

    fn notify(&mut self, frame: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        let total = Fields::of(frame).find(|(tag, _)| *tag == 6);
        self.known = total.map_or(0, |(_, total)| total.int()).max(self.known);
        if self.known > self.sync.current_id && !self.is_syncing {
            self.ask_page(out)?;
        }
        Ok(())
    }

    fn page(
        &mut self,
        frame: &[u8],
        now: u64,
        tally: &mut Tally,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        let before = self.sync.current_id;
        for field in Fields::of(frame) {
            match field {
                (3, code) if code.int() != 0 => return Err(Broken::told(verdict(frame, 3))),
                (5, end) => self.sync.current_id = end.int(),
                (6, Value::Bytes(entry)) => self.entry(entry, now, tally),
                (7, total) => self.known = total.int().max(self.known),
                _ => {}
            }
        }
        self.is_syncing = false;
        let read = self.sync.current_id;
        if self.leaving == Leaving::Asked && read >= self.known {
            self.leaving = Leaving::Done;
        // A page that brings nothing does not bring more by being asked for again.
        } else if self.leaving == Leaving::Wanted || read > before && read < self.known {
            self.ask_page(out)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &[u8], now: u64, tally: &mut Tally) {
        let (mut source, mut stamp, mut text): (i64, _, &[u8]) = (0, None, &[]);
        for field in Fields::of(entry) {
            match field {
                (1, uid) => source = uid.int(),
                (5, Value::Bytes(id)) => stamp = Stamp::read(id),
                (6, Value::Bytes(bytes)) => text = bytes,
                _ => {}
            }
        }
        let Some(stamp) = stamp.filter(|stamp| stamp.run == self.run) else {
            return;
        };
        if source != self.hears || text != self.text.as_bytes() {
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

impl Role for Talker {
    fn asks(&self) -> bool {
        !matches!(self.letter, Letter::None)
    }

    fn ask(&mut self, due: u64, out: &mut BytesMut) -> Result<(), Broken> {
        let stamp = Stamp {
            run: self.run,
            seq: self.next,
            due,
        };
        self.next += 1;
        match &mut self.letter {
            Letter::None => {}
            Letter::P2p(request) => {
                stamp.write(&mut request.msg_id);
                codec::encode(request, out)?;
            }
            Letter::Group(request) => {
                stamp.write(&mut request.msg_id);
                codec::encode(request, out)?;
            }
        }
        Ok(())
    }

    fn hear(
        &mut self,
        frame: &[u8],
        now: u64,
        tally: &mut Tally,
        out: &mut BytesMut,
    ) -> Result<Heard, Broken> {
        match Cmd::from_number(command(frame)) {
            Some(Cmd::SendP2PMsg) => return Ok(self.answer(frame, 7, tally)),
            Some(Cmd::SendGroupMsg) => return Ok(self.answer(frame, 6, tally)),
            Some(Cmd::SyncMsg) => self.page(frame, now, tally, out)?,
            Some(Cmd::Notify) => self.notify(frame, out)?,
            Some(Cmd::ErrServer) => return Err(Broken::told(verdict(frame, 2))),
            _ => {}
        }
        Ok(Heard::Other)
    }

    fn leave(&mut self, out: &mut BytesMut) -> Result<(), Broken> {
        self.leaving = Leaving::Wanted;
        if !self.is_syncing {
            self.ask_page(out)?;
        }
        Ok(())
    }

    fn has_left(&self) -> bool {
        self.leaving == Leaving::Done
    }

    fn record(self) -> Record {
        self.record
    }
}

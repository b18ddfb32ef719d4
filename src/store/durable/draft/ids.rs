//! Finds out whether a message was stored before, by its id.
//!
//! Serves `deliver`. An [ordered id](crate::store::ordered_id) is found among the entries of its inbox, by their
//! [`highest_ordered_id`](EntryRecord::highest_ordered_id). Every other id has an [`IdRecord`]. Most ids are given by the
//! server, and each of them is higher than all before. So most messages need no look-up and no record of their id.

use prost::Message as _;

use super::super::batch::BYTES_PER_ENTRY;
use super::super::bounds::InboxChange;
use super::super::engine::{EngineError, Key};
use super::super::record::{self, EntryRecord, IdRecord};
use super::Draft;
use crate::id::{MsgId, Uid, Version};
use crate::store::ordered_id::{may_be_ordered, number_of};
use crate::store::{Kind, Message, Scope};

/// How many messages of a draft can be compared in the time that it takes to read an entry.
const MESSAGES_PER_ENTRY: usize = 64;

/// Where the id of a new message is recorded.
pub enum IdPlace {
    /// In the entry itself: it has the highest ordered id of its inbox.
    Ordered(i64),
    /// In an [`IdRecord`] under this key.
    Record(Key),
}

impl Draft<'_> {
    /// Returns where the id of a message to one user, or of an ack, is to be recorded; none if the message was stored
    /// before. Reads the inbox of `target`, so that [`inbox`](Draft::inbox) can't fail afterwards.
    pub(super) fn place_of_id(
        &mut self,
        target: Uid,
        message: &Message,
    ) -> Result<Option<IdPlace>, EngineError> {
        let highest = self.inbox(target)?.new.highest_ordered_id;
        let (kind, source, msg_id) = (message.kind, message.source, message.msg_id());
        let number = number_of(msg_id).filter(|_| kind == Kind::P2p);
        let key = || record::id_key(kind, source, msg_id, Scope::Inbox(target));
        if self.is_stored(target, source, number, key)? {
            return Ok(None);
        }
        let ordered = number.filter(|&n| n > highest && may_be_ordered(message, n));
        Ok(Some(match ordered {
            Some(number) => IdPlace::Ordered(number),
            None => IdPlace::Record(key()),
        }))
    }

    /// Adds the record of a message's id under its [key](record::id_key).
    pub(super) fn put_id(&mut self, key: Key) {
        let number = record::p2p_number(&key).unwrap_or_default();
        self.state.highest_recorded_id = self.state.highest_recorded_id.max(number);
        self.put(key, &IdRecord::default());
    }

    /// Returns whether `target` has received a message with this id from `source` alone.
    pub(super) fn has_received_alone(
        &mut self,
        target: Uid,
        source: Uid,
        msg_id: MsgId<'_>,
    ) -> Result<bool, EngineError> {
        let key = || record::id_key(Kind::P2p, source, msg_id, Scope::Inbox(target));
        self.is_stored(target, source, number_of(msg_id), key)
    }

    /// Returns whether a message from `source` is stored in the inbox of `target`. `number` is the id of a message to one
    /// user, if it is a number, and `key` returns the key of the id's record.
    fn is_stored(
        &mut self,
        target: Uid,
        source: Uid,
        number: Option<i64>,
        key: impl Fn() -> Key,
    ) -> Result<bool, EngineError> {
        let may_have_record = number.is_none_or(|n| n <= self.state.highest_recorded_id);
        if may_have_record && self.has::<IdRecord>(&key())? {
            return Ok(true);
        }
        match number {
            Some(number) => self.has_ordered(target, source, number),
            None => Ok(false),
        }
    }

    /// Returns whether the inbox of `target` has an entry with the ordered id `number`, from `source`.
    fn has_ordered(&mut self, target: Uid, source: Uid, number: i64) -> Result<bool, EngineError> {
        let InboxChange { old, new } = *self.inbox(target)?;
        if number > new.highest_ordered_id {
            return Ok(false);
        }
        if number > old.highest_ordered_id {
            // Only an entry of this draft can have this id, and these are not looked up by key.
            self.lookup_cost += self.new_messages.len() / MESSAGES_PER_ENTRY;
            let text = number.to_string();
            let mut new = self.new_messages.iter();
            return Ok(new.any(|new| new.is_from(source, MsgId(&text), target)));
        }
        let (first, last) = (new.bounds.trimmed_through + 1, old.bounds.total);
        // Low numbers are mostly ids of clients, and the first entry is enough to tell that no entry has them.
        if first > last || self.entry(target, first)?.highest_ordered_id() > number {
            return Ok(false);
        }
        let entry = self.first_reaching(number, target, first, last)?;
        let has_the_id = entry.is_ordered && entry.highest_ordered_id() == number;
        let message = entry.message.filter(|_| has_the_id);
        Ok(message.is_some_and(|message| message.source == source.0))
    }

    /// Returns the first entry of an inbox, of those with the versions from `first` to `last`, up to which the highest
    /// ordered id is at least `number`. Up to the entry `last`, it must be.
    fn first_reaching(
        &mut self,
        number: i64,
        uid: Uid,
        first: Version,
        last: Version,
    ) -> Result<EntryRecord, EngineError> {
        let (mut low, mut high) = (first, last);
        // Most messages that are looked for are among the newest. So the first steps go back from the end and double, and
        // the others halve what is left.
        let mut step = 1;
        while low < high {
            let middle = low + (high - low) / 2;
            let version = middle.max(high.saturating_sub(step));
            if self.entry(uid, version)?.highest_ordered_id() < number {
                (low, step) = (version.next(), i64::MAX);
            } else {
                (high, step) = (version, step.saturating_mul(2));
            }
        }
        self.entry(uid, low)
    }

    /// Reads an entry that an earlier commit has stored.
    fn entry(&mut self, uid: Uid, version: Version) -> Result<EntryRecord, EngineError> {
        let entry: Option<EntryRecord> = self.get(&record::entry_key(uid, version))?;
        let entry = entry.ok_or(EngineError::Missing { uid, version })?;
        self.lookup_cost += 1 + entry.encoded_len() / BYTES_PER_ENTRY;
        Ok(entry)
    }
}

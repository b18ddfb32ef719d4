//! Finds out whether a message was stored before, by its id.
//!
//! Serves `deliver`. An [ordered id](crate::store::ordered_id) is found among the entries of its inbox, by their
//! [`highest_ordered_id`](EntryRecord::highest_ordered_id). Every other id has an [`IdRecord`]. Most ids are given by the
//! server, and each of them is higher than all before. So most messages need no look-up and no record of their id.

use super::super::engine::{EngineError, Key};
use super::super::record::{self, EntryRecord, IdRecord};
use super::Draft;
use crate::id::{MsgId, Uid, Version};
use crate::store::ordered_id::{may_be_ordered, number_of};
use crate::store::{Kind, Message, Scope};

/// How many messages of a draft can be looked through in the time that it takes to read a record.
const MESSAGES_PER_LOOKUP: usize = 64;

/// What keeps the id of a message that was not stored before.
pub enum IdPlace {
    /// The entry itself, which becomes the one with the highest ordered id of its inbox.
    Entry(i64),
    /// An [`IdRecord`] under this key.
    Record(Key),
}

impl Draft<'_> {
    /// Returns what will keep the id of a message to one user, or of an ack; none if the message was stored before. The
    /// inbox of `target` is read for it.
    pub(super) fn place_of_id(
        &mut self,
        target: Uid,
        message: &Message,
    ) -> Result<Option<IdPlace>, EngineError> {
        let highest = self.inbox(target)?.new_highest_id;
        let (kind, source, msg_id) = (message.kind, message.source, message.msg_id());
        let number = number_of(msg_id).filter(|_| kind == Kind::P2p);
        let ordered = number.filter(|&n| n > highest && may_be_ordered(message, n));
        if let Some(ordered) = ordered
            && self.has_no_record(ordered)
        {
            return Ok(Some(IdPlace::Entry(ordered)));
        }
        let key = record::id_key(kind, source, msg_id, Scope::Inbox(target));
        if self.has::<IdRecord>(&key)? {
            return Ok(None);
        }
        if let Some(number) = number
            && self.has_ordered(target, source, number)?
        {
            return Ok(None);
        }
        Ok(Some(ordered.map_or(IdPlace::Record(key), IdPlace::Entry)))
    }

    /// Adds the record of a message's id.
    pub(super) fn put_id(&mut self, key: Key, kind: Kind, msg_id: MsgId<'_>) {
        self.put(key, &IdRecord::default());
        if kind == Kind::P2p
            && let Some(number) = number_of(msg_id)
        {
            let highest = &mut self.state.highest_id_record;
            *highest = highest.map(|highest| highest.max(number));
        }
    }

    /// Returns whether it is known without a look-up that no message to one user with this id has an [`IdRecord`].
    fn has_no_record(&self, number: i64) -> bool {
        let highest = self.state.highest_id_record;
        highest.is_some_and(|highest| number > highest)
    }

    /// Returns whether `target` has received a message with this id from `source` alone.
    pub(super) fn has_received_alone(
        &mut self,
        target: Uid,
        source: Uid,
        msg_id: MsgId<'_>,
    ) -> Result<bool, EngineError> {
        let number = number_of(msg_id);
        if !number.is_some_and(|number| self.has_no_record(number)) {
            let key = record::id_key(Kind::P2p, source, msg_id, Scope::Inbox(target));
            if self.has::<IdRecord>(&key)? {
                return Ok(true);
            }
        }
        match number {
            Some(number) => self.has_ordered(target, source, number),
            None => Ok(false),
        }
    }

    /// Returns whether the inbox of `target` has an entry with the ordered id `number`, from `source`.
    fn has_ordered(&mut self, target: Uid, source: Uid, number: i64) -> Result<bool, EngineError> {
        let inbox = *self.inbox(target)?;
        if number > inbox.new_highest_id {
            return Ok(false);
        }
        if number > inbox.old_highest_id {
            // The entry would be one of this draft, and these can't be read by their keys.
            self.lookup_cost += self.new_messages.len() / MESSAGES_PER_LOOKUP;
            let text = number.to_string();
            let mut new = self.new_messages.iter();
            return Ok(new.any(|new| new.is_from(source, MsgId(&text), target)));
        }
        let first = inbox.new.trimmed_through + 1;
        if first > inbox.old.total {
            return Ok(false);
        }
        let entry = self.first_reaching(number, target, first, inbox.old.total)?;
        let is_it = entry.is_ordered && entry.highest_ordered_id() == number;
        let message = entry.message.filter(|_| is_it);
        Ok(message.is_some_and(|message| message.source == source.0))
    }

    /// Returns the first entry of an inbox, of those with the versions from `first` to `last`, whose highest ordered id is
    /// at least `number`. That of the entry `last` must be.
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
        self.lookup_cost += 1;
        let entry = self.get(&record::entry_key(uid, version))?;
        entry.ok_or(EngineError::Missing { uid, version })
    }
}

//! Removes old entries, and the ids of messages that were removed long enough ago.
//!
//! Serves the writer, for the jobs of the store's retention. Either all entries of an inbox up to a version are
//! removed, or none of them.

use prost::Message as _;

use super::super::engine::{EngineError, Key};
use super::super::record::{
    self, Damaged, EntryRecord, MessageRecord, NumberRecord, SharedMessageRecord, tag,
};
use super::Draft;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{Scope, keep_ids_from};

/// The place of the message of an entry that is removed.
enum Body {
    /// In the entry itself: a message to one user.
    Own {
        message: MessageRecord,
        /// Whether the entry was the only record of the message's id.
        is_ordered: bool,
    },
    /// In a shared message that other inboxes still hold.
    Shared {
        /// The number of the shared message.
        number: u64,
        /// How many inboxes no longer hold it, this one included.
        removed_from: i64,
    },
    /// In a shared message that no other inbox holds any more.
    Last {
        /// The number of the shared message.
        number: u64,
        /// The message itself.
        message: MessageRecord,
    },
}

impl Draft<'_> {
    /// Removes the entries of an inbox up to version `through`, all of them or none, and returns how many they were.
    /// `now` is in Unix milliseconds; it decides whether the ids of the messages are forgotten too.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when one of the entries can't be read.
    pub fn trim(&mut self, uid: Uid, through: Version, now: i64) -> Result<u64, EngineError> {
        let change = *self.inbox(uid)?;
        let (old, new) = (change.old.bounds, change.new.bounds);
        // The entries of this draft are not in the view yet. Retention chose `through` without them.
        let last = through.min(old.total);
        // Everything is read before anything is changed, so that damage leaves the inbox as it is.
        let mut removals = Vec::new();
        for version in (new.trimmed_through.0 + 1..=last.0).map(Version) {
            let key = record::entry_key(uid, version);
            let missing = EngineError::Missing { uid, version };
            let entry: EntryRecord = self.get(&key)?.ok_or(missing)?;
            self.freed += entry.encoded_len();
            let body = match entry.message {
                Some(message) => Body::Own {
                    message,
                    is_ordered: entry.is_ordered,
                },
                None => self.shared_body(entry.shared)?,
            };
            removals.push((key, body));
        }
        let removed = removals.len() as u64;
        for (key, body) in removals {
            self.remove(key);
            match body {
                Body::Own {
                    message,
                    is_ordered,
                } => self.forget(&message, Scope::Inbox(uid), is_ordered, now),
                Body::Shared {
                    number,
                    removed_from,
                } => {
                    let count = NumberRecord {
                        value: removed_from,
                    };
                    self.put(record::shared_removed_key(number), &count);
                }
                Body::Last { number, message } => {
                    self.freed += message.encoded_len();
                    let scope = Scope::Group(GroupId(message.group));
                    self.forget(&message, scope, false, now);
                    self.remove(record::shared_key(number));
                    self.remove(record::shared_removed_key(number));
                }
            }
        }
        if removed > 0 {
            self.inbox(uid)?.new.bounds.trimmed_through = last;
            self.put(
                record::trimmed_through_key(uid),
                &NumberRecord { value: last.0 },
            );
        }
        Ok(removed)
    }

    /// Returns what becomes of a shared message when one more inbox no longer holds it.
    fn shared_body(&self, number: u64) -> Result<Body, EngineError> {
        let missing = EngineError::NoSharedMessage(number);
        let shared: SharedMessageRecord = self.get(&record::shared_key(number))?.ok_or(missing)?;
        let count: Option<NumberRecord> = self.get(&record::shared_removed_key(number))?;
        let removed_from = count.map_or(0, |count| count.value) + 1;
        if removed_from.unsigned_abs() < shared.receivers {
            return Ok(Body::Shared {
                number,
                removed_from,
            });
        }
        let message = shared.message.ok_or(Damaged(tag::SHARED_MESSAGE))?;
        Ok(Body::Last { number, message })
    }

    /// Forgets the id of a message that no inbox holds any more: now if it is old enough, or else when it has expired. If
    /// `is_ordered`, the removed entry was the only record of the id, so the id gets a record until it expires.
    fn forget(&mut self, message: &MessageRecord, scope: Scope, is_ordered: bool, now: i64) {
        let Some(kind) = message.kind() else { return };
        let msg_id = MsgId(&message.msg_id);
        let id = record::id_key(kind, Uid(message.source), msg_id, scope);
        let is_old = message.sent_at < keep_ids_from(now);
        if !is_old {
            let key = record::expiring_key(message.sent_at, &id);
            self.put(key, &NumberRecord::default());
        }
        match (is_old, is_ordered) {
            (true, true) | (false, false) => {}
            (true, false) => self.remove(id),
            (false, true) => self.put_id(id),
        }
    }

    /// Forgets an id that has expired. `key` is an [`expiring_key`](record::expiring_key).
    pub fn expire(&mut self, key: Key) {
        if let Some((_, id)) = record::expiring(&key) {
            self.remove(id.into());
        }
        self.remove(key);
    }
}

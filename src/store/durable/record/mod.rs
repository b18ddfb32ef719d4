//! The records that the engine stores: their values, and in [`keys`] their keys.
//!
//! Serves all modules that read or write records. Every value ends with a checksum over key and value. So a value that
//! was altered, or that stands under another key, is never taken for a record.
//!
//! A message to a group is stored once, as a [`SharedMessageRecord`], and each of its receivers has an [`EntryRecord`]
//! with its number. Shared messages are numbered from 1 in the order of storing, across all groups.

mod keys;

pub use self::keys::*;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::kv::{Change, Value};
use crate::id::{GroupId, MsgId, Uid};
use crate::proto::fields::{Fields, number_len, text_len};
use crate::store::ordered_id::number_of;
use crate::store::{Kind, Message, User};

/// Length of the checksum at the end of a value, in bytes.
const CHECKSUM: usize = 4;

/// The error of a record that is not what was written. It has the first byte of the record's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of kind {:?} is damaged", char::from(*.0))]
pub struct Damaged(pub u8);

impl Damaged {
    /// Returns the error of the record with this key.
    pub fn at(key: &[u8]) -> Self {
        Damaged(key.first().copied().unwrap_or_default())
    }
}

/// A record that is stored as a value with a checksum.
pub trait Record: prost::Message + Default {
    /// Returns the value to store under `key`. It is encoded in `scratch`, whose contents are replaced.
    fn seal(&self, key: &[u8], scratch: &mut Vec<u8>) -> Value {
        scratch.clear();
        self.encode_raw(scratch);
        seal(key, scratch)
    }

    /// Returns the record that is stored as `value` under `key`.
    ///
    /// # Errors
    ///
    /// When the checksum is wrong, or the value can't be decoded.
    fn decode_checked(key: &[u8], value: &[u8]) -> Result<Self, Damaged> {
        let damaged = || Damaged::at(key);
        let (value, found) = value.split_last_chunk::<CHECKSUM>().ok_or_else(damaged)?;
        if checksum(key, value) != *found {
            return Err(damaged());
        }
        Self::decode(value).map_err(|_| damaged())
    }
}

/// Returns the value to store under `key`, for a record that is encoded already. `encoded` is left as it was, so that
/// one encoding serves many keys.
pub fn seal(key: &[u8], encoded: &mut Vec<u8>) -> Value {
    let len = encoded.len();
    encoded.extend_from_slice(&checksum(key, encoded));
    let value = Value::from(encoded.as_slice());
    encoded.truncate(len);
    value
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM] {
    let sum = xxh3_64_with_seed(value, xxh3_64(key));
    let [a, b, c, d, ..] = sum.to_le_bytes();
    [a, b, c, d]
}

impl Record for EntryRecord {}
impl Record for IdRecord {}
impl Record for SharedMessageRecord {}
impl Record for UserRecord {}
impl Record for GroupRecord {}
impl Record for MemberRecord {}
impl Record for NumberRecord {}
impl Record for SecretRecord {}
impl Record for StateRecord {}

/// A message, inside of an [`EntryRecord`] or a [`SharedMessageRecord`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct MessageRecord {
    /// The [`Kind`] as [`kind_number`] returns it.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The sender's uid.
    #[prost(int64, tag = "2")]
    pub source: i64,
    /// The group's id; 0 in a message to one user.
    #[prost(int64, tag = "3")]
    pub group: i64,
    /// The id of the message, from its sender or made by the server.
    #[prost(string, tag = "4")]
    pub msg_id: String,
    #[prost(string, tag = "5")]
    pub text: String,
    /// When the message was sent: Unix time in milliseconds.
    #[prost(int64, tag = "6")]
    pub sent_at: i64,
}

/// An entry of an inbox: a message of its own, or the number of a message that it shares with other inboxes.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct EntryRecord {
    #[prost(message, optional, tag = "1")]
    pub message: Option<MessageRecord>,
    /// The number of the shared message; 0 in an entry with a message of its own.
    #[prost(uint64, tag = "2")]
    pub shared: u64,
    /// When the shared message was sent: Unix time in milliseconds.
    #[prost(int64, tag = "3")]
    pub shared_sent_at: i64,
    /// Whether the id of the entry's own message is an [ordered id](crate::store::ordered_id) of the inbox. No
    /// [`IdRecord`] tells then that the message was stored.
    #[prost(bool, tag = "4")]
    pub is_ordered: bool,
    /// The highest ordered id of the inbox before this entry; 0 if there is none, or if `is_ordered`.
    #[prost(int64, tag = "5")]
    pub ordered_before: i64,
}

impl EntryRecord {
    /// Returns the highest ordered id of the inbox up to this entry; 0 if there is none.
    pub fn highest_ordered_id(&self) -> i64 {
        let own = self.message.as_ref().filter(|_| self.is_ordered);
        own.and_then(|own| number_of(MsgId(&own.msg_id)))
            .unwrap_or(self.ordered_before)
    }

    /// Returns when the entry's message was sent: Unix time in milliseconds.
    pub fn sent_at(&self) -> i64 {
        self.message
            .as_ref()
            .map_or(self.shared_sent_at, |m| m.sent_at)
    }
}

/// A group message, stored once for all its receivers.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct SharedMessageRecord {
    #[prost(message, optional, tag = "1")]
    pub message: Option<MessageRecord>,
    /// The number of inboxes that it was put into.
    #[prost(uint64, tag = "2")]
    pub receivers: u64,
}

/// The id of a stored message: a message with this id is not stored again. Entries with an
/// [ordered id](crate::store::ordered_id) have no such record.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct IdRecord {
    /// The number of the shared message; 0 for a message to one user.
    #[prost(uint64, tag = "1")]
    pub shared: u64,
}

/// A registered user.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct UserRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub password_hash: String,
}

/// A group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    /// The uid of the user who created it; 0 in a group of an earlier `imd`, which did not store it.
    #[prost(int64, tag = "2")]
    pub owner: i64,
}

/// A membership of a group, present or former.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct MemberRecord {
    /// The number that the next shared message of any group had when the user joined: the member receives the messages
    /// of this group from that number on.
    #[prost(uint64, tag = "1")]
    pub since: u64,
}

/// A number whose meaning its key says.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct NumberRecord {
    #[prost(int64, tag = "1")]
    pub value: i64,
}

/// The secret that signs tokens.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct SecretRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub secret: Vec<u8>,
}

/// The state of the store, which every commit writes.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct StateRecord {
    /// The number of the commit, which is also the number of all commits so far.
    #[prost(uint64, tag = "1")]
    pub last_commit: u64,
    /// The number of the newest shared message.
    #[prost(uint64, tag = "2")]
    pub last_shared: u64,
    /// The newest time at which a message was sent or a group was made, or of an id that the server gave out: Unix time
    /// in milliseconds.
    #[prost(int64, tag = "3")]
    pub latest_time_ms: i64,
    /// The id of the store; 0 in format 1, which had none.
    #[prost(fixed64, tag = "4")]
    pub store_id: u64,
    /// The highest number among the ids of messages to one user that have an [`IdRecord`]; 0 if none is a number. No
    /// higher number has a record.
    #[prost(int64, tag = "5")]
    pub highest_recorded_id: i64,
}

impl StateRecord {
    /// Returns the state after one more commit that changes nothing else.
    #[must_use]
    pub fn next(self) -> StateRecord {
        StateRecord {
            last_commit: self.last_commit + 1,
            ..self
        }
    }

    /// Returns the change that writes the state.
    pub fn change(&self) -> Change {
        (STATE.into(), Some(self.seal(STATE, &mut Vec::new())))
    }
}

impl From<User> for UserRecord {
    fn from(user: User) -> Self {
        UserRecord {
            name: user.name,
            password_hash: user.password_hash,
        }
    }
}

impl From<UserRecord> for User {
    fn from(user: UserRecord) -> Self {
        User {
            name: user.name,
            password_hash: user.password_hash,
        }
    }
}

impl From<&Message> for MessageRecord {
    fn from(message: &Message) -> Self {
        MessageRecord {
            kind: kind_number(message.kind).into(),
            source: message.source.0,
            group: message.group,
            msg_id: message.msg_id().to_string(),
            text: message.text().to_owned(),
            sent_at: message.sent_at,
        }
    }
}

/// Encodes the [`EntryRecord`] of an entry with a message of its own, byte for byte as prost would. Unlike prost, it
/// needs no copy of the message's texts. `order` has the fields of the entry that do not come from the message. The
/// contents of `out` are replaced.
pub fn encode_own(message: &Message, order: IdOrder, out: &mut Vec<u8>) {
    let kind = kind_number(message.kind).into();
    let (msg_id, text) = (message.msg_id(), message.text());
    let len = number_len(1, kind)
        + number_len(2, message.source.0)
        + number_len(3, message.group)
        + text_len(4, msg_id.0)
        + text_len(5, text)
        + number_len(6, message.sent_at);
    out.clear();
    let mut fields = Fields::to(out);
    fields.prefix(1, len);
    fields.number(1, kind);
    fields.number(2, message.source.0);
    fields.number(3, message.group);
    fields.text(4, msg_id.0);
    fields.text(5, text);
    fields.number(6, message.sent_at);
    fields.number(4, order.is_ordered.into());
    fields.number(5, order.ordered_before);
}

/// Where the id of an entry's message stands among the ordered ids of the inbox. See the fields of these names in
/// [`EntryRecord`].
#[derive(Debug, Clone, Copy)]
pub struct IdOrder {
    is_ordered: bool,
    ordered_before: i64,
}

impl IdOrder {
    /// The order of an entry whose own id is the highest ordered one.
    pub const ORDERED: IdOrder = IdOrder {
        is_ordered: true,
        ordered_before: 0,
    };

    /// Returns the order of an entry whose id is not ordered, behind an entry up to which `highest` is the highest ordered
    /// id of the inbox, or 0.
    pub fn after(highest: i64) -> IdOrder {
        IdOrder {
            is_ordered: false,
            ordered_before: highest,
        }
    }
}

impl MessageRecord {
    /// Returns the kind of the message, if its number stands for one.
    pub fn kind(&self) -> Option<Kind> {
        kind_of(self.kind)
    }

    /// Returns the message, if the number of its kind stands for one.
    pub fn message(&self) -> Option<Message> {
        let kind = self.kind()?;
        Some(Message::new(
            kind,
            Uid(self.source),
            GroupId::nonzero(self.group),
            MsgId(&self.msg_id),
            &self.text,
            self.sent_at,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Version;

    #[test]
    fn a_record_reads_back_and_every_flipped_bit_shows() {
        let record = UserRecord {
            name: "ann".into(),
            password_hash: "hash".into(),
        };
        let key = user_key(Uid(7));
        let value = record.seal(&key, &mut Vec::new());
        assert!(UserRecord::decode_checked(&key, &value).unwrap() == record);
        for bit in 0..value.len() * 8 {
            let mut flipped = value.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(UserRecord::decode_checked(&key, &flipped) == Err(Damaged(tag::USER)));
        }
    }

    #[test]
    fn a_record_under_another_key_is_damaged() {
        let record = NumberRecord { value: 7 };
        let value = record.seal(&read_key(Uid(1)), &mut Vec::new());
        assert!(NumberRecord::decode_checked(&read_key(Uid(2)), &value).is_err());
        assert!(MemberRecord::decode_checked(&trimmed_through_key(Uid(1)), &value).is_err());
    }

    #[test]
    fn an_entry_is_encoded_as_its_record_would_be() {
        let text = "a text".repeat(50);
        let full = Message::new(
            Kind::P2p,
            Uid(7),
            Some(GroupId(9)),
            MsgId("id"),
            &text,
            1_700_000_000_000,
        );
        let empty = Message::new(Kind::Ack, Uid(0), None, MsgId(""), "", 0);
        let negative = Message::new(
            Kind::P2p,
            Uid(-1),
            Some(GroupId(9)),
            MsgId("id"),
            &text,
            i64::MIN,
        );
        for (message, order) in [
            (full, IdOrder::ORDERED),
            (empty, IdOrder::after(7)),
            (negative, IdOrder::after(i64::MAX)),
        ] {
            let record = EntryRecord {
                message: Some((&message).into()),
                is_ordered: order.is_ordered,
                ordered_before: order.ordered_before,
                ..EntryRecord::default()
            };
            let mut encoded = b"what was there before".to_vec();
            encode_own(&message, order, &mut encoded);
            assert_eq!(encoded, prost::Message::encode_to_vec(&record));
            // One encoding serves many keys.
            for key in [entry_key(Uid(1), Version(1)), entry_key(Uid(2), Version(9))] {
                let value = seal(&key, &mut encoded);
                assert!(EntryRecord::decode_checked(&key, &value).unwrap() == record);
            }
        }
    }
}

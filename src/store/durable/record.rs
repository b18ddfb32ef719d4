//! What the folder holds: keys and values of every record.
//!
//! A key begins with a byte that says what it is, and its numbers are big-endian, so that the engine's order is theirs.
//! Every value ends with a check over key and value: what was altered, or stands under another key, is not taken for a
//! record.

use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::Scope;
use bytes::BufMut;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::engine::{Key, Value};
use crate::proto::fields::{Fields, number_len, text_len};
use crate::store::{Kind, Message};

/// Bytes of the check at the end of a value.
const CHECK: usize = 4;

/// A record that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of kind {:?} is damaged", char::from(*.0))]
pub struct Damaged(pub u8);

impl Damaged {
    /// The record of that key is.
    pub fn at(key: &[u8]) -> Self {
        Damaged(key.first().copied().unwrap_or_default())
    }
}

/// A record's value.
pub trait Record: prost::Message + Default {
    /// The value to store under `key`; `scratch` is where it is made.
    fn seal(&self, key: &[u8], scratch: &mut Vec<u8>) -> Value {
        scratch.clear();
        self.encode_raw(scratch);
        seal(key, scratch)
    }

    /// The record that is stored as `value` under `key`.
    ///
    /// # Errors
    ///
    /// When it is not what was stored there.
    fn open(key: &[u8], value: &[u8]) -> Result<Self, Damaged> {
        let damaged = || Damaged::at(key);
        let (value, found) = value.split_last_chunk::<CHECK>().ok_or_else(damaged)?;
        if check(key, value) != *found {
            return Err(damaged());
        }
        Self::decode(value).map_err(|_| damaged())
    }
}

/// The value to store under `key`, of a record that is encoded already. It can be used again for another key.
pub fn seal(key: &[u8], encoded: &mut Vec<u8>) -> Value {
    let len = encoded.len();
    encoded.extend_from_slice(&check(key, encoded));
    let value = Value::from(encoded.as_slice());
    encoded.truncate(len);
    value
}

fn check(key: &[u8], value: &[u8]) -> [u8; CHECK] {
    let sum = xxh3_64_with_seed(value, xxh3_64(key));
    let [a, b, c, d, ..] = sum.to_le_bytes();
    [a, b, c, d]
}

impl Record for EntryRecord {}
impl Record for IdRecord {}
impl Record for TextRecord {}
impl Record for UserRecord {}
impl Record for GroupRecord {}
impl Record for MemberRecord {}
impl Record for NumberRecord {}
impl Record for SecretRecord {}
impl Record for StateRecord {}

/// A message.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct MessageRecord {
    /// [`Kind`], as [`kind_number`] has it.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(int64, tag = "2")]
    pub source: i64,
    #[prost(int64, tag = "3")]
    pub group: i64,
    #[prost(string, tag = "4")]
    pub msg_id: String,
    #[prost(string, tag = "5")]
    pub text: String,
    #[prost(int64, tag = "6")]
    pub sent_at: i64,
}

/// An inbox entry: the message itself, or the number of a text.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct EntryRecord {
    #[prost(message, optional, tag = "1")]
    pub message: Option<MessageRecord>,
    #[prost(uint64, tag = "2")]
    pub text: u64,
    /// When a message that stands elsewhere was sent.
    #[prost(int64, tag = "3")]
    pub text_sent_at: i64,
}

impl EntryRecord {
    /// When its message was sent: Unix time in milliseconds.
    pub fn sent_at(&self) -> i64 {
        self.message
            .as_ref()
            .map_or(self.text_sent_at, |m| m.sent_at)
    }
}

/// A group message.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct TextRecord {
    #[prost(message, optional, tag = "1")]
    pub message: Option<MessageRecord>,
    /// In how many inboxes it was put.
    #[prost(uint64, tag = "2")]
    pub receivers: u64,
}

/// That a message was stored.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct IdRecord {
    /// The number of a group message's text.
    #[prost(uint64, tag = "1")]
    pub text: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct UserRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub password_hash: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Who made it; 0 where that was not stored yet.
    #[prost(int64, tag = "2")]
    pub owner: i64,
}

/// A member, or a former one: who got the group messages from a number on.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct MemberRecord {
    /// The first text of the time in the group.
    #[prost(uint64, tag = "1")]
    pub since: u64,
}

/// A number that belongs to its key.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct NumberRecord {
    #[prost(int64, tag = "1")]
    pub value: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct SecretRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub secret: Vec<u8>,
}

/// Written with every commit.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct StateRecord {
    /// How many commits there were, this one included.
    #[prost(uint64, tag = "1")]
    pub commits: u64,
    /// The number of the newest text.
    #[prost(uint64, tag = "2")]
    pub texts: u64,
    /// The newest time at which a message was sent or a group was made: Unix time in milliseconds.
    #[prost(int64, tag = "3")]
    pub newest: i64,
    /// The id of the store that the commit is of; 0 in format 1, which had none.
    #[prost(fixed64, tag = "4")]
    pub store: u64,
}

impl StateRecord {
    /// What a commit after this one leaves that changes nothing else.
    #[must_use]
    pub fn next(self) -> StateRecord {
        StateRecord {
            commits: self.commits + 1,
            ..self
        }
    }

    /// The change that every commit has in it.
    pub fn change(&self) -> (Key, Option<Value>) {
        (STATE.into(), Some(self.seal(STATE, &mut Vec::new())))
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

/// Encodes the [`EntryRecord`] of a message that has its entry for itself, byte for byte as prost would, and without a
/// copy of its texts.
pub fn encode_own(message: &Message, out: &mut Vec<u8>) {
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
}

impl MessageRecord {
    /// What it is, if that is known.
    pub fn kind(&self) -> Option<Kind> {
        kind_of(self.kind)
    }

    /// The message, if its kind is known.
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

/// The kind that is stored so.
fn kind_of(number: u32) -> Option<Kind> {
    [Kind::P2p, Kind::Group, Kind::Ack]
        .into_iter()
        .find(|&kind| u32::from(kind_number(kind)) == number)
}

/// How a kind is stored.
pub const fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::P2p => 1,
        Kind::Group => 2,
        Kind::Ack => 3,
    }
}

/// The most numbers of a key that has nothing else, and its bytes.
const MOST_NUMBERS: usize = 3;
const LONGEST: usize = 1 + MOST_NUMBERS * size_of::<i64>();

/// A key of numbers. Short as it is, it mostly needs no memory of its own.
fn key<const N: usize>(tag: u8, numbers: [i64; N]) -> Key {
    const { assert!(N <= MOST_NUMBERS) };
    let mut bytes = [0; LONGEST];
    let mut rest = bytes.as_mut_slice();
    rest.put_u8(tag);
    for number in numbers {
        rest.put_i64(number);
    }
    let len = LONGEST - rest.len();
    Key::from(bytes.get(..len).unwrap_or_default())
}

/// The numbers of a key, if it has just so many.
pub fn numbers<const N: usize>(key: &[u8]) -> Option<[i64; N]> {
    let (numbers, rest) = key.get(1..)?.as_chunks::<8>();
    let numbers: &[[u8; 8]; N] = numbers.try_into().ok().filter(|_| rest.is_empty())?;
    Some(numbers.map(i64::from_be_bytes))
}

/// What is in an id's key: kind, sender, id of the message, and scope.
pub fn id_parts(key: &[u8]) -> Option<(Kind, Uid, MsgId<'_>, Scope)> {
    let [b'd', number, rest @ ..] = key else {
        return None;
    };
    let kind = kind_of((*number).into())?;
    let (source, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (msg_id, scope) = rest.split_at_checked(length)?;
    let msg_id = std::str::from_utf8(msg_id).ok()?;
    let number = i64::from_be_bytes(scope.try_into().ok()?);
    let scope = match kind {
        Kind::P2p | Kind::Ack => Scope::Inbox(Uid(number)),
        Kind::Group => Scope::Group(GroupId(number)),
    };
    let source = Uid(i64::from_be_bytes(*source));
    Some((kind, source, MsgId(msg_id), scope))
}

/// The last number of a key.
pub fn last_number<T: From<i64>>(key: &[u8]) -> T {
    let last = key.last_chunk();
    last.map_or(0, |bytes| i64::from_be_bytes(*bytes)).into()
}

/// The first number of a key.
pub fn first_number<T: From<i64>>(key: &[u8]) -> T {
    let numbers = key.get(1..).unwrap_or_default();
    let first = numbers.first_chunk();
    first.map_or(0, |bytes| i64::from_be_bytes(*bytes)).into()
}

/// All entries of an inbox.
pub fn inbox_prefix(uid: Uid) -> Key {
    key(b'i', [uid.0])
}

/// An entry of an inbox.
pub fn inbox_key(uid: Uid, version: Version) -> Key {
    key(b'i', [uid.0, version.0])
}

/// All scopes in which `source` has used `msg_id`.
pub fn id_prefix(kind: Kind, source: Uid, msg_id: MsgId<'_>) -> Key {
    id_bytes(kind, source, msg_id).into()
}

fn id_bytes(kind: Kind, source: Uid, msg_id: MsgId<'_>) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + 8 + 4 + msg_id.0.len() + 8);
    key.extend_from_slice(&[b'd', kind_number(kind)]);
    key.extend_from_slice(&source.0.to_be_bytes());
    // With its length in front, no id is the beginning of another.
    let length = u32::try_from(msg_id.0.len()).unwrap_or(u32::MAX);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(msg_id.0.as_bytes());
    key
}

/// That a message was stored.
pub fn id_key(kind: Kind, source: Uid, msg_id: MsgId<'_>, scope: Scope) -> Key {
    let mut key = id_bytes(kind, source, msg_id);
    key.extend_from_slice(&scope.number().to_be_bytes());
    key.into()
}

/// The text of a group message, once for all its receivers.
pub fn text_key(number: u64) -> Key {
    key(b't', [number.cast_signed()])
}

/// A user.
pub fn user_key(uid: Uid) -> Key {
    key(b'u', [uid.0])
}

/// A group.
pub fn group_key(group: GroupId) -> Key {
    key(b'g', [group.0])
}

/// All members of a group; the last number of each key is the member.
pub fn members_prefix(group: GroupId) -> Key {
    key(b'm', [group.0])
}

/// A member.
pub fn member_key(group: GroupId, uid: Uid) -> Key {
    key(b'm', [group.0, uid.0])
}

/// All users.
pub const USERS: &[u8] = b"u";

/// All groups.
pub const GROUPS: &[u8] = b"g";

/// All memberships.
pub const MEMBERS: &[u8] = b"m";

/// All memberships that are over.
pub const FORMER: &[u8] = b"f";

/// All texts.
pub const TEXTS: &[u8] = b"t";

/// All entries of all inboxes.
pub const INBOXES: &[u8] = b"i";

/// All ends of inboxes from which something was removed.
pub const CUTS: &[u8] = b"c";

/// All times of `uid` in `group` that are over.
pub fn former_prefix(uid: Uid, group: GroupId) -> Key {
    key(b'f', [uid.0, group.0])
}

/// A time in a group that ended before the text `until`.
pub fn former_key(uid: Uid, group: GroupId, until: u64) -> Key {
    key(b'f', [uid.0, group.0, until.cast_signed()])
}

/// How far a user has read.
pub fn read_key(uid: Uid) -> Key {
    key(b'r', [uid.0])
}

/// The last version of an inbox that was removed.
pub fn cut_key(uid: Uid) -> Key {
    key(b'c', [uid.0])
}

/// From how many inboxes a group message was removed.
pub fn removed_key(text: u64) -> Key {
    key(b'o', [text.cast_signed()])
}

/// All ids that are to be forgotten.
pub const EXPIRING: &[u8] = b"x";

/// An id whose message is gone, and that is to be forgotten when the message is old enough.
pub fn expiring_key(sent_at: i64, id: &[u8]) -> Key {
    let mut key = EXPIRING.to_vec();
    key.extend_from_slice(&sent_at.to_be_bytes());
    key.extend_from_slice(id);
    key.into()
}

/// The id in an [`expiring_key`], and when its message was sent.
pub fn expiring(key: &[u8]) -> Option<(i64, &[u8])> {
    let (sent_at, id) = key.get(1..)?.split_first_chunk()?;
    Some((i64::from_be_bytes(*sent_at), id))
}

/// What signs tokens.
pub const SIGNING_KEY: &[u8] = b"k";

/// The [`StateRecord`].
pub const STATE: &[u8] = b"s";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_every_flipped_bit_shows() {
        let record = UserRecord {
            name: "ann".into(),
            password_hash: "hash".into(),
        };
        let key = user_key(Uid(7));
        let value = record.seal(&key, &mut Vec::new());
        assert!(UserRecord::open(&key, &value).unwrap() == record);
        for bit in 0..value.len() * 8 {
            let mut flipped = value.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(UserRecord::open(&key, &flipped) == Err(Damaged(b'u')));
        }
    }

    #[test]
    fn a_record_under_another_key_is_damaged() {
        let record = NumberRecord { value: 7 };
        let value = record.seal(&read_key(Uid(1)), &mut Vec::new());
        assert!(NumberRecord::open(&read_key(Uid(2)), &value).is_err());
        assert!(MemberRecord::open(&cut_key(Uid(1)), &value).is_err());
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
        for message in [full, empty, negative] {
            let record = EntryRecord {
                message: Some((&message).into()),
                ..EntryRecord::default()
            };
            let mut encoded = b"what was there before".to_vec();
            encode_own(&message, &mut encoded);
            assert_eq!(encoded, prost::Message::encode_to_vec(&record));
            // One encoding serves many keys.
            for key in [inbox_key(Uid(1), Version(1)), inbox_key(Uid(2), Version(9))] {
                let value = seal(&key, &mut encoded);
                assert!(EntryRecord::open(&key, &value).unwrap() == record);
            }
        }
    }

    #[test]
    fn ids_of_one_sender_are_never_mistaken_for_another() {
        let scope = Scope::Group(GroupId(5));
        let one = id_prefix(Kind::Group, Uid(1), MsgId("a"));
        assert!(id_key(Kind::Group, Uid(1), MsgId("a"), scope).starts_with(&one));
        assert!(!id_key(Kind::Group, Uid(1), MsgId("ab"), scope).starts_with(&one));
        assert!(!id_key(Kind::P2p, Uid(1), MsgId("a"), scope).starts_with(&one));
    }
}

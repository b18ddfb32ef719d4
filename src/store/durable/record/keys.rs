//! The keys of the records.
//!
//! Serves all modules that read or write records. A key begins with a byte that says which kind of record it is of. The
//! numbers after it are big-endian, so that the engine's order of the keys is the order of the numbers.

use bytes::BufMut;

use super::super::kv::Key;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::ordered_id::number_of;
use crate::store::{Kind, Scope};

/// The kinds of records: each is the first byte of its keys.
pub mod tag {
    /// An entry of an inbox.
    pub const ENTRY: u8 = b'i';
    /// A message to a group, which the entries of its receivers share.
    pub const SHARED_MESSAGE: u8 = b't';
    /// The number of inboxes that a shared message was removed from.
    pub const SHARED_REMOVED: u8 = b'o';
    /// The id of a stored message.
    pub const MESSAGE_ID: u8 = b'd';
    /// The id of a removed message, which is kept until it expires.
    pub const EXPIRING_ID: u8 = b'x';
    /// The read mark of a user.
    pub const READ_MARK: u8 = b'r';
    /// The newest version that was removed from an inbox.
    pub const TRIMMED_THROUGH: u8 = b'c';
    /// A registered user.
    pub const USER: u8 = b'u';
    /// A group, without its members.
    pub const GROUP: u8 = b'g';
    /// A present member of a group.
    pub const MEMBER: u8 = b'm';
    /// A former membership of a group.
    pub const FORMER_MEMBER: u8 = b'f';
    /// The secret that signs tokens.
    pub const SIGNING_KEY: u8 = b'k';
    /// The state of the store, which every commit writes.
    pub const STATE: u8 = b's';
}

/// The prefix of all users.
pub const USER_PREFIX: &[u8] = &[tag::USER];

/// The prefix of all groups.
pub const GROUP_PREFIX: &[u8] = &[tag::GROUP];

/// The prefix of all members of all groups.
pub const MEMBER_PREFIX: &[u8] = &[tag::MEMBER];

/// The prefix of all former members.
pub const FORMER_MEMBER_PREFIX: &[u8] = &[tag::FORMER_MEMBER];

/// The prefix of all shared messages.
pub const SHARED_MESSAGE_PREFIX: &[u8] = &[tag::SHARED_MESSAGE];

/// The prefix of all entries of all inboxes.
pub const ENTRY_PREFIX: &[u8] = &[tag::ENTRY];

/// The prefix of the last removed version of each inbox.
pub const TRIMMED_THROUGH_PREFIX: &[u8] = &[tag::TRIMMED_THROUGH];

/// The prefix of the ids of all messages to one user.
pub const P2P_ID_PREFIX: &[u8] = &[tag::MESSAGE_ID, kind_number(Kind::P2p)];

/// The prefix of all message ids that expire.
pub const EXPIRING_ID_PREFIX: &[u8] = &[tag::EXPIRING_ID];

/// The key of the secret that signs tokens.
pub const SIGNING_KEY: &[u8] = &[tag::SIGNING_KEY];

/// The key of the [`StateRecord`](super::StateRecord).
pub const STATE: &[u8] = &[tag::STATE];

/// The highest count of numbers in a key that has nothing else, and the length of such a key.
const MAX_NUMBERS: usize = 3;
const MAX_LEN: usize = 1 + MAX_NUMBERS * size_of::<i64>();

/// Returns a key of numbers. The engine mostly stores it without an allocation of its own, because it is short.
fn key<const N: usize>(kind: u8, numbers: [i64; N]) -> Key {
    const { assert!(N <= MAX_NUMBERS) };
    let mut bytes = [0; MAX_LEN];
    let mut rest = bytes.as_mut_slice();
    rest.put_u8(kind);
    for number in numbers {
        rest.put_i64(number);
    }
    let len = MAX_LEN - rest.len();
    Key::from(bytes.get(..len).unwrap_or_default())
}

/// Returns the prefix of all entries of an inbox.
pub fn inbox_prefix(uid: Uid) -> Key {
    key(tag::ENTRY, [uid.0])
}

/// Returns the key of an entry of an inbox.
pub fn entry_key(uid: Uid, version: Version) -> Key {
    key(tag::ENTRY, [uid.0, version.0])
}

/// Returns the prefix of all scopes in which `source` has used `msg_id`.
pub fn id_prefix(kind: Kind, source: Uid, msg_id: MsgId<'_>) -> Key {
    id_bytes(kind, source, msg_id).into()
}

/// Returns the key of a stored message's id.
pub fn id_key(kind: Kind, source: Uid, msg_id: MsgId<'_>, scope: Scope) -> Key {
    let mut key = id_bytes(kind, source, msg_id);
    key.extend_from_slice(&scope.number().to_be_bytes());
    key.into()
}

fn id_bytes(kind: Kind, source: Uid, msg_id: MsgId<'_>) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + 8 + 4 + msg_id.0.len() + 8);
    key.extend_from_slice(&[tag::MESSAGE_ID, kind_number(kind)]);
    key.extend_from_slice(&source.0.to_be_bytes());
    // The length comes first, so that the prefix of one id is never that of a longer one.
    let length = u32::try_from(msg_id.0.len()).unwrap_or(u32::MAX);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(msg_id.0.as_bytes());
    key
}

/// Returns the key of a shared message, which all its receivers share.
pub fn shared_key(number: u64) -> Key {
    key(tag::SHARED_MESSAGE, [number.cast_signed()])
}

/// Returns the key of the number of inboxes that a shared message was removed from.
pub fn shared_removed_key(number: u64) -> Key {
    key(tag::SHARED_REMOVED, [number.cast_signed()])
}

/// Returns the key of a user.
pub fn user_key(uid: Uid) -> Key {
    key(tag::USER, [uid.0])
}

/// Returns the key of a group.
pub fn group_key(group: GroupId) -> Key {
    key(tag::GROUP, [group.0])
}

/// Returns the prefix of all members of a group. The last number of each key is the member's uid.
pub fn members_prefix(group: GroupId) -> Key {
    key(tag::MEMBER, [group.0])
}

/// Returns the key of a member.
pub fn member_key(group: GroupId, uid: Uid) -> Key {
    key(tag::MEMBER, [group.0, uid.0])
}

/// Returns the prefix of all former memberships of `uid` in `group`.
pub fn former_prefix(uid: Uid, group: GroupId) -> Key {
    key(tag::FORMER_MEMBER, [uid.0, group.0])
}

/// Returns the key of a former membership, which ended before the shared message `until`.
pub fn former_key(uid: Uid, group: GroupId, until: u64) -> Key {
    key(tag::FORMER_MEMBER, [uid.0, group.0, until.cast_signed()])
}

/// Returns the key of a user's read mark.
pub fn read_key(uid: Uid) -> Key {
    key(tag::READ_MARK, [uid.0])
}

/// Returns the key of the last version that was removed from an inbox.
pub fn trimmed_through_key(uid: Uid) -> Key {
    key(tag::TRIMMED_THROUGH, [uid.0])
}

/// Returns the key of an id that expires. The message with this id was removed, and the id is kept until the message is
/// so old that nobody sends it again.
pub fn expiring_key(sent_at: i64, id: &[u8]) -> Key {
    let mut key = EXPIRING_ID_PREFIX.to_vec();
    key.extend_from_slice(&sent_at.to_be_bytes());
    key.extend_from_slice(id);
    key.into()
}

/// Returns what an [`expiring_key`] is made of: when the message was sent, and the key of its id.
pub fn expiring(key: &[u8]) -> Option<(i64, &[u8])> {
    let (sent_at, id) = key.get(1..)?.split_first_chunk()?;
    Some((i64::from_be_bytes(*sent_at), id))
}

/// Returns the numbers of a key, if it has exactly `N`.
pub fn numbers<const N: usize>(key: &[u8]) -> Option<[i64; N]> {
    let (numbers, rest) = key.get(1..)?.as_chunks::<8>();
    let numbers: &[[u8; 8]; N] = numbers.try_into().ok().filter(|_| rest.is_empty())?;
    Some(numbers.map(i64::from_be_bytes))
}

/// Returns the first number of a key; 0 if it has none.
pub fn first_number<T: From<i64>>(key: &[u8]) -> T {
    let numbers = key.get(1..).unwrap_or_default();
    let first = numbers.first_chunk();
    first.map_or(0, |bytes| i64::from_be_bytes(*bytes)).into()
}

/// Returns the last number of a key; 0 if it has none.
pub fn last_number<T: From<i64>>(key: &[u8]) -> T {
    let last = key.last_chunk();
    last.map_or(0, |bytes| i64::from_be_bytes(*bytes)).into()
}

/// Returns what an [`id_key`] is made of, if it is one.
pub fn id_parts(key: &[u8]) -> Option<(Kind, Uid, MsgId<'_>, Scope)> {
    let [tag::MESSAGE_ID, number, rest @ ..] = key else {
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

/// Returns the number that an id is, from its [`id_key`]; 0 if it is none, or not that of a message to one user. None if this
/// is no such key.
pub fn p2p_number(key: &[u8]) -> Option<i64> {
    let (kind, _, msg_id, _) = id_parts(key)?;
    let number = number_of(msg_id).filter(|_| kind == Kind::P2p);
    Some(number.unwrap_or_default())
}

/// Returns the number that stands for a kind of message, in keys and in values.
pub const fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::P2p => 1,
        Kind::Group => 2,
        Kind::Ack => 3,
    }
}

/// Returns the kind of message that a number stands for, if there is one.
pub fn kind_of(number: u32) -> Option<Kind> {
    [Kind::P2p, Kind::Group, Kind::Ack]
        .into_iter()
        .find(|&kind| u32::from(kind_number(kind)) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_sender_are_never_mistaken_for_another() {
        let scope = Scope::Group(GroupId(5));
        let one = id_prefix(Kind::Group, Uid(1), MsgId("a"));
        assert!(id_key(Kind::Group, Uid(1), MsgId("a"), scope).starts_with(&one));
        assert!(!id_key(Kind::Group, Uid(1), MsgId("ab"), scope).starts_with(&one));
        assert!(!id_key(Kind::P2p, Uid(1), MsgId("a"), scope).starts_with(&one));
    }
}

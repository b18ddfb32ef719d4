//! Tells which message ids are ordered, so that a store finds their messages in the inbox itself.
//!
//! Serves both stores. The server gives increasing ids, so the messages that have them stand in an inbox in the order of
//! their ids. A store calls the id of a new entry ordered if it [may be](may_be_ordered) and is higher than all ordered ids
//! of the inbox before it. It finds such an entry by a binary search, and keeps no record of the id elsewhere. A client may
//! choose an id that the server will give to another message later, so an id is new only if it is also in no record of the
//! other ids.

use super::{Kind, Message};
use crate::id::MsgId;
use crate::idgen::TIME_SHIFT;

/// How far the time in an ordered id may be from the send time of its message, in milliseconds. The ids of the server run
/// ahead of the clock after a start, and when many are given in one millisecond. The distance is short, because no lower id
/// of the inbox can be ordered until the clock has come to the highest one.
const MAX_TIME_DISTANCE: u64 = 10_000;

/// Returns the number that an id is, if it is written as the server writes its own. A leading zero or a sign would make two
/// texts of one number.
pub fn number_of(msg_id: MsgId<'_>) -> Option<i64> {
    /// The number of digits of `i64::MAX`. Any number of that many digits fits into a `u64`, so the loop needs no overflow
    /// check.
    const MAX_DIGITS: usize = 19;
    let digits = msg_id.0.as_bytes();
    if digits.len() > MAX_DIGITS || !matches!(digits, [b'1'..=b'9', ..]) {
        return None;
    }
    let mut number = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    i64::try_from(number).ok()
}

/// Returns whether `number`, the id of `message`, may become the highest ordered id of an inbox: whether the message is to
/// one user, and the time in the id is nearly the time at which it was sent. Only an id of the server mostly is so. A client
/// may choose a very high number, after which no other id would be ordered.
pub fn may_be_ordered(message: &Message, number: i64) -> bool {
    message.kind == Kind::P2p
        && message.group().is_none()
        && (number >> TIME_SHIFT).abs_diff(message.sent_at) <= MAX_TIME_DISTANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_number_if_the_server_could_have_written_it() {
        for number in [1, 9, 10, 7_400_000_000_000_000_000, i64::MAX] {
            assert_eq!(number_of(MsgId(&number.to_string())), Some(number));
        }
        let others = [
            "",
            "0",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "99999999999999999999",
        ];
        for text in others {
            assert_eq!(number_of(MsgId(text)), None, "{text}");
        }
    }
}

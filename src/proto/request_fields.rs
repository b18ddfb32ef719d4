//! Reads a request of the contract in one pass, without a message in between.
//!
//! Serves [`Command`](crate::command::Command), which is made of the fields. It accepts and refuses the same bytes as
//! prost, except that a text need not be UTF-8.

use std::borrow::Cow;

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The number of fields that the longest request has, and the unused field 0.
const FIELDS: usize = 7;

/// The type of a request's field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Any integer of the contract.
    Number,
    /// A string, which need not be UTF-8.
    Text,
}

/// Returns the number in field 1 if the frame begins with it: in nearly every frame this is the command. If field 1 is
/// repeated, a later value counts instead, so check the command again after decoding the whole frame.
pub fn first_number(frame: &[u8]) -> Option<u32> {
    let mut value = frame.strip_prefix(&[1 << 3])?;
    u32::try_from(varint(&mut value).ok()?).ok()
}

/// Decodes a number. Most have one byte, and the decoder for all lengths takes longer to call than to do that.
#[inline(always)]
fn varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    match *bytes {
        [byte @ ..0x80, rest @ ..] => {
            *bytes = rest;
            Ok(u64::from(*byte))
        }
        _ => long_varint(bytes),
    }
}

/// Decodes a number of two bytes or more.
fn long_varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    match *bytes {
        // The number of a command.
        [a, b, c @ ..0x80, rest @ ..] if a & b >= 0x80 => {
            *bytes = rest;
            Ok(u64::from(a & 0x7f) | u64::from(b & 0x7f) << 7 | u64::from(*c) << 14)
        }
        _ => decode_varint(bytes),
    }
}

/// Decodes the key of a field. Fields 1 to 15 have keys of one byte.
#[inline(always)]
fn key(bytes: &mut &[u8]) -> Result<(u32, WireType), DecodeError> {
    match *bytes {
        [key @ 8..0x80, rest @ ..] => {
            *bytes = rest;
            Ok((u32::from(key >> 3), WireType::try_from(u64::from(key & 7))?))
        }
        _ => decode_key(bytes),
    }
}

/// A request whose fields are all numbers and texts. Its texts are borrowed from the frame.
#[derive(Debug, Default)]
pub struct RequestFields<'a> {
    numbers: [u64; FIELDS],
    texts: [&'a [u8]; FIELDS],
}

/// The error for a frame that is not protobuf, or not the message that its command calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame can't be decoded")]
pub struct Undecodable;

impl<'a> RequestFields<'a> {
    /// Reads a message whose fields 1, 2, ... have these types; at most six. Of a repeated field the last value counts,
    /// and unknown fields are skipped.
    ///
    /// # Errors
    ///
    /// When a field can't be decoded, or has another type.
    pub fn read(mut frame: &'a [u8], types: &[FieldType]) -> Result<Self, Undecodable> {
        let mut fields = RequestFields::default();
        // This does not use a `FieldReader`: passing each field through it takes 170 instructions more for a message.
        while !frame.is_empty() {
            let (tag, wire_type) = key(&mut frame)?;
            let field = usize::try_from(tag).map_err(|_| Undecodable)?;
            match (types.get(field - 1), wire_type) {
                (Some(FieldType::Number), WireType::Varint) => {
                    let number = varint(&mut frame)?;
                    if let Some(place) = fields.numbers.get_mut(field) {
                        *place = number;
                    }
                }
                (Some(FieldType::Text), WireType::LengthDelimited) => {
                    let len = varint(&mut frame)?;
                    let len = usize::try_from(len).map_err(|_| Undecodable)?;
                    let (text, rest) = frame.split_at_checked(len).ok_or(Undecodable)?;
                    if let Some(place) = fields.texts.get_mut(field) {
                        *place = text;
                    }
                    frame = rest;
                }
                (Some(_), _) => return Err(Undecodable),
                (None, _) => skip_field(wire_type, tag, &mut frame, DecodeContext::default())?,
            }
        }
        Ok(fields)
    }

    /// Returns the number in a field, or 0 if the field is absent.
    pub fn number(&self, field: usize) -> i64 {
        let number = self.numbers.get(field).copied();
        number.unwrap_or_default().cast_signed()
    }

    /// Returns the number in a 32-bit field. Higher bits are discarded, as prost does.
    pub fn number32(&self, field: usize) -> u32 {
        let [a, b, c, d, ..] = self.number(field).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Returns the text in a field. Each sequence in it that is not UTF-8 becomes U+FFFD, as in the JSON that the
    /// original stack passes between its servers.
    pub fn text(&self, field: usize) -> Cow<'a, str> {
        let text = self.texts.get(field).copied().unwrap_or_default();
        // Nearly every text is UTF-8, and checking for that alone is faster than the lossy conversion.
        std::str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    const TYPES: [FieldType; 6] = [
        FieldType::Number,
        FieldType::Text,
        FieldType::Number,
        FieldType::Number,
        FieldType::Text,
        FieldType::Text,
    ];

    /// The same message as a type of prost. Its texts are declared as bytes, because prost refuses strings that are not
    /// UTF-8.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Known {
        #[prost(uint32, tag = "1")]
        one: u32,
        #[prost(bytes = "vec", tag = "2")]
        two: Vec<u8>,
        #[prost(int64, tag = "3")]
        three: i64,
        #[prost(int64, tag = "4")]
        four: i64,
        #[prost(bytes = "vec", tag = "5")]
        five: Vec<u8>,
        #[prost(bytes = "vec", tag = "6")]
        six: Vec<u8>,
    }

    fn agrees(frame: &[u8]) -> Result<(), TestCaseError> {
        let (ours, theirs) = (RequestFields::read(frame, &TYPES), Known::decode(frame));
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours.number32(1), theirs.one);
            prop_assert_eq!(
                (ours.number(3), ours.number(4)),
                (theirs.three, theirs.four)
            );
            let texts = [(2, theirs.two), (5, theirs.five), (6, theirs.six)];
            for (field, text) in texts {
                prop_assert_eq!(ours.text(field), String::from_utf8_lossy(&text));
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_prost_reads_is_read_alike_and_nothing_else(
            one in any::<u32>(), numbers in prop::array::uniform2(any::<i64>()),
            texts in prop::array::uniform3(prop::collection::vec(any::<u8>(), 0..20)),
            unknown in prop::collection::vec(any::<u8>(), 0..12),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            end in any::<prop::sample::Index>(), is_cut in any::<bool>(),
        ) {
            let [three, four] = numbers;
            let [two, five, six] = texts;
            let mut frame = Known { one, two, three, four, five, six }.encode_to_vec();
            frame.extend_from_slice(&unknown);
            agrees(&frame)?;
            for (place, byte) in changes {
                if !frame.is_empty() {
                    let place = place.index(frame.len());
                    frame[place] = byte;
                }
            }
            if is_cut && !frame.is_empty() {
                frame.truncate(end.index(frame.len()));
            }
            agrees(&frame)?;
        }

        #[test]
        fn random_bytes_are_read_alike(frame in prop::collection::vec(any::<u8>(), 0..64)) {
            agrees(&frame)?;
        }
    }
}

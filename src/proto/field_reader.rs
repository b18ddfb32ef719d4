//! Reads protobuf messages field by field, without copying texts.
//!
//! The load generators (`imd::load`) read replies with it, and the store in memory its encoded entries. Requests have a
//! faster reader of their own, [`RequestFields`](super::RequestFields).

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::Undecodable;

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// A varint: any number of the contract.
    Number(u64),
    /// A text or an embedded message.
    Bytes(&'a [u8]),
    /// A wire type that the contract does not use; its contents are skipped.
    Other,
}

impl<'a> FieldValue<'a> {
    /// Returns the value as a text; an empty one if it is none.
    pub fn text(self) -> &'a str {
        match self {
            FieldValue::Bytes(bytes) => str::from_utf8(bytes).unwrap_or_default(),
            FieldValue::Number(_) | FieldValue::Other => "",
        }
    }

    /// Returns the value as an int64 of the contract; 0 if it is not a number.
    pub fn int(self) -> i64 {
        match self {
            FieldValue::Number(number) => number.cast_signed(),
            FieldValue::Bytes(_) | FieldValue::Other => 0,
        }
    }
}

/// An iterator over the fields of a message, as tag and value, in the order in which they are encoded.
///
/// After an error the iterator must not be used any more: what it would return has no meaning.
#[derive(Debug, Clone)]
pub struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
    /// Reads the fields of an encoded message.
    pub fn new(message: &'a [u8]) -> Self {
        FieldReader(message)
    }

    #[inline]
    fn read(&mut self) -> Result<(u32, FieldValue<'a>), Undecodable> {
        let (tag, wire_type) = decode_key(&mut self.0)?;
        let value = match wire_type {
            WireType::Varint => FieldValue::Number(decode_varint(&mut self.0)?),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut self.0)?;
                let len = usize::try_from(len).map_err(|_| Undecodable)?;
                let (bytes, rest) = self.0.split_at_checked(len).ok_or(Undecodable)?;
                self.0 = rest;
                FieldValue::Bytes(bytes)
            }
            other => {
                skip_field(other, tag, &mut self.0, DecodeContext::default())?;
                FieldValue::Other
            }
        };
        Ok((tag, value))
    }
}

impl<'a> Iterator for FieldReader<'a> {
    type Item = Result<(u32, FieldValue<'a>), Undecodable>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.read())
    }
}

impl From<DecodeError> for Undecodable {
    fn from(_: DecodeError) -> Self {
        Undecodable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{OffsetMsg, ResSyncMsg};
    use prost::Message;

    #[test]
    fn a_page_is_read_in_place() {
        let entry = OffsetMsg {
            msg: "hello".into(),
            increment_id: 7,
            ..Default::default()
        };
        let page = ResSyncMsg {
            cmd: 20006,
            err_str: "why".into(),
            current_id: -1,
            msgs: vec![entry],
            ..Default::default()
        };
        let frame = page.encode_to_vec();
        let fields: Vec<_> = FieldReader::new(&frame).map(Result::unwrap).collect();
        assert_eq!(fields[0], (1, FieldValue::Number(20006)));
        assert_eq!(fields[1], (4, FieldValue::Bytes(b"why")));
        assert_eq!((fields[2].0, fields[2].1.int()), (5, -1));
        let (6, FieldValue::Bytes(entry)) = fields[3] else {
            panic!("{fields:?}");
        };
        let entry: Vec<_> = FieldReader::new(entry).map(Result::unwrap).collect();
        let text = (6, FieldValue::Bytes(b"hello"));
        assert_eq!(entry, [text, (7, FieldValue::Number(7))]);
    }

    #[test]
    fn a_field_that_is_cut_off_is_an_error() {
        for cut in [&[0x0a, 0x05, b'x'][..], &[0xff]] {
            assert_eq!(FieldReader::new(cut).next(), Some(Err(Undecodable)));
        }
    }
}

//! Reading a frame where it lies: a generated message would copy each text of a page.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// As an int64 of the contract.
    pub fn int(self) -> i64 {
        match self {
            Value::Number(number) => number.cast_signed(),
            Value::Bytes(_) => 0,
        }
    }
}

/// The fields of a message, in the order in which they stand. Ends early where the message is no protobuf.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of this message.
    pub fn of(message: &'a [u8]) -> Self {
        Fields(message)
    }

    fn read(&mut self) -> Option<(u32, Value<'a>)> {
        loop {
            let (tag, wire_type) = decode_key(&mut self.0).ok()?;
            match wire_type {
                WireType::Varint => {
                    return Some((tag, Value::Number(decode_varint(&mut self.0).ok()?)));
                }
                WireType::LengthDelimited => {
                    let len = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                    let (bytes, rest) = self.0.split_at_checked(len)?;
                    self.0 = rest;
                    return Some((tag, Value::Bytes(bytes)));
                }
                other => skip_field(other, tag, &mut self.0, DecodeContext::default()).ok()?,
            }
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        field
    }
}

/// The command of a frame; 0 when it has none. It is field 1, which writers put first.
pub fn command(frame: &[u8]) -> u32 {
    let number = Fields::of(frame).find(|(tag, _)| *tag == 1);
    number.map_or(0, |(_, value)| {
        u32::try_from(value.int()).unwrap_or_default()
    })
}

/// What an answer says: the code in that field, and the text in the one after it.
pub fn verdict(frame: &[u8], code: u32) -> (u32, &[u8]) {
    let mut found: (u32, &[u8]) = (0, &[]);
    for (tag, value) in Fields::of(frame) {
        match value {
            Value::Number(number) if tag == code => {
                found.0 = u32::try_from(number).unwrap_or(u32::MAX);
            }
            Value::Bytes(text) if tag == code + 1 => found.1 = text,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use imd::proto::{OffsetMsg, ResSyncMsg};
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
            err_code: 3,
            err_str: "why".into(),
            current_id: -1,
            msgs: vec![entry],
            ..Default::default()
        };
        let frame = page.encode_to_vec();
        assert_eq!(command(&frame), 20006);
        assert_eq!(verdict(&frame, 3), (3, &b"why"[..]));
        let fields: Vec<_> = Fields::of(&frame).collect();
        assert_eq!((fields[3].0, fields[3].1.int()), (5, -1));
        let (6, Value::Bytes(entry)) = fields[4] else {
            panic!("{fields:?}");
        };
        let entry: Vec<_> = Fields::of(entry).collect();
        assert_eq!(entry, [(6, Value::Bytes(b"hello")), (7, Value::Number(7))]);
    }

    #[test]
    fn what_is_no_protobuf_ends() {
        assert_eq!(Fields::of(&[0x0a, 0x05, b'x']).count(), 0);
        assert_eq!(command(&[0xff]), 0);
    }
}

//! The fields of an answer, a notify or an entry of a page, as far as a load generator looks at them.
//!
//! Serves the users of `imd bench` and `examples/side_by_side`. Nothing is copied. What can't be decoded reads as absent:
//! the caller notices by the command or the id that it expects.

use crate::proto::{Cmd, FieldReader, FieldValue};

/// One more than the highest field number of these messages.
const FIELDS: usize = 9;

/// The numbers and texts of a message by field number. Of a repeated field the last value counts.
///
/// A generated message would copy every text of a page.
#[derive(Debug, Default)]
pub struct FieldTable<'a> {
    message: &'a [u8],
    numbers: [u64; FIELDS],
    texts: [&'a [u8]; FIELDS],
}

/// The code of a reply, and its text.
#[derive(Debug, Clone, Copy)]
pub struct Status<'a> {
    /// The error code; 0 when all went well.
    pub code: u32,
    /// The text, as the server has sent it.
    pub text: &'a [u8],
}

impl<'a> FieldTable<'a> {
    /// Reads a message, as far as it can be decoded.
    #[inline]
    pub fn read(message: &'a [u8]) -> Self {
        let mut table = FieldTable {
            message,
            ..Default::default()
        };
        for (tag, value) in fields(message) {
            let field = usize::try_from(tag).unwrap_or(FIELDS);
            match value {
                FieldValue::Number(number) => {
                    if let Some(place) = table.numbers.get_mut(field) {
                        *place = number;
                    }
                }
                FieldValue::Bytes(text) => {
                    if let Some(place) = table.texts.get_mut(field) {
                        *place = text;
                    }
                }
                FieldValue::Other => {}
            }
        }
        table
    }

    /// Returns the command, if it is one of the contract.
    #[inline]
    pub fn cmd(&self) -> Option<Cmd> {
        Cmd::from_number(u32::try_from(self.number(1)).ok()?)
    }

    /// Returns the number in a field, or 0 if the field is absent.
    #[inline]
    pub fn number(&self, field: usize) -> i64 {
        let number = self.numbers.get(field).copied();
        number.unwrap_or_default().cast_signed()
    }

    /// Returns the text in a field, or nothing if the field is absent.
    #[inline]
    pub fn text(&self, field: usize) -> &'a [u8] {
        self.texts.get(field).copied().unwrap_or_default()
    }

    /// Returns the status whose code is in the field `code`, and whose text is in the field after it.
    pub fn status(&self, code: usize) -> Status<'a> {
        Status {
            code: u32::try_from(self.number(code)).unwrap_or(u32::MAX),
            text: self.text(code + 1),
        }
    }

    /// Returns the entries of a page, each still encoded.
    #[inline]
    pub fn entries(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        fields(self.message).filter_map(|field| match field {
            (6, FieldValue::Bytes(entry)) => Some(entry),
            _ => None,
        })
    }

    /// Returns the version of an entry. This is faster than reading all of its fields.
    #[inline]
    pub fn version(entry: &[u8]) -> i64 {
        let version = fields(entry).find(|(tag, _)| *tag == 7);
        version.map_or(0, |(_, version)| version.int())
    }
}

#[inline]
fn fields(message: &[u8]) -> impl Iterator<Item = (u32, FieldValue<'_>)> {
    FieldReader::new(message).map_while(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{OffsetMsg, ResSyncMsg};
    use prost::Message;

    #[test]
    fn a_page_is_read_with_its_entries() {
        let entry = |text: &str, version| OffsetMsg {
            msg: text.into(),
            increment_id: version,
            ..Default::default()
        };
        let page = ResSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            err_code: 3,
            err_str: "why".into(),
            current_id: -1,
            msgs: vec![entry("hello", 7), entry("", 8)],
            ..Default::default()
        };
        let page = page.encode_to_vec();
        let page = FieldTable::read(&page);
        assert_eq!(page.cmd(), Some(Cmd::SyncMsg));
        let Status { code, text } = page.status(3);
        assert_eq!((code, text, page.number(5)), (3, &b"why"[..], -1));
        let entries = page.entries().map(|entry| {
            let text = FieldTable::read(entry).text(6);
            (text, FieldTable::version(entry))
        });
        assert_eq!(entries.collect::<Vec<_>>(), [(&b"hello"[..], 7), (b"", 8)]);
    }

    #[test]
    fn bytes_that_are_no_protobuf_have_no_fields() {
        let table = FieldTable::read(&[0xff]);
        assert_eq!((table.cmd(), table.text(9)), (None, &b""[..]));
    }
}

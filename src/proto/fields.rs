//! Writes messages field by field from borrowed parts, for the replies that are too frequent to build a message first.
//!
//! Serves the replies of the access servers, the notifies of the sessions, the pages, and the records of the durable
//! store. The bytes are those that prost would write: a field that is 0 or empty is left out.

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encoded_len_varint, int64, key_len};

use super::{Cmd, Code};

/// How many bytes are put together on the stack before they are appended to the buffer. A buffer that may have to grow
/// takes as long for one byte as for all of these.
const STAGED: usize = 128;

/// The most bytes that a key or a number takes.
const MAX_VARINT: usize = 10;

/// Appends fields to a buffer, which holds all of them when this is dropped.
pub struct Fields<'a, B: BufMut = BytesMut> {
    dst: &'a mut B,
    staged: [u8; STAGED],
    /// How many bytes of `staged` are not in the buffer yet.
    len: usize,
}

impl<'a, B: BufMut> Fields<'a, B> {
    /// Creates a writer that appends to `dst`.
    pub fn to(dst: &'a mut B) -> Self {
        Fields {
            dst,
            staged: [0; STAGED],
            len: 0,
        }
    }

    /// Creates a writer for the reply with code 0 to a command, with the fields `cmd` and `errStr` appended already.
    pub fn success(cmd: Cmd, dst: &'a mut B) -> Self {
        let mut fields = Fields::to(dst);
        fields.key(1, WireType::Varint);
        fields.varint(cmd.number().into());
        fields.text(4, Code::Ok.text());
        fields
    }

    /// Appends a number, unless it is 0.
    pub fn number(&mut self, tag: u32, value: i64) {
        if value != 0 {
            self.key(tag, WireType::Varint);
            self.varint(value.cast_unsigned());
        }
    }

    /// Appends a text, unless it is empty.
    pub fn text(&mut self, tag: u32, value: &str) {
        if value.is_empty() {
            return;
        }
        self.prefix(tag, value.len());
        match self.staged.get_mut(self.len..self.len + value.len()) {
            Some(place) => {
                place.copy_from_slice(value.as_bytes());
                self.len += value.len();
            }
            None => {
                self.flush();
                self.dst.put_slice(value.as_bytes());
            }
        }
    }

    /// Appends fields that are encoded already.
    pub fn encoded(&mut self, fields: &[u8]) {
        self.flush();
        self.dst.put_slice(fields);
    }

    /// Appends the key and the length of a text or a message of `len` bytes, which has to follow.
    pub fn prefix(&mut self, tag: u32, len: usize) {
        self.key(tag, WireType::LengthDelimited);
        self.varint(len as u64);
    }

    /// Appends the key of a field, and makes sure that a number behind it still fits into `staged`.
    fn key(&mut self, tag: u32, wire_type: WireType) {
        if STAGED - self.len < 2 * MAX_VARINT {
            self.flush();
        }
        self.varint(u64::from(tag << 3 | wire_type as u32));
    }

    fn varint(&mut self, mut value: u64) {
        // Keys, most lengths and many numbers take one byte.
        if let Ok(byte @ ..0x80) = u8::try_from(value) {
            if let Some(place) = self.staged.get_mut(self.len) {
                *place = byte;
            }
            self.len += 1;
            return;
        }
        loop {
            let [low, ..] = value.to_le_bytes();
            let is_last = value < 0x80;
            if let Some(place) = self.staged.get_mut(self.len) {
                *place = if is_last { low } else { low | 0x80 };
            }
            self.len += 1;
            if is_last {
                return;
            }
            value >>= 7;
        }
    }

    fn flush(&mut self) {
        let staged = self.staged.get(..self.len).unwrap_or_default();
        self.dst.put_slice(staged);
        self.len = 0;
    }
}

impl<B: BufMut> Drop for Fields<'_, B> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Returns how many bytes [`Fields::number`] appends.
pub fn number_len(tag: u32, value: i64) -> usize {
    if value == 0 {
        0
    } else {
        int64::encoded_len(tag, &value)
    }
}

/// Returns how many bytes [`Fields::text`] appends.
pub fn text_len(tag: u32, value: &str) -> usize {
    if value.is_empty() {
        0
    } else {
        prefixed_len(tag, value.len())
    }
}

/// Returns how many bytes a text or a message of `len` bytes takes with its key and length.
pub fn prefixed_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::OffsetMsg;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #[test]
        fn fields_are_written_as_prost_writes_them(
            numbers in prop::array::uniform5(any::<i64>()), texts in prop::array::uniform3(".{0,150}"),
        ) {
            let [source_uid, target_uid, group_id, increment_id, send_time] = numbers;
            let [msg_type, msg_id, msg] = texts;
            let mut written = BytesMut::new();
            {
                let mut fields = Fields::to(&mut written);
                fields.number(1, source_uid);
                fields.number(2, target_uid);
                fields.number(3, group_id);
                fields.text(4, &msg_type);
                fields.text(5, &msg_id);
                fields.text(6, &msg);
                fields.number(7, increment_id);
                fields.number(8, send_time);
            }
            let message = OffsetMsg {
                source_uid, target_uid, group_id, msg_type, msg_id, msg, increment_id, send_time,
            };
            prop_assert_eq!(&written[..], &message.encode_to_vec()[..]);
        }
    }
}

//! Messages that are written field by field from borrowed parts, as prost would write them: what is 0 or empty is left
//! out.

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encoded_len_varint, int64, key_len};

use super::{Cmd, Code};

/// So much is put together on the stack. A buffer that may have to grow takes as long for a byte as for all of this.
const ROOM: usize = 128;

/// The longest key or number, in bytes.
const VARINT: usize = 10;

/// Appends fields to a buffer; all of them are there when it is dropped.
pub struct Fields<'a, B: BufMut = BytesMut> {
    dst: &'a mut B,
    small: [u8; ROOM],
    len: usize,
}

impl<'a, B: BufMut> Fields<'a, B> {
    /// Appends to `dst`.
    pub fn to(dst: &'a mut B) -> Self {
        Fields {
            dst,
            small: [0; ROOM],
            len: 0,
        }
    }

    /// The same for the answer 0 to a command, beginning with what nearly every reply begins with.
    pub fn done(cmd: Cmd, dst: &'a mut B) -> Self {
        let mut fields = Fields::to(dst);
        fields.key(1, WireType::Varint);
        fields.varint(cmd.number().into());
        fields.text(4, Code::Ok.text());
        fields
    }

    /// Appends a number.
    pub fn number(&mut self, tag: u32, value: i64) {
        if value != 0 {
            self.key(tag, WireType::Varint);
            self.varint(value.cast_unsigned());
        }
    }

    /// Appends a text.
    pub fn text(&mut self, tag: u32, value: &str) {
        if value.is_empty() {
            return;
        }
        self.prefix(tag, value.len());
        match self.small.get_mut(self.len..self.len + value.len()) {
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

    /// Appends what stands before a text or a message of `len` bytes.
    pub fn prefix(&mut self, tag: u32, len: usize) {
        self.key(tag, WireType::LengthDelimited);
        self.varint(len as u64);
    }

    /// A field's number and form; room for its value, or its length, is there too.
    fn key(&mut self, tag: u32, form: WireType) {
        if ROOM - self.len < 2 * VARINT {
            self.flush();
        }
        self.varint(u64::from(tag << 3 | form as u32));
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            let is_last = value < 0x80;
            if let Some(place) = self.small.get_mut(self.len) {
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
        let small = self.small.get(..self.len).unwrap_or_default();
        self.dst.put_slice(small);
        self.len = 0;
    }
}

impl<B: BufMut> Drop for Fields<'_, B> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The bytes that [`Fields::number`] appends.
pub fn number_len(tag: u32, value: i64) -> usize {
    if value == 0 {
        0
    } else {
        int64::encoded_len(tag, &value)
    }
}

/// The bytes that [`Fields::text`] appends.
pub fn text_len(tag: u32, value: &str) -> usize {
    if value.is_empty() {
        0
    } else {
        prefixed_len(tag, value.len())
    }
}

/// The bytes of a text or a message of `len` bytes, with what stands before it.
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

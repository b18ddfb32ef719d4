//! Fields as prost writes them: what is 0 or empty is left out. For messages that are written from borrowed parts.

use bytes::BytesMut;
use prost::encoding::{
    WireType, encode_key, encode_varint, encoded_len_varint, int64, key_len, uint32,
};

use super::{Cmd, Code};

/// Appends the command and the text of the answer 0, which nearly every reply begins with.
pub fn done(cmd: Cmd, dst: &mut BytesMut) {
    uint32::encode(1, &cmd.number(), dst);
    text(4, Code::Ok.text(), dst);
}

/// Appends a number.
pub fn number(tag: u32, value: i64, dst: &mut BytesMut) {
    if value != 0 {
        int64::encode(tag, &value, dst);
    }
}

/// The bytes that [`number`] appends.
pub fn number_len(tag: u32, value: i64) -> usize {
    if value == 0 {
        0
    } else {
        int64::encoded_len(tag, &value)
    }
}

/// Appends a text.
pub fn text(tag: u32, value: &str, dst: &mut BytesMut) {
    if !value.is_empty() {
        prefix(tag, value.len(), dst);
        dst.extend_from_slice(value.as_bytes());
    }
}

/// The bytes that [`text`] appends.
pub fn text_len(tag: u32, value: &str) -> usize {
    if value.is_empty() {
        0
    } else {
        prefixed_len(tag, value.len())
    }
}

/// Appends what stands before a text or a message of `len` bytes.
pub fn prefix(tag: u32, len: usize, dst: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, dst);
    encode_varint(len as u64, dst);
}

/// The bytes of a text or a message of `len` bytes, with what stands before it.
pub fn prefixed_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

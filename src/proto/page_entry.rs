//! The entries of a page, the most frequent part of any reply: measured and written from borrowed parts.
//!
//! Serves the stores, which end a page before it exceeds a size, and which may keep entries as they stand in a page. Serves
//! the access servers too, which write pages into frames.

use bytes::BufMut;

use super::fields::{Fields, number_len, prefixed_len, text_len};
use super::{FieldReader, FieldValue};

/// The field `msgs` of a `ResSyncMsg`.
const MSGS: u32 = 6;

/// An entry of a page: an `OffsetMsg` in a `ResSyncMsg`, not yet encoded.
#[derive(Debug, Clone, Copy)]
pub struct PageEntry<'a> {
    /// The user who sent the message, or who accepted one.
    pub source_uid: i64,
    /// The user to whom the page is sent.
    pub target_uid: i64,
    /// The group that the message was sent to, or 0.
    pub group_id: i64,
    /// The kind of the message: `p2p`, `group` or `ack`.
    pub msg_type: &'a str,
    /// The id of the message.
    pub msg_id: &'a str,
    /// The text of the message.
    pub msg: &'a str,
    /// The version of the entry in the inbox of `target_uid`.
    pub increment_id: i64,
    /// When the server took the message in, in Unix milliseconds.
    pub send_time: i64,
}

/// An entry whose size is known.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredEntry<'a> {
    entry: PageEntry<'a>,
    /// How many bytes the `OffsetMsg` takes without its key and its length.
    len: usize,
}

impl<'a> PageEntry<'a> {
    /// Reads an entry from the bytes that [`MeasuredEntry::write`] has written. Of other bytes, it reads the fields in front of
    /// the first one that can't be decoded.
    pub fn read(bytes: &'a [u8]) -> Self {
        let mut entry = PageEntry {
            source_uid: 0,
            target_uid: 0,
            group_id: 0,
            msg_type: "",
            msg_id: "",
            msg: "",
            increment_id: 0,
            send_time: 0,
        };
        let Some(Ok((MSGS, FieldValue::Bytes(fields)))) = FieldReader::new(bytes).next() else {
            return entry;
        };
        for field in FieldReader::new(fields) {
            match field {
                Ok((1, value)) => entry.source_uid = value.int(),
                Ok((2, value)) => entry.target_uid = value.int(),
                Ok((3, value)) => entry.group_id = value.int(),
                Ok((4, value)) => entry.msg_type = value.text(),
                Ok((5, value)) => entry.msg_id = value.text(),
                Ok((6, value)) => entry.msg = value.text(),
                Ok((7, value)) => entry.increment_id = value.int(),
                Ok((8, value)) => entry.send_time = value.int(),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        entry
    }

    /// Measures the entry, which has to be done before it is written.
    pub fn measured(self) -> MeasuredEntry<'a> {
        let len = number_len(1, self.source_uid)
            + number_len(2, self.target_uid)
            + number_len(3, self.group_id)
            + text_len(4, self.msg_type)
            + text_len(5, self.msg_id)
            + text_len(6, self.msg)
            + number_len(7, self.increment_id)
            + number_len(8, self.send_time);
        MeasuredEntry { entry: self, len }
    }
}

impl MeasuredEntry<'_> {
    /// Returns how many bytes [`write`](Self::write) appends.
    pub fn size(&self) -> usize {
        prefixed_len(MSGS, self.len)
    }

    /// Appends the entry to the fields of a `ResSyncMsg`.
    pub fn write<B: BufMut>(&self, fields: &mut Fields<'_, B>) {
        let entry = &self.entry;
        fields.prefix(MSGS, self.len);
        fields.number(1, entry.source_uid);
        fields.number(2, entry.target_uid);
        fields.number(3, entry.group_id);
        fields.text(4, entry.msg_type);
        fields.text(5, entry.msg_id);
        fields.text(6, entry.msg);
        fields.number(7, entry.increment_id);
        fields.number(8, entry.send_time);
    }
}

//! The entries of a page, the most frequent part of any answer: measured and written from borrowed parts.
//!
//! Serves the stores, which end a page before it exceeds a size, and the access servers, which write it into a frame.

use super::fields::{Fields, number_len, prefixed_len, text_len};

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

impl PageEntry<'_> {
    /// Returns how many bytes [`write`](Self::write) appends.
    pub fn size(&self) -> usize {
        prefixed_len(MSGS, self.message_len())
    }

    /// Returns how many bytes the `OffsetMsg` takes without its key and its length.
    fn message_len(&self) -> usize {
        number_len(1, self.source_uid)
            + number_len(2, self.target_uid)
            + number_len(3, self.group_id)
            + text_len(4, self.msg_type)
            + text_len(5, self.msg_id)
            + text_len(6, self.msg)
            + number_len(7, self.increment_id)
            + number_len(8, self.send_time)
    }

    /// Appends the entry to the fields of a `ResSyncMsg`.
    pub fn write(&self, fields: &mut Fields<'_>) {
        fields.prefix(MSGS, self.message_len());
        fields.number(1, self.source_uid);
        fields.number(2, self.target_uid);
        fields.number(3, self.group_id);
        fields.text(4, self.msg_type);
        fields.text(5, self.msg_id);
        fields.text(6, self.msg);
        fields.number(7, self.increment_id);
        fields.number(8, self.send_time);
    }
}

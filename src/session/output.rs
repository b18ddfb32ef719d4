//! Bytes on their way to the client, from the replies of a batch to the write.
//!
//! Serves the request batch, which fills an [`Output`] with replies, and the connection, which writes it.

use std::time::Instant;

use bytes::BytesMut;

/// Bytes that are to be written to the client, in their order.
#[derive(Debug)]
pub(super) struct Output {
    pub bytes: BytesMut,
    /// How many bytes at the start are left from an earlier write, which has counted and recorded their frames.
    pub already_counted: usize,
    /// When the requests were read to which the frames after those bytes reply; none if they reply to no request. The time
    /// that a reply takes is measured from here.
    pub read_at: Option<Instant>,
}

impl Output {
    /// Creates an output that begins with `bytes`, which were counted before and which the socket did not take.
    pub fn unwritten(bytes: BytesMut, read_at: Option<Instant>) -> Self {
        Output {
            already_counted: bytes.len(),
            bytes,
            read_at,
        }
    }

    /// Takes the bytes out. Further replies to the same requests can be added.
    pub fn take(&mut self) -> Self {
        Output {
            bytes: std::mem::take(&mut self.bytes),
            already_counted: std::mem::take(&mut self.already_counted),
            read_at: self.read_at,
        }
    }

    /// Returns the frames that have not been counted and recorded yet.
    pub fn uncounted(&self) -> &[u8] {
        self.bytes.get(self.already_counted..).unwrap_or_default()
    }
}

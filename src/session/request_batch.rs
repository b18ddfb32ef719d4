//! A turn of a session: the frames that one read brought, and the answers to them.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::{Session, outbound};
use crate::codec::Framing;
use crate::id::Version;
use crate::proto::Payload;

/// What a handler answers into.
#[derive(Debug)]
pub struct RequestBatch<O> {
    session: Arc<Session>,
    framing: Framing,
    /// What is not answered yet.
    pub pending: O,
    pub(super) out: BytesMut,
    /// So many bytes of these were counted before.
    pub(super) counted: usize,
    /// When the requests were read that are being answered.
    pub(super) read_at: Instant,
}

impl<O: Default> RequestBatch<O> {
    /// `out` is what was not written before.
    pub(super) fn new(session: &Arc<Session>, framing: Framing, out: BytesMut) -> Self {
        RequestBatch {
            session: Arc::clone(session),
            framing,
            pending: O::default(),
            counted: out.len(),
            out,
            read_at: Instant::now(),
        }
    }

    /// Whose turn it is.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Answers a request. What bounds this is that the session stops reading while too much waits to be written.
    pub fn reply(&mut self, reply: &impl Payload) {
        outbound::append(self.framing, reply, &mut self.out);
    }

    /// Answers with a page that ends at `end` of an inbox that goes to `total`. It moves this reader to `end`; when it
    /// leaves something behind, a notify follows.
    pub fn reply_page(&mut self, page: &impl Payload, end: Version, total: Version) {
        // Who gets no page has not moved.
        if outbound::append(self.framing, page, &mut self.out) {
            self.session.page_served(end, total);
        }
    }
}

//! Writes replies, notifies and pushed messages, and keeps what the socket does not take.
//!
//! Serves the loop of the connection. The unwritten bytes are bounded: while they exceed a limit, no request is handled.
//! While a rule for replies or notifies is in force, and before a fault of a request takes effect, `reply_faults` writes
//! instead.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::{Backlog, Connection, Handler, take_filled};
use crate::session::reply_buffer::ReplyBuffer;
use crate::session::request_batch::RequestBatch;
use crate::session::{ListenerContext, buffer_pool};

/// How much of a [`ReplyBuffer`] the socket has taken.
enum Written {
    All,
    Part,
    Nothing,
}

impl<H: Handler> Connection<H> {
    /// Returns whether a fault may be injected into what is written, or one that was injected is not over.
    pub(super) fn may_change_output(&self) -> bool {
        let holds = |backlog: &Backlog| backlog.held_reply.is_some();
        self.context.fault_point.has_reply_rule() || self.backlog.as_deref().is_some_and(holds)
    }

    /// Writes the replies of a batch, and sends the notifies: after the replies, or before them while a fault may be injected
    /// into the replies.
    ///
    /// # Errors
    ///
    /// When the connection has broken. The notifies are sent all the same.
    pub(super) async fn write_replies(
        &mut self,
        mut buffer: ReplyBuffer,
        notifies: H::Notifies,
    ) -> io::Result<()> {
        let unwritten = self.backlog.as_mut().map(|backlog| &mut backlog.unwritten);
        // Bytes that were written in the middle of the batch and not taken by the socket come first.
        if let Some(mut unwritten) = take_filled(unwritten) {
            buffer.already_counted += unwritten.len();
            unwritten.unsplit(buffer.bytes);
            buffer.bytes = unwritten;
        }
        if self.may_change_output() {
            // Dropping the notifies sends them. This comes before the write, since a fault may hold the replies back for ever.
            drop(notifies);
            return Box::pin(self.write_with_faults(buffer)).await;
        }
        let written = self.write(buffer);
        drop(notifies);
        written
    }

    /// Writes the replies so far, until the congestion is over, or the session is closed or half-open.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    pub(super) async fn relieve_congestion(
        &mut self,
        batch: &mut RequestBatch<'_>,
        notifies: &mut H::Notifies,
    ) -> io::Result<()> {
        loop {
            let buffer = batch.buffer.take();
            // The notifies are sent now: their receivers must not wait until this peer takes its replies.
            self.write_replies(buffer, std::mem::take(notifies)).await?;
            batch.buffer = ReplyBuffer::behind(self.take_unwritten(), batch.buffer.read_at);
            if !self.session.is_congested(batch.buffer.bytes.len()) {
                // A peer that reads as fast as this task writes never makes it wait, so it has to yield to others here.
                tokio::task::yield_now().await;
                return Ok(());
            }
            let unserved = poll_fn(|cx| {
                if self.session.poll_unserved(cx).is_ready() {
                    return Poll::Ready(Ok(true));
                }
                if self.context.manager.park_if_paused(&self.session, cx) {
                    return Poll::Pending;
                }
                self.transport.poll_write_ready(cx).map_ok(|()| false)
            });
            if unserved.await? {
                return Ok(());
            }
        }
    }

    /// Takes what the socket has not taken yet, or an empty buffer. It ends with a whole frame, so what a WebSocket has to
    /// answer to pings stands behind it.
    pub(super) fn take_unwritten(&mut self) -> BytesMut {
        let unwritten = self.backlog.as_mut().map(|backlog| &mut backlog.unwritten);
        let mut unwritten = take_filled(unwritten).unwrap_or_else(buffer_pool::take);
        if let Some(socket) = self.transport.websocket_mut() {
            socket.take_control_frames(&mut unwritten);
        }
        unwritten
    }

    /// Writes what the socket takes at once, with the pushed messages and the pending notify behind it, and keeps the rest.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    pub(super) fn write(&mut self, mut buffer: ReplyBuffer) -> io::Result<()> {
        if self.session.is_half_open() {
            return Ok(());
        }
        // While the socket takes nothing, notifies stay pending in the session, where they merge.
        let mut is_unrequested_taken = !self.session.timers.is_stalled();
        if is_unrequested_taken {
            self.take_unrequested(&mut buffer);
        }
        while !buffer.bytes.is_empty() {
            match self.write_once(&mut buffer)? {
                Written::All if is_unrequested_taken => break,
                Written::All => {
                    self.take_unrequested(&mut buffer);
                    is_unrequested_taken = true;
                }
                // A notify may have become pending during the write.
                Written::Part => is_unrequested_taken = false,
                Written::Nothing => {
                    self.session.set_unwritten(buffer.bytes.len());
                    self.backlog.get_or_insert_default().unwritten = buffer.bytes;
                    return Ok(());
                }
            }
        }
        buffer_pool::give(buffer.bytes);
        let is_empty = |backlog: &Backlog| backlog.is_empty_except_unwritten();
        if self.backlog.as_deref().is_some_and(is_empty) {
            self.backlog = None;
        }
        Ok(())
    }

    /// Puts the pushed messages and the pending notify behind the replies.
    fn take_unrequested(&mut self, buffer: &mut ReplyBuffer) {
        let replies = buffer.bytes.len();
        let framing = self.context.framing;
        let pushed = self.session.take_unrequested(framing, &mut buffer.bytes);
        if pushed > 0 {
            self.context.metrics.pushed(pushed);
            // The replies are counted before the write, since a pushed message has the command of a reply and is none: it has
            // no part in the times of requests.
            let uncounted = buffer.bytes.get(buffer.already_counted..replies);
            self.record_sent(uncounted.unwrap_or_default(), buffer.read_at.take());
            buffer.already_counted = replies;
        }
    }

    /// Writes once, and leaves in `buffer` what the socket has not taken. A paused server writes nothing, as if the socket
    /// were full.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    fn write_once(&mut self, buffer: &mut ReplyBuffer) -> io::Result<Written> {
        let read_at = buffer.read_at.take();
        self.record_sent(buffer.uncounted(), read_at);
        let written = if self.context.manager.is_paused() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            self.transport.try_write(&buffer.bytes)
        };
        let timers = &self.session.timers;
        let written = match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) if n == buffer.bytes.len() => {
                timers.write_progressed();
                // Unlike `advance`, this keeps the capacity for the pool.
                buffer.bytes.clear();
                Written::All
            }
            Ok(n) => {
                timers.write_progressed();
                buffer.bytes.advance(n);
                Written::Part
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                timers.write_stalled(self.context.manager.clock().now());
                Written::Nothing
            }
            Err(error) => return Err(error),
        };
        buffer.already_counted = buffer.bytes.len();
        Ok(written)
    }

    /// Counts and records frames that are about to be written. Those that are replies belong to requests that were read at
    /// `read_at`.
    pub(super) fn record_sent(&self, frames: &[u8], read_at: Option<Instant>) {
        let ListenerContext {
            framing,
            metrics,
            fault_point,
            ..
        } = &*self.context;
        metrics.traffic().sent(framing.frames(frames), read_at);
        fault_point.record_sent(&self.session, framing.frames(frames));
    }
}

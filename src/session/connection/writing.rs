//! Writes replies and notifies, and keeps what the socket does not take.
//!
//! What waits to be written is bounded: no request is handled while it is too much. A fault that is injected into what is
//! written leads through `reply_faults` instead.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::{Backlog, Connection, Handler, take_filled};
use crate::session::request_batch::RequestBatch;
use crate::session::{Server, buffer_pool};

impl<H: Handler> Connection<H> {
    /// Returns whether a fault may be injected into what is written, or one that was injected is not over.
    pub(super) fn writing_may_fail(&self) -> bool {
        let holds = |backlog: &Backlog| backlog.held_reply.is_some();
        self.server.fault_point.writing_may_fail() || self.backlog.as_deref().is_some_and(holds)
    }

    /// Writes the replies of a batch, and sends the notifies behind them.
    pub(super) async fn write_replies(
        &mut self,
        mut out: BytesMut,
        mut counted: usize,
        read_at: Instant,
        notifies: H::Notifies,
    ) -> io::Result<()> {
        let unwritten = self.backlog.as_mut().map(|backlog| &mut backlog.unwritten);
        // What was written in the middle of the batch, and not taken, stands in front.
        if let Some(mut unwritten) = take_filled(unwritten) {
            counted += unwritten.len();
            unwritten.unsplit(out);
            out = unwritten;
        }
        if self.writing_may_fail() {
            // A fault may keep the replies for ever: the receivers do not wait for them.
            drop(notifies);
            return Box::pin(self.write_with_faults(out, counted, Some(read_at))).await;
        }
        // The notifies are dropped at the end, also if this fails.
        self.write(out, counted, Some(read_at))
    }

    /// Writes the replies so far until the congestion is over or the session closes.
    pub(super) async fn relieve_congestion(
        &mut self,
        batch: &mut RequestBatch<'_>,
        notifies: &mut H::Notifies,
    ) -> io::Result<()> {
        loop {
            let (out, counted) = (std::mem::take(&mut batch.out), batch.counted);
            let (notifies, read_at) = (std::mem::take(notifies), batch.read_at);
            // The receivers do not wait until this peer takes its replies.
            self.write_replies(out, counted, read_at, notifies).await?;
            batch.out = self.take_unwritten();
            batch.counted = batch.out.len();
            if !self.session.is_congested(batch.out.len()) {
                // So many replies took their time, and a peer that reads them as fast never makes this task wait.
                tokio::task::yield_now().await;
                return Ok(());
            }
            let closed = poll_fn(|cx| {
                if self.session.poll_closed(cx).is_ready() {
                    return Poll::Ready(Ok(true));
                }
                if self.server.manager.park_if_paused(&self.session, cx) {
                    return Poll::Pending;
                }
                self.transport.poll_write_ready(cx).map_ok(|()| false)
            });
            if closed.await? {
                return Ok(());
            }
        }
    }

    /// Takes what the socket has not taken yet, or an empty buffer.
    pub(super) fn take_unwritten(&mut self) -> BytesMut {
        let unwritten = self.backlog.as_mut().map(|backlog| &mut backlog.unwritten);
        take_filled(unwritten).unwrap_or_else(buffer_pool::take)
    }

    /// Writes what the socket takes at once, with what others have queued behind it, and keeps the rest. The first
    /// `counted` bytes were counted as sent before. The bytes behind them reply to requests that were read at `read_at`.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    pub(super) fn write(
        &mut self,
        mut out: BytesMut,
        mut counted: usize,
        mut read_at: Option<Instant>,
    ) -> io::Result<()> {
        if self.session.is_half_open() {
            return Ok(());
        }
        let timers = &self.session.timers;
        // What others have queued waits while the socket takes nothing: notifies merge until they can be written.
        let mut takes_more = !timers.is_stalled();
        loop {
            if takes_more {
                self.session.take_outbound(self.server.framing, &mut out);
            }
            if out.is_empty() {
                break;
            }
            self.record_sent(out.get(counted..).unwrap_or_default(), read_at.take());
            let written = if self.server.manager.is_paused() {
                // As if the socket were full.
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                self.transport.try_write(&out)
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) if n == out.len() => {
                    timers.write_progressed();
                    out.clear();
                    counted = 0;
                    takes_more = !takes_more;
                }
                Ok(n) => {
                    timers.write_progressed();
                    out.advance(n);
                    counted = out.len();
                    takes_more = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    timers.write_stalled(self.server.manager.clock().now());
                    self.session.set_unwritten(out.len());
                    self.backlog.get_or_insert_default().unwritten = out;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        buffer_pool::give(out);
        let is_empty = |backlog: &Backlog| backlog.is_empty_but_unwritten();
        if self.backlog.as_deref().is_some_and(is_empty) {
            self.backlog = None;
        }
        Ok(())
    }

    /// Counts and records frames that are about to be written. The replies among them are to requests that were read at
    /// `read_at`.
    pub(super) fn record_sent(&self, frames: &[u8], read_at: Option<Instant>) {
        let Server {
            framing,
            metrics,
            fault_point,
            ..
        } = &*self.server;
        metrics.traffic().sent(framing.frames(frames), read_at);
        fault_point.record_sent(&self.session, framing.frames(frames));
    }
}

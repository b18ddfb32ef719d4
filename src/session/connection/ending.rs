//! Ends a session: writes its last bytes, and closes its transport in an orderly or abrupt way.
//!
//! Serves [`Connection::run`](super::Connection::run), which comes here once the session is closed. Every wait for the peer
//! is bounded: by [`LINGER`], or at a shutdown by the grace period.

use std::future::poll_fn;
use std::time::Duration;

use bytes::BytesMut;

use super::{Connection, Handler};
use crate::clock::running;
use crate::lab::EventKind;
use crate::session::CloseReason;
use crate::session::reply_buffer::ReplyBuffer;

/// How long a close waits for the peer to take the last bytes, in real time. It waits for the same time again until the
/// peer closes its side.
const LINGER: Duration = Duration::from_millis(250);

impl<H: Handler> Connection<H> {
    /// Writes the last bytes, closes the writing side, and waits a moment for the peer to close its own. Without this wait,
    /// unread input would turn the close into a reset, which destroys the last frame.
    pub(super) async fn finish_session(&mut self) {
        let reason = self.session.close_reason().unwrap_or(CloseReason::Broken);
        tracing::debug!(
            session = %self.session.id(),
            peer = %self.session.peer(),
            uid = self.session.uid().map(i64::from),
            reason = reason.label(),
            "session closed"
        );
        let must_not_write = self.must_not_write();
        let has_no_farewell =
            reason.is_abrupt() || must_not_write || self.context.manager.is_killed();
        let last = if has_no_farewell {
            BytesMut::new()
        } else {
            self.take_final_output(reason)
        };
        // Recorded here, so that the close stands behind the last frames in the journal.
        let closed = EventKind::Closed(reason.label());
        self.context.fault_point.record(&self.session, closed, &[]);
        if reason == CloseReason::Dropped && must_not_write {
            // The writing side is closed, then the input is drained before the socket closes: a close with unread input would
            // be a reset, and the peer would not see the end of the stream.
            if self.transport.close_writing().await.is_ok() {
                let _ = running::timeout(LINGER, self.transport.drain()).await;
            }
            return;
        }
        if has_no_farewell {
            return;
        }
        let tasks = self.context.manager.tasks().clone();
        // What the socket takes at once is written even in a hurry.
        tokio::select! {
            biased;
            () = self.close_gracefully(reason, &last) => {}
            () = tasks.hurried() => {}
        }
    }

    /// Returns whether nothing more is written for the session: a fault has ended it, or it is half-open.
    pub(super) fn must_not_write(&self) -> bool {
        let backlog = self.backlog.as_ref();
        self.session.is_half_open() || backlog.is_some_and(|backlog| backlog.ended_by_fault)
    }

    /// Closes the session without a farewell. Replies to earlier requests of the same read are still written, unless a rule
    /// for replies or notifies is in force.
    pub(super) fn end_silently(&mut self, reason: CloseReason) {
        self.backlog.get_or_insert_default().ended_by_fault = true;
        self.session.close(reason);
    }

    /// Takes and records what is written last.
    fn take_final_output(&mut self, reason: CloseReason) -> BytesMut {
        let mut last = ReplyBuffer::behind(self.take_unwritten(), None);
        // A reply whose rule has ended is written before the farewell.
        if let Some(held) = self.take_released_reply() {
            last.bytes.extend_from_slice(&held.frame.0);
        }
        self.session
            .take_final_output(self.context.framing, &mut last.bytes);
        self.record_sent(last.uncounted(), last.read_at);
        if let Some(socket) = self.transport.websocket() {
            socket.put_close_frame(reason.close_code(), reason.label(), &mut last.bytes);
        }
        last.bytes
    }

    async fn close_gracefully(&mut self, reason: CloseReason, last: &[u8]) {
        self.context.manager.note_done(&self.session);
        let written = async {
            self.transport.write_all(last).await?;
            self.transport.close_writing().await
        };
        // A peer that takes nothing within this time misses the last bytes. At a shutdown it has the whole grace period, at
        // the end of which the caller stops waiting.
        let is_written = if reason == CloseReason::Shutdown {
            written.await.is_ok()
        } else {
            matches!(running::timeout(LINGER, written).await, Ok(Ok(())))
        };
        if is_written {
            let _ = running::timeout(LINGER, self.transport.drain()).await;
        }
    }

    /// Discards what arrives and writes nothing, until the peer hangs up, this server ends, or the session is closed for a
    /// reason that [ends a half-open session](CloseReason::ends_half_open).
    pub(super) async fn serve_half_open(&mut self) {
        self.backlog = None;
        let (session, tasks) = (&self.session, self.context.manager.tasks());
        tokio::select! {
            // The result does not matter: the peer has hung up, in order or by a reset.
            _ = self.transport.drain() => session.close(CloseReason::PeerClosed),
            () = tasks.shutdown_begun() => {}
            () = poll_fn(|cx| session.poll_forced_close(cx)) => {}
        }
    }
}

//! A frame that a fault holds back until the next one has passed, and its release when the rule ends before.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;

use super::{Backlog, Connection, Handler};
use crate::lab::{Held, Hold};
use crate::session::RequestBatch;

/// A frame that waits for the next one.
pub(super) struct HeldFrame {
    /// A request's message, or a whole frame of the server's.
    pub frame: BytesMut,
    /// When the request was read; none for a frame that answers nothing.
    pub read_at: Option<Instant>,
    held: Held,
}

impl HeldFrame {
    pub fn new(frame: BytesMut, read_at: Option<Instant>, hold: Hold) -> Box<HeldFrame> {
        Box::new(HeldFrame {
            frame,
            read_at,
            held: hold.until_release(),
        })
    }

    /// Resolves when the rule that holds it ends.
    pub async fn released(&mut self) {
        poll_fn(|cx| self.held.poll_released(cx)).await;
    }
}

impl Backlog {
    /// Whether something in it is held no more. If not, the task is woken when it is.
    pub(super) fn poll_released(&mut self, cx: &mut Context<'_>) -> bool {
        let both = [&mut self.held_request, &mut self.held_reply];
        let mut held = both.into_iter().flatten();
        held.any(|frame| frame.held.poll_released(cx) == Poll::Ready(()))
    }
}

impl<H: Handler> Connection<H> {
    /// Takes the request that was held back, and writes the reply that was, where the rule has ended.
    pub(super) async fn handle_released(&mut self) -> io::Result<()> {
        self.session.timers.server_busy();
        let unwritten = self.take_unwritten();
        let mut batch = RequestBatch::new(&self.session, self.server.framing, unwritten);
        let session = Arc::clone(&self.session);
        let server = Arc::clone(&self.server);
        let taken = Box::pin(self.handle_released_request(&mut batch));
        let done = server
            .manager
            .unless_killed(&session, pin!(taken))
            .await
            .flatten();
        self.write_replies(batch, done).await
    }

    /// Takes the request that was held back, if the rule has ended.
    pub(super) async fn handle_released_request(
        &mut self,
        batch: &mut RequestBatch<H::Pending>,
    ) -> io::Result<()> {
        let request = self
            .backlog
            .as_mut()
            .map(|backlog| &mut backlog.held_request);
        match request.and_then(|request| request.take_if(|frame| frame.held.is_released())) {
            Some(frame) => self.handle_held_request(batch, *frame).await,
            None => Ok(()),
        }
    }

    /// The reply that was held back, if the rule has ended.
    pub(super) fn take_released_reply(&mut self) -> Option<Box<HeldFrame>> {
        let reply = &mut self.backlog.as_mut()?.held_reply;
        reply.take_if(|frame| frame.held.is_released())
    }

    /// Takes a request that was held back, and answers it. What was answered before it leaves before it: those requests
    /// were read at another time.
    pub(super) async fn handle_held_request(
        &mut self,
        batch: &mut RequestBatch<H::Pending>,
        held: HeldFrame,
    ) -> io::Result<()> {
        let HeldFrame { frame, read_at, .. } = held;
        self.flush(batch).await?;
        let read_now = batch.read_at;
        batch.read_at = read_at.unwrap_or(read_now);
        let server = Arc::clone(&self.server);
        self.with_hang_up_watch(server.handler.frame(batch, &frame))
            .await;
        let flushed = self.flush(batch).await;
        batch.read_at = read_now;
        flushed
    }
}

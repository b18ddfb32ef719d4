//! Faults that are injected into accepted connections and into requests, as far as the connection itself has to act: it
//! waits, refuses a request, or ends.
//!
//! Serves the loop of the connection, which comes here when a batch was interrupted. The faults that only drop, duplicate
//! or hold back a request are applied by the request batch.

use std::io;
use std::sync::Arc;

use super::{Connection, Handler};
use crate::lab::Action;
use crate::session::CloseReason;
use crate::session::held_frame::{Delay, HeldRequest, RequestMessage, or_abandoned};
use crate::session::request_batch::{Interruption, RequestBatch};

impl<H: Handler> Connection<H> {
    /// Applies the fault that is injected into a connection which was just accepted, if any.
    pub(super) async fn apply_accept_fault(&mut self) {
        let Some(mut hit) = self.context.fault_point.find_accept_hit(&self.session) else {
            return;
        };
        match hit.action {
            Action::Delay { .. } => {
                let delay = or_abandoned(&self.session, hit.hold.wait());
                self.with_hang_up_watch(delay).await;
            }
            Action::Drop => self.end_silently(CloseReason::Dropped),
            Action::Reset => self.end_silently(CloseReason::Reset),
            Action::HalfOpen => self.session.half_open(),
            _ => {}
        }
    }

    /// Applies a fault that has interrupted a batch. The requests before it have been handled.
    ///
    /// # Errors
    ///
    /// When the server is killed while something has to wait, or the connection breaks.
    pub(super) async fn apply_unless_killed<'a>(
        &mut self,
        batch: &mut RequestBatch<'a>,
        notifies: &mut H::Notifies,
        fault: Interruption<'a>,
    ) -> io::Result<()> {
        let (session, context) = (Arc::clone(&self.session), Arc::clone(&self.context));
        let mut applied = Box::pin(self.apply_request_fault(batch, notifies, fault));
        (context.manager.unless_killed(&session, applied.as_mut())).await?
    }

    async fn apply_request_fault<'a>(
        &mut self,
        batch: &mut RequestBatch<'a>,
        notifies: &mut H::Notifies,
        fault: Interruption<'a>,
    ) -> io::Result<()> {
        match fault {
            Interruption::Delayed(request, delay) => {
                return self.delay_request(batch, notifies, request, delay).await;
            }
            Interruption::Refused(request, code) => {
                batch.reply(&self.context.handler.refuse(request, code));
            }
            Interruption::Reset => self.end_silently(CloseReason::Reset),
            Interruption::HalfOpen => {
                self.flush(batch, notifies).await?;
                self.session.half_open();
            }
            Interruption::HeldRequest | Interruption::TooLong(_) | Interruption::Congested => {}
        }
        self.handle_held_request(batch, notifies).await
    }

    /// Waits for the delay of a request, and has the request handed out then. The replies to the requests before it are
    /// written meanwhile.
    async fn delay_request<'a>(
        &mut self,
        batch: &mut RequestBatch<'a>,
        notifies: &mut H::Notifies,
        request: &'a [u8],
        mut delay: Delay<RequestMessage>,
    ) -> io::Result<()> {
        delay.poll_during(self.flush(batch, notifies)).await?;
        let waited = self.with_hang_up_watch(delay.ended_or_released()).await;
        batch.held = waited.held;
        if let Some(left) = waited.left {
            delay.restart(left);
            let handled = self.handle_held_request(batch, notifies);
            delay.poll_during(handled).await?;
            self.with_hang_up_watch(delay.ended_or_released()).await;
        }
        batch.force_next(request);
        Ok(())
    }

    /// Has the request that is held back handled by itself, if there is one. The replies to the requests before it are
    /// written first, since their times are measured from another read.
    async fn handle_held_request(
        &mut self,
        batch: &mut RequestBatch<'_>,
        notifies: &mut H::Notifies,
    ) -> io::Result<()> {
        let Some(held) = batch.held.take() else {
            return Ok(());
        };
        self.flush(batch, notifies).await?;
        let HeldRequest {
            frame: RequestMessage(message),
            read_at,
            ..
        } = *held;
        let read_at = read_at.or(batch.buffer.read_at);
        let (session, context) = (Arc::clone(&self.session), Arc::clone(&self.context));
        let mut alone = RequestBatch::of_one(&session, &context, &message, read_at);
        let handled = context.handler.handle(&mut alone, notifies);
        self.with_hang_up_watch(handled).await;
        self.flush(&mut alone, notifies).await
    }

    /// Has the held request handled and writes the held reply, if the rules that hold them have ended.
    ///
    /// # Errors
    ///
    /// When the server is killed meanwhile, or the connection breaks.
    pub(super) async fn handle_released(&mut self) -> io::Result<()> {
        self.session.timers.note_server_busy();
        let (session, context) = (Arc::clone(&self.session), Arc::clone(&self.context));
        let unwritten = self.take_unwritten();
        let mut batch = RequestBatch::new(&session, &context, &[], unwritten);
        let held = self.backlog.as_mut();
        let held = held.map(|backlog| &mut backlog.held_request);
        batch.held = held.and_then(|held| held.take_if(|held| held.is_released()));
        let mut notifies = H::Notifies::default();
        let held = Interruption::HeldRequest;
        self.apply_unless_killed(&mut batch, &mut notifies, held)
            .await?;
        self.write_replies(batch.buffer, notifies).await
    }

    /// Sends the notifies and writes the replies so far, so that they do not wait for what the caller does next.
    async fn flush(
        &mut self,
        batch: &mut RequestBatch<'_>,
        notifies: &mut H::Notifies,
    ) -> io::Result<()> {
        drop(std::mem::take(notifies));
        self.write_with_faults(batch.buffer.take()).await
    }
}

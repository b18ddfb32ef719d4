//! The requests that one read of a connection brought, and the replies to them.
//!
//! Serves the connection, which creates a batch for each read, and the [`Handler`](super::Handler), which takes the
//! requests out of it and adds the replies.
//!
//! A batch hands out no request while the connection has something to do first: see [`Interruption`]. A fault that drops or
//! duplicates a request is applied here and divides no batch; one that reorders requests interrupts the batch when the later
//! request has passed. See "One read, one commit" in docs/architecture.md.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::fault_point::FaultPoint;
use super::held_frame::{Delay, HeldRequest, RequestMessage};
use super::reply_buffer::ReplyBuffer;
use super::{CloseReason, ListenerContext, Session, reply_buffer};
use crate::codec::{FrameTooLong, Framing, OtherProtocol, Split};
use crate::command::Command;
use crate::id::Version;
use crate::lab::{Action, Direction, EventKind, Hit};
use crate::proto::{Code, Payload};

/// The requests of one read, in the order in which they arrived, and the replies to them.
pub struct RequestBatch<'a> {
    session: &'a Arc<Session>,
    framing: Framing,
    fault_point: &'a FaultPoint,
    /// How long a frame may be before the login, in bytes.
    frame_before_login: usize,
    /// The bytes that were read and not handed out yet.
    remaining: &'a [u8],
    /// A request that is handed out next without further checks: the second copy of a duplicated one, or one whose delay is
    /// over.
    forced_next: Option<&'a [u8]>,
    /// Why no further request is handed out for now.
    pub(super) interruption: Option<Interruption<'a>>,
    /// A request that a fault holds back until the next one has passed.
    pub(super) held: Option<Box<HeldRequest>>,
    /// The bytes that the socket has not taken from earlier writes, and behind them the replies.
    pub(super) buffer: ReplyBuffer,
}

/// What a connection has to do before the handler gets the next request of a batch.
pub(super) enum Interruption<'a> {
    /// The next frame is too long, so the rest of the input can't be split into frames.
    TooLong(FrameTooLong),
    /// The unwritten bytes exceed the session's congestion limit, which is half of `limits.outbound`.
    Congested,
    /// The request that was held back has to be handled: another one has passed it, or the rule that holds it has ended.
    HeldRequest,
    /// A fault delays this request.
    Delayed(&'a [u8], Delay<RequestMessage>),
    /// A fault refuses this request with a code.
    Refused(&'a [u8], Code),
    /// A fault has reset the connection.
    Reset,
    /// A fault leaves the session half-open.
    HalfOpen,
}

impl<'a> RequestBatch<'a> {
    /// Creates a batch of the requests in `input`. `unwritten` is what the socket has not taken from earlier writes.
    pub(super) fn new<H>(
        session: &'a Arc<Session>,
        context: &'a ListenerContext<H>,
        input: &'a [u8],
        unwritten: BytesMut,
    ) -> Self {
        RequestBatch {
            session,
            framing: context.framing,
            fault_point: &context.fault_point,
            frame_before_login: context.frame_before_login,
            remaining: input,
            forced_next: None,
            interruption: None,
            held: None,
            buffer: ReplyBuffer::behind(unwritten, Some(Instant::now())),
        }
    }

    /// Creates a batch of one request into which no further fault is injected. The request was read at `read_at`.
    pub(super) fn of_one<H>(
        session: &'a Arc<Session>,
        context: &'a ListenerContext<H>,
        request: &'a [u8],
        read_at: Option<Instant>,
    ) -> Self {
        RequestBatch {
            forced_next: Some(request),
            buffer: ReplyBuffer::behind(BytesMut::new(), read_at),
            ..RequestBatch::new(session, context, &[], BytesMut::new())
        }
    }

    /// Returns the session on which the requests arrived.
    pub fn session(&self) -> &'a Arc<Session> {
        self.session
    }

    /// Returns the next request, without its length prefix; none if there is no further one for now. The handler then has to
    /// complete all replies, and is called again if the batch goes on.
    pub fn next_request(&mut self) -> Option<&'a [u8]> {
        if let Some(forced_next) = self.forced_next.take() {
            return Some(forced_next);
        }
        loop {
            if self.interruption.is_some() || !self.session.is_served() {
                return None;
            }
            if self.session.is_congested(self.buffer.bytes.len()) {
                self.interruption = Some(Interruption::Congested);
                return None;
            }
            // Once its rule has ended, a request that was held back comes before the next one.
            if self.held.as_ref().is_some_and(|held| held.is_released()) {
                self.interruption = Some(Interruption::HeldRequest);
                return None;
            }
            match self.framing.split(self.remaining, self.max_frame()) {
                Ok(Split::Frame { message, taken }) => {
                    self.session.timers.note_server_busy();
                    self.remaining = self.remaining.get(taken..).unwrap_or_default();
                    if self.fault_point.is_quiet() && self.held.is_none() {
                        return Some(message);
                    }
                    if self.passes_faults(message) {
                        return Some(message);
                    }
                }
                Ok(Split::Needs(_)) => return None,
                Err(error) => self.interruption = Some(Interruption::TooLong(error)),
            }
        }
    }

    /// Records a request, and applies the fault that is injected into it, if any. Returns whether the request is to be
    /// handed out now.
    fn passes_faults(&mut self, message: &'a [u8]) -> bool {
        let received = EventKind::Frame(Direction::In);
        self.fault_point.record(self.session, received, message);
        let is_overtaking = self.held.is_some();
        let listener = self.fault_point.listener();
        let applies = |action: &Action| match action {
            // A request that overtakes another one is not overtaken itself.
            Action::Reorder => !is_overtaking,
            // A request that can't be decoded is refused anyway.
            Action::Error(_) => Command::decode(message, listener).is_ok(),
            _ => true,
        };
        let hit = self
            .fault_point
            .find_request_hit(self.session, message, applies);
        if is_overtaking {
            self.interruption = Some(Interruption::HeldRequest);
        }
        match hit {
            None => true,
            Some(hit) => self.apply_fault(message, hit),
        }
    }

    /// Applies a fault to a request. Returns whether the request is to be handed out now.
    fn apply_fault(&mut self, message: &'a [u8], hit: Hit) -> bool {
        let interruption = match hit.action {
            Action::Drop => return false,
            Action::Duplicate => {
                self.forced_next = Some(message);
                return true;
            }
            Action::Reorder => {
                let message = RequestMessage(message.into());
                let held = HeldRequest::new(message, self.buffer.read_at, hit.hold);
                self.held = Some(held);
                return false;
            }
            Action::Delay { .. } => {
                let held = self.held.take();
                let delay = Delay::new(Arc::clone(self.session), hit.hold, held);
                Interruption::Delayed(message, delay)
            }
            Action::Error(code) => Interruption::Refused(message, code),
            Action::Reset => {
                // Closed before the handler commits, so that no fault delays the commit for a connection that is gone.
                self.session.close(CloseReason::Reset);
                Interruption::Reset
            }
            Action::HalfOpen => Interruption::HalfOpen,
            _ => return true,
        };
        self.interruption = Some(interruption);
        false
    }

    /// Has `request` handed out next without further checks. If a request is held back, it is handled after `request`, which
    /// overtakes it.
    pub(super) fn force_next(&mut self, request: &'a [u8]) {
        self.forced_next = Some(request);
        if self.held.is_some() {
            self.interruption = Some(Interruption::HeldRequest);
        }
    }

    /// Awaits `work`, such as a commit. If the next request is delayed by a fault, its delay runs meanwhile.
    pub async fn await_beside_delay<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        match &mut self.interruption {
            Some(Interruption::Delayed(_, delay)) => delay.poll_during(work).await,
            _ => poll_fn(|cx| work.as_mut().poll(cx)).await,
        }
    }

    /// Adds the reply to a request. It is always added: the bytes are limited by
    /// [`next_request`](Self::next_request), which returns no further request while the session is congested.
    pub fn reply(&mut self, reply: &impl Payload) {
        reply_buffer::append(self.framing, reply, &mut self.buffer.bytes);
    }

    /// Adds a page as the reply to a request. The page ends at `end` of an inbox whose newest version is `total`. From then
    /// on the client counts as having read up to `end`; if that is not the newest version, a notify follows.
    pub fn reply_page(&mut self, page: &impl Payload, end: Version, total: Version) {
        // A page that is too long for a frame was replaced by an error, so the client has not read it.
        if reply_buffer::append(self.framing, page, &mut self.buffer.bytes) {
            self.session.page_served(end, total);
        }
    }

    /// Returns the protocol that a client speaks which has come to the wrong port, if its bytes tell.
    pub(super) fn other_protocol(&self) -> Option<OtherProtocol> {
        match self.framing {
            Framing::LengthPrefix => OtherProtocol::of(self.remaining),
            _ => None,
        }
    }

    /// Returns how many bytes of the input were not handed out, which is where a partial frame begins.
    pub(super) fn remaining_len(&self) -> usize {
        self.remaining.len()
    }

    fn max_frame(&self) -> usize {
        self.session.max_frame(self.frame_before_login)
    }
}

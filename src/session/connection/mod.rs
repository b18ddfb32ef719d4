//! The task of a session: it reads requests, has a handler reply to them, and writes the replies.
//!
//! Serves the listeners, which run a [`Connection`] for each socket that they accept. Every frame of every client passes
//! through here: `poll_read` brings requests, `process_read` has them handled, and `write_replies` writes the replies and
//! sends the notifies.
//!
//! | file | content |
//! |---|---|
//! | `writing` | what is written, and what happens while the socket takes no more |
//! | `ending` | the last bytes of a session, and its end |
//! | `request_faults` | faults that are injected into connections and requests |
//! | `reply_faults` | faults that are injected into what is written |
//! | `hang_up` | peers that hang up while a fault holds something for them |

mod ending;
mod hang_up;
mod reply_faults;
mod request_faults;
mod writing;

use std::future::{self, Future, poll_fn};
use std::io;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;

use super::held_frame::{HeldReply, HeldRequest};
use super::reply_buffer::ReplyBuffer;
use super::request_batch::{Interruption, RequestBatch};
use super::{CloseReason, ListenerContext, Session, Work, buffer_pool};
use crate::codec::{MAX_FRAME, Split};
use crate::lab::EventKind;
use crate::proto::{Code, Reply};
use crate::transport::{End, Transport, WebSocket};

/// The room for one read, in bytes.
const READ: usize = 16 * 1024;

/// Replies to the requests of a listener's sessions.
pub trait Handler: Send + Sync + 'static {
    /// The notifies to other sessions for what the requests have stored. They are sent when the value is dropped, so that
    /// a task which is killed or panics sends them too.
    type Notifies: Default + Send;

    /// Takes the requests of a batch one by one, and adds a reply to each. All replies are complete when this returns:
    /// what they acknowledge has been stored.
    ///
    /// Notifies for what was stored are added to `notifies`. The connection sends them, by dropping them, when it has
    /// written of the replies what the socket takes at once; or before that, where a fault may hold the replies back.
    ///
    /// A batch that was [interrupted](RequestBatch::next_request) is handed over again when it goes on.
    fn handle(
        &self,
        batch: &mut RequestBatch<'_>,
        notifies: &mut Self::Notifies,
    ) -> impl Future<Output = ()> + Send;

    /// Returns the refusal of a request with a code that a fault has injected.
    fn refuse(&self, request: &[u8], code: Code) -> Reply;
}

/// The task of a session, and the only owner of its transport. While the session is idle, the task holds no buffer.
pub struct Connection<H> {
    transport: Transport,
    session: Arc<Session>,
    context: Arc<ListenerContext<H>>,
    /// None while it would be empty, as it is for most sessions.
    backlog: Option<Box<Backlog>>,
}

/// What a connection has begun and could not finish yet.
#[derive(Default)]
struct Backlog {
    /// The beginning of a frame whose end has not arrived.
    partial_frame: BytesMut,
    /// The bytes that the socket has not taken.
    unwritten: BytesMut,
    /// A request that a fault holds back until the next one has passed.
    held_request: Option<Box<HeldRequest>>,
    /// A frame to be written that a fault holds back until the next one has passed.
    held_reply: Option<Box<HeldReply>>,
    /// Whether a fault has ended the session, so that it gets no farewell.
    ended_by_fault: bool,
}

impl Backlog {
    fn is_empty_except_unwritten(&self) -> bool {
        self.partial_frame.is_empty()
            && self.held_request.is_none()
            && self.held_reply.is_none()
            && !self.ended_by_fault
    }

    /// Returns whether the rule that holds one of the frames has ended. If not, the task is woken when it does.
    fn poll_released(&mut self, cx: &mut Context<'_>) -> bool {
        let request = self.held_request.as_mut();
        if request.is_some_and(|held| held.poll_released(cx).is_ready()) {
            return true;
        }
        let reply = self.held_reply.as_mut();
        reply.is_some_and(|held| held.poll_released(cx).is_ready())
    }
}

/// What a connection does next.
enum NextStep {
    /// The session was closed.
    Close,
    /// The session was left half-open.
    HalfOpen,
    /// The rule that holds a frame back has ended.
    Released,
    /// There is something to write: a notify is pending, or the socket takes unwritten bytes again.
    Write,
    /// Bytes were read. If the beginning of a frame was there before, it stands in front of them.
    Read(BytesMut),
}

/// A step in progress. It resolves to whether the session goes on, or fails when the connection has broken or the server was
/// killed.
type Step<'a> = Pin<Box<dyn Future<Output = io::Result<ControlFlow<()>>> + Send + 'a>>;

/// Closes the session and removes it from its manager when the task ends, also by a panic.
impl<H> Drop for Connection<H> {
    fn drop(&mut self) {
        let reason = self.session.close_reason();
        if self.context.manager.is_killed() || reason == Some(CloseReason::Reset) {
            self.transport.reset_on_drop();
        }
        self.session.close(CloseReason::Broken);
        self.context.manager.note_done(&self.session);
        let reason = self.session.close_reason().unwrap_or(CloseReason::Broken);
        self.context.connection_counts.closed(reason.label());
        self.context.manager.remove(self.session.id());
    }
}

impl<H: Handler> Connection<H> {
    /// Creates the connection of a session.
    pub fn new(
        transport: Transport,
        session: Arc<Session>,
        context: Arc<ListenerContext<H>>,
    ) -> Self {
        context.connection_counts.opened();
        Connection {
            transport,
            session,
            context,
            backlog: None,
        }
    }

    /// Serves the session until it ends, and drops `permit` once the connection is closed.
    ///
    /// Every idle session holds this future, so it has to be small: whatever is awaited in it, except the wait for the next step,
    /// is boxed.
    #[allow(
        clippy::manual_async_fn,
        reason = "the future of an async fn holds its arguments twice, as such and as variables; that of a block holds them once"
    )]
    pub fn run(mut self, permit: impl Send) -> impl Future<Output = ()> + Send {
        async move {
            let fault_point = &self.context.fault_point;
            fault_point.record(&self.session, EventKind::Opened, &[]);
            if fault_point.has_accept_rule() {
                Box::pin(self.apply_accept_fault()).await;
            }
            if self.serve().await.is_err() {
                self.session.close(CloseReason::Broken);
            }
            Box::pin(self.finish_session()).await;
            // Closes the socket before its permit goes to another connection.
            drop(self);
            drop(permit);
        }
    }

    /// Does one step after the other, until the session ends.
    ///
    /// # Errors
    ///
    /// When the connection has broken, or the server was killed.
    async fn serve(&mut self) -> io::Result<()> {
        loop {
            let step = poll_fn(|cx| self.poll_next_step(cx)).await?;
            if matches!(step, NextStep::Write) && !self.may_change_output() {
                let unwritten = self.take_unwritten();
                self.write(ReplyBuffer::behind(unwritten, None))?;
            } else if self.start_step(step).await?.is_break() {
                return Ok(());
            }
        }
    }

    /// Starts a step. The step is moved into the returned future, so that [`serve`](Self::serve) has no room
    /// for it.
    fn start_step(&mut self, step: NextStep) -> Step<'_> {
        match step {
            NextStep::Read(input) => Box::pin(self.process_read(input)),
            NextStep::Close => Box::pin(future::ready(Ok(ControlFlow::Break(())))),
            NextStep::HalfOpen => Box::pin(async {
                self.serve_half_open().await;
                Ok(ControlFlow::Break(()))
            }),
            NextStep::Released => Box::pin(async {
                self.handle_released().await?;
                Ok(ControlFlow::Continue(()))
            }),
            NextStep::Write => Box::pin(async {
                let buffer = ReplyBuffer::behind(self.take_unwritten(), None);
                self.write_with_faults(buffer).await?;
                Ok(ControlFlow::Continue(()))
            }),
        }
    }

    /// Waits for the next event. Nothing is read while the session is congested.
    fn poll_next_step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<NextStep>> {
        let work = self.session.poll_work(cx);
        if self.context.manager.park_if_paused(&self.session, cx) {
            return Poll::Pending;
        }
        if work == Some(Work::HalfOpen) {
            self.context.manager.note_maybe_settled();
            return Poll::Ready(Ok(NextStep::HalfOpen));
        }
        // Checked before a close and before the next frame, since a frame that was held back comes before both.
        let is_released = |backlog: &mut Box<Backlog>| backlog.poll_released(cx);
        if self.backlog.as_mut().is_some_and(is_released) {
            return Poll::Ready(Ok(NextStep::Released));
        }
        if work == Some(Work::Close) {
            return Poll::Ready(Ok(NextStep::Close));
        }
        let backlog = self.backlog.as_ref();
        let unwritten = backlog.map_or(0, |backlog| backlog.unwritten.len());
        if unwritten > 0
            && let Poll::Ready(ready) = self.transport.poll_write_ready(cx)
        {
            return Poll::Ready(ready.map(|()| NextStep::Write));
        }
        if self.session.is_congested(unwritten) {
            self.session.timers.note_server_busy();
            return Poll::Pending;
        }
        // A read comes before a write of the pending notify, so that the notify is written together with the replies to the
        // read.
        let read = self.poll_read(cx);
        if read.is_pending() && (work == Some(Work::Write) || self.has_control_frames()) {
            return Poll::Ready(Ok(NextStep::Write));
        }
        if read.is_pending() {
            self.context.manager.note_maybe_settled();
        }
        read
    }

    /// Reads once. If the beginning of a frame is there, the bytes are read behind it; otherwise into a buffer of the pool,
    /// which goes back if nothing was read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<NextStep>> {
        let manager = &self.context.manager;
        self.session
            .timers
            .note_awaiting_peer(|| manager.clock().now());
        // Checked before a buffer is taken, so that a connection with a silent peer holds none.
        ready!(self.transport.poll_read_ready(cx))?;
        if let Some(socket) = self.transport.websocket_mut() {
            socket.set_max_message(self.session.max_frame(self.context.frame_before_login));
        }
        let partial = take_filled(
            self.backlog
                .as_mut()
                .map(|backlog| &mut backlog.partial_frame),
        );
        let (mut input, room) = match partial {
            None => (buffer_pool::take(), READ),
            Some(partial) => match self.context.framing.split(&partial, MAX_FRAME) {
                Ok(Split::Needs(total)) => {
                    let max_frame = self.session.max_frame(self.context.frame_before_login);
                    let room = (total - partial.len()).max(max_frame.min(READ));
                    (partial, room)
                }
                _ => (partial, READ),
            },
        };
        input.reserve(room);
        match self.transport.poll_read(cx, &mut input, room) {
            Poll::Ready(Ok(0)) => {
                let end = self.transport.websocket().and_then(WebSocket::end);
                self.session.close(match end {
                    Some(End::Violated) => CloseReason::ProtocolError,
                    Some(End::Closed) | None => CloseReason::PeerClosed,
                });
                Poll::Ready(Ok(NextStep::Close))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(NextStep::Read(input))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                match &mut self.backlog {
                    Some(backlog) if !input.is_empty() => backlog.partial_frame = input,
                    _ => buffer_pool::give(input),
                }
                self.note_partial_message(false);
                Poll::Pending
            }
        }
    }

    /// Handles the whole frames that were read, writes the replies, sends the notifies, and keeps the beginning of the next
    /// frame.
    async fn process_read(&mut self, input: BytesMut) -> io::Result<ControlFlow<()>> {
        let may_be_more = input.len() >= READ;
        let (session, context) = (Arc::clone(&self.session), Arc::clone(&self.context));
        let unwritten = self.take_unwritten();
        let mut batch = RequestBatch::new(&session, &context, &input, unwritten);
        batch.held = (self.backlog.as_mut()).and_then(|backlog| backlog.held_request.take());
        // Sent when they are dropped, even if this task is aborted.
        let mut notifies = H::Notifies::default();
        self.handle_until_done(&mut batch, &mut notifies).await?;
        if batch.held.is_some() {
            self.backlog.get_or_insert_default().held_request = batch.held.take();
        }
        let taken = input.len() - batch.remaining_len();
        let buffer = batch.buffer;
        let whole = input.get(..taken).unwrap_or_default();
        let traffic = context.metrics.traffic();
        traffic.received(context.framing.frames(whole));
        self.keep_partial(input, taken);
        self.write_replies(buffer, notifies).await?;
        if may_be_more {
            // Without this, a peer that sends without a break would occupy this thread.
            tokio::task::yield_now().await;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Has the requests of a batch handled, and deals with each interruption.
    ///
    /// # Errors
    ///
    /// When the server is killed while a handler or a fault waits, or the connection breaks.
    async fn handle_until_done(
        &mut self,
        batch: &mut RequestBatch<'_>,
        notifies: &mut H::Notifies,
    ) -> io::Result<()> {
        loop {
            self.run_handler(batch, notifies).await?;
            match batch.interruption.take() {
                None => return Ok(()),
                Some(Interruption::TooLong(error)) => {
                    let code = Code::RequestErr;
                    let text = match batch.other_protocol() {
                        None => code.because(error),
                        Some(other) => {
                            self.context
                                .connection_counts
                                .handshake_failed(other.label());
                            code.because(other)
                        }
                    };
                    batch.reply(&Reply::server(code, text));
                    self.session.close(CloseReason::FrameTooLong);
                    return Ok(());
                }
                Some(Interruption::Congested) => self.relieve_congestion(batch, notifies).await?,
                Some(fault) => self.apply_unless_killed(batch, notifies, fault).await?,
            }
        }
    }

    async fn run_handler(
        &self,
        batch: &mut RequestBatch<'_>,
        notifies: &mut H::Notifies,
    ) -> io::Result<()> {
        let ListenerContext {
            manager, handler, ..
        } = &*self.context;
        // Both are pinned here and passed by reference: they are large, and a move into another future would copy them.
        let handling = pin!(handler.handle(batch, notifies));
        let watched = pin!(self.with_hang_up_watch(handling));
        manager.unless_killed(&self.session, watched).await
    }

    /// Keeps what is left of a read, which is the beginning of a frame, and gives the buffer back if nothing is left.
    fn keep_partial(&mut self, mut input: BytesMut, taken: usize) {
        if taken == input.len() {
            self.session.timers.frame_completed();
            self.note_partial_message(true);
            buffer_pool::give(input);
            return;
        }
        if taken > 0 || input.capacity() > 2 * input.len() {
            let partial = BytesMut::from(input.get(taken..).unwrap_or_default());
            buffer_pool::give(std::mem::replace(&mut input, partial));
        }
        let now = self.context.manager.clock().now();
        self.session.timers.frame_begun(taken > 0, now);
        self.backlog.get_or_insert_default().partial_frame = input;
    }
}

/// What only a WebSocket has.
impl<H> Connection<H> {
    fn has_control_frames(&self) -> bool {
        let socket = self.transport.websocket();
        socket.is_some_and(WebSocket::has_control_frames)
    }

    /// Notes whether the WebSocket holds a part of a message, whose rest has a deadline. The part is new if no part of that
    /// message was there before.
    fn note_partial_message(&self, is_new: bool) {
        let Some(socket) = self.transport.websocket() else {
            return;
        };
        let timers = &self.session.timers;
        match socket.holds_partial_message() {
            true => timers.frame_begun(is_new, self.context.manager.clock().now()),
            false => timers.frame_completed(),
        }
    }
}

/// Takes the contents of a buffer; none if it is empty.
fn take_filled(buffer: Option<&mut BytesMut>) -> Option<BytesMut> {
    buffer
        .map(std::mem::take)
        .filter(|buffer| !buffer.is_empty())
}

#[cfg(test)]
mod tests;

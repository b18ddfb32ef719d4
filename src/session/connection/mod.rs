//! The task of a session: it reads, lets a handler answer, and writes.
//!
//! Every frame of every client passes through here, in `Connection::turn` and `Connection::write`.

mod faults;
mod hang_up;
mod held_frame;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::manager::Manager;
use super::{CloseReason, FaultPoint, RequestBatch, Session, Work, buffer_pool};
use crate::clock::running;
use crate::codec::{Framing, MAX_FRAME, Split};
use crate::lab::EventKind;
use crate::metrics::{Connections, Metrics};
use crate::proto::{Code, Reply};
use crate::transport::Transport;
use held_frame::HeldFrame;

/// How much is read at once, in bytes.
const READ: usize = 16 * 1024;

/// A close waits so long for the peer to take the last frames, and as long again to see it close too. Real time.
const LINGER: Duration = Duration::from_millis(250);

/// What answers the frames of the sessions of one listener.
pub trait Handler: Send + Sync + 'static {
    /// What is not answered yet of the frames that one read brought.
    type Pending: Default + Send;

    /// Takes one frame. The answer goes into the batch, now or by [`finish`](Self::finish).
    fn frame(
        &self,
        batch: &mut RequestBatch<Self::Pending>,
        frame: &[u8],
    ) -> impl Future<Output = ()> + Send;

    /// Answers all that is still open: every frame that one read brought has been taken.
    fn finish(&self, batch: &mut RequestBatch<Self::Pending>) -> impl Future<Output = ()> + Send;

    /// Refuses with this code, as a fault wants it, what `reply` would have answered.
    fn refuse(&self, reply: Reply, code: Code) -> Reply {
        reply.with(code, code.text())
    }

    /// Does what comes after the answers: they are written, as far as the socket took them.
    fn answered(&self, pending: Self::Pending);
}

/// What the sessions of one listener share.
#[derive(Debug)]
pub struct Server<H> {
    /// Who they are.
    pub manager: Arc<Manager>,
    /// How messages are told apart in the bytes of their connections.
    pub framing: Framing,
    /// How long a frame may be before the login, in bytes.
    pub frame_limit: usize,
    /// What counts their frames.
    pub metrics: Arc<Metrics>,
    /// What counts them.
    pub connections: Connections,
    /// Where the lab touches them.
    pub fault_point: FaultPoint,
    /// What answers them.
    pub handler: H,
}

/// A session's socket. While the session waits, there is nothing else.
pub struct Connection<H> {
    transport: Transport,
    session: Arc<Session>,
    server: Arc<Server<H>>,
    /// None when both would be empty.
    backlog: Option<Box<Backlog>>,
}

/// What could not be done yet.
#[derive(Default)]
struct Backlog {
    /// The beginning of a frame.
    unread: BytesMut,
    /// What the socket has not taken.
    unwritten: BytesMut,
    /// What a fault lets pass after the next frame, each way.
    held_request: Option<Box<HeldFrame>>,
    held_reply: Option<Box<HeldFrame>>,
    /// The peer is told nothing more.
    is_silenced: bool,
}

impl Backlog {
    /// Whether there is nothing in it but what was not written.
    fn is_empty_but_unwritten(&self) -> bool {
        self.unread.is_empty()
            && self.held_request.is_none()
            && self.held_reply.is_none()
            && !self.is_silenced
    }
}

enum Event {
    Close,
    HalfOpen,
    Released,
    Write,
    Read(BytesMut),
}

/// Takes the session off the lists when its task ends, also when it panics.
impl<H> Drop for Connection<H> {
    fn drop(&mut self) {
        let reason = self.session.close_reason();
        if self.server.manager.is_killed() || reason == Some(CloseReason::Reset) {
            self.transport.reset_on_drop();
        }
        self.session.close(CloseReason::Broken);
        self.server.manager.done(&self.session);
        let reason = self.session.close_reason().unwrap_or(CloseReason::Broken);
        self.server.connections.closed(reason.label());
        self.server.manager.remove(self.session.id());
    }
}

impl<H: Handler> Connection<H> {
    /// A connection of that session.
    pub fn new(transport: Transport, session: Arc<Session>, server: Arc<Server<H>>) -> Self {
        server.connections.opened();
        Connection {
            transport,
            session,
            server,
            backlog: None,
        }
    }

    /// Runs the session to its end.
    pub async fn run(mut self) {
        self.server
            .fault_point
            .record(&self.session, EventKind::Opened, &[]);
        if self.server.fault_point.accepting_may_fail() {
            Box::pin(self.apply_accept_fault()).await;
        }
        if self.serve().await.is_err() {
            self.session.close(CloseReason::Broken);
        }
        // In boxes, here and below: an idle session should not carry the room for what it rarely does.
        Box::pin(self.finish_session()).await;
    }

    async fn serve(&mut self) -> io::Result<()> {
        loop {
            let input = match poll_fn(|cx| self.poll_event(cx)).await? {
                Event::Close => return Ok(()),
                Event::HalfOpen => {
                    Box::pin(self.serve_half_open()).await;
                    return Ok(());
                }
                Event::Released => {
                    Box::pin(self.handle_released()).await?;
                    continue;
                }
                Event::Write => {
                    let unwritten = self.take_unwritten();
                    let counted = unwritten.len();
                    if self.may_fail_writes() {
                        Box::pin(self.write_with_faults(unwritten, counted, None)).await?;
                    } else {
                        self.write(unwritten, counted, None)?;
                    }
                    continue;
                }
                Event::Read(input) => input,
            };
            let may_be_more = input.len() >= READ;
            Box::pin(self.process_read(input)).await?;
            if may_be_more {
                // Else whoever sends without end would keep this thread.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for something to do. While too much waits to be written, reading is not among it.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let work = self.session.poll_work(cx);
        if self.server.manager.park_if_paused(&self.session, cx) {
            return Poll::Pending;
        }
        if work == Some(Work::HalfOpen) {
            self.server.manager.parked();
            return Poll::Ready(Ok(Event::HalfOpen));
        }
        // Before a close and before the next frame: what was held stands in front of both.
        let is_released = |backlog: &mut Box<Backlog>| backlog.poll_released(cx);
        if self.backlog.as_mut().is_some_and(is_released) {
            return Poll::Ready(Ok(Event::Released));
        }
        if work == Some(Work::Close) {
            return Poll::Ready(Ok(Event::Close));
        }
        let unwritten = self
            .backlog
            .as_ref()
            .map_or(0, |backlog| backlog.unwritten.len());
        if unwritten > 0
            && let Poll::Ready(ready) = self.transport.poll_write_ready(cx)
        {
            return Poll::Ready(ready.map(|()| Event::Write));
        }
        if self.is_congested(unwritten) {
            self.session.timers.server_busy();
            return Poll::Pending;
        }
        // Before what others have queued: the answers go out in the same write.
        let read = self.poll_read(cx);
        if read.is_pending() && work == Some(Work::Write) {
            return Poll::Ready(Ok(Event::Write));
        }
        if read.is_pending() {
            self.server.manager.parked();
        }
        read
    }

    /// Reads once: into the beginning of the frame that is there, or into a buffer that is held only as long as there is
    /// something to read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let manager = &self.server.manager;
        self.session.timers.awaiting_peer(|| manager.clock().now());
        // Before there is room for it: whoever says nothing more takes none.
        ready!(self.transport.poll_read_ready(cx))?;
        let unread = take_filled(self.backlog.as_mut().map(|backlog| &mut backlog.unread));
        let (mut input, room) = match unread {
            None => (buffer_pool::take(), READ),
            Some(unread) => match self.server.framing.split(&unread, MAX_FRAME) {
                Ok(Split::Needs(total)) => {
                    let room = (total - unread.len()).max(self.max_frame().min(READ));
                    (unread, room)
                }
                _ => (unread, READ),
            },
        };
        input.reserve(room);
        match self.transport.poll_read(cx, &mut input, room) {
            Poll::Ready(Ok(0)) => {
                self.session.close(CloseReason::PeerClosed);
                Poll::Ready(Ok(Event::Close))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(Event::Read(input))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                match &mut self.backlog {
                    Some(backlog) if !input.is_empty() => backlog.unread = input,
                    _ => buffer_pool::give(input),
                }
                Poll::Pending
            }
        }
    }

    /// Whether what is written may meet a fault, or one that it has met is not over.
    fn may_fail_writes(&self) -> bool {
        let holds = |backlog: &Backlog| backlog.held_reply.is_some();
        self.server.fault_point.writing_may_fail() || self.backlog.as_deref().is_some_and(holds)
    }

    fn holds_request(&self) -> bool {
        let holds = |backlog: &Backlog| backlog.held_request.is_some();
        self.backlog.as_deref().is_some_and(holds)
    }

    /// Past the high-water mark: no further request is taken before replies have left.
    fn is_congested(&self, unwritten: usize) -> bool {
        unwritten > self.session.outbound_limit / 2
    }

    /// Handles every whole frame that was read, writes the answers, and keeps the beginning of the next frame.
    async fn process_read(&mut self, input: BytesMut) -> io::Result<()> {
        let unwritten = self.take_unwritten();
        let mut batch = RequestBatch::new(&self.session, self.server.framing, unwritten);
        let taken = self.handle_frames(&input, &mut batch).await;
        let finished = self.finish(&mut batch).await;
        let taken = finished.and(taken);
        let whole = input.get(..*taken.as_ref().unwrap_or(&0));
        let traffic = self.server.metrics.traffic();
        traffic.received(self.server.framing.frames(whole.unwrap_or_default()));
        let kept = taken.map(|taken| self.keep_partial(input, taken));
        self.write_replies(batch, kept).await
    }

    /// Answers all that is still open, but not past a kill.
    async fn finish(&mut self, batch: &mut RequestBatch<H::Pending>) -> io::Result<()> {
        let Server {
            manager, handler, ..
        } = &*self.server;
        // In its place: moved into the other future, it would be copied each time, and it is large.
        let finishing = pin!(handler.finish(batch));
        let finished = self.with_hang_up_watch(finishing);
        manager.unless_killed(&self.session, pin!(finished)).await
    }

    /// Writes the answers of a batch, and tells those whom it concerns. Nothing is written where the turn has failed.
    async fn write_replies(
        &mut self,
        mut batch: RequestBatch<H::Pending>,
        done: io::Result<()>,
    ) -> io::Result<()> {
        let read_at = Some(batch.read_at);
        // What a flush in the middle of the turn could not write stands in front.
        if let Some(mut unwritten) =
            take_filled(self.backlog.as_mut().map(|backlog| &mut backlog.unwritten))
        {
            batch.counted += unwritten.len();
            unwritten.unsplit(batch.out);
            batch.out = unwritten;
        }
        if self.may_fail_writes() {
            // Answers that meet a fault may never be written: nobody else waits for them.
            self.server.handler.answered(batch.pending);
            done?;
            return Box::pin(self.write_with_faults(batch.out, batch.counted, read_at)).await;
        }
        let written = done.and_then(|()| self.write(batch.out, batch.counted, read_at));
        // Also when this connection is broken: what was stored for others is theirs.
        self.server.handler.answered(batch.pending);
        written
    }

    /// Hands the whole frames in `buffer` to the handler; returns how many bytes they took.
    async fn handle_frames(
        &mut self,
        buffer: &[u8],
        batch: &mut RequestBatch<H::Pending>,
    ) -> io::Result<usize> {
        let server = Arc::clone(&self.server);
        let Server {
            manager, handler, ..
        } = &*server;
        let mut rest = buffer;
        while self.session.is_served() {
            match server.framing.split(rest, self.max_frame()) {
                Ok(Split::Frame { message, taken }) => {
                    self.session.timers.server_busy();
                    if server.fault_point.is_quiet() && !self.holds_request() {
                        // In its place, as in `finish`.
                        let taking = pin!(handler.frame(batch, message));
                        let taken = self.with_hang_up_watch(taking);
                        manager.unless_killed(&self.session, pin!(taken)).await?;
                    } else {
                        let session = Arc::clone(&self.session);
                        manager
                            .unless_killed(
                                &session,
                                Box::pin(self.handle_with_faults(batch, message)).as_mut(),
                            )
                            .await??;
                    }
                    rest = rest.get(taken..).unwrap_or_default();
                }
                Ok(Split::Needs(_)) => break,
                Err(error) => {
                    self.finish(batch).await?;
                    let code = Code::RequestErr;
                    batch.reply(&Reply::server(code, code.because(error)));
                    self.session.close(CloseReason::FrameTooLong);
                }
            }
            if self.is_congested(batch.out.len()) {
                self.finish(batch).await?;
                self.relieve_congestion(batch).await?;
            }
        }
        Ok(buffer.len() - rest.len())
    }

    /// Keeps what is left of a read: the beginning of a frame.
    fn keep_partial(&mut self, mut input: BytesMut, taken: usize) {
        if taken == input.len() {
            self.session.timers.frame_completed();
            buffer_pool::give(input);
            return;
        }
        if taken > 0 || input.capacity() > 2 * input.len() {
            let unread = BytesMut::from(input.get(taken..).unwrap_or_default());
            buffer_pool::give(std::mem::replace(&mut input, unread));
        }
        self.session
            .timers
            .frame_begun(taken > 0, self.server.manager.clock().now());
        self.backlog.get_or_insert_default().unread = input;
    }

    /// The longest frame that this session may send, in bytes.
    fn max_frame(&self) -> usize {
        if self.session.uid().is_some() {
            MAX_FRAME
        } else {
            self.server.frame_limit
        }
    }

    /// Writes until the congestion is over or the session closes.
    async fn relieve_congestion(&mut self, batch: &mut RequestBatch<H::Pending>) -> io::Result<()> {
        loop {
            let out = std::mem::take(&mut batch.out);
            let read_at = Some(batch.read_at);
            // Whom the answers concern need not wait until this peer takes them.
            if self.may_fail_writes() {
                self.server
                    .handler
                    .answered(std::mem::take(&mut batch.pending));
                Box::pin(self.write_with_faults(out, batch.counted, read_at)).await?;
            } else {
                self.write(out, batch.counted, read_at)?;
                self.server
                    .handler
                    .answered(std::mem::take(&mut batch.pending));
            }
            batch.out = self.take_unwritten();
            batch.counted = batch.out.len();
            if !self.is_congested(batch.out.len()) {
                // So many answers took their time, and a peer that reads them as fast never makes this task wait.
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

    /// What the socket has not taken yet, or an empty buffer.
    fn take_unwritten(&mut self) -> BytesMut {
        let unwritten = take_filled(self.backlog.as_mut().map(|backlog| &mut backlog.unwritten));
        unwritten.unwrap_or_else(buffer_pool::take)
    }

    /// Writes what the socket takes now, with what others have queued behind it, and keeps the rest. The first `counted`
    /// bytes were about to go out before. What stands behind them answers requests that were read at `read_at`.
    fn write(
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
        if self
            .backlog
            .as_ref()
            .is_some_and(|backlog| backlog.is_empty_but_unwritten())
        {
            self.backlog = None;
        }
        Ok(())
    }

    /// Counts and records frames that are about to be written; the answers among them are to requests that were read at
    /// `read_at`.
    fn record_sent(&self, frames: &[u8], read_at: Option<Instant>) {
        let Server {
            framing,
            metrics,
            fault_point,
            ..
        } = &*self.server;
        metrics.traffic().sent(framing.frames(frames), read_at);
        fault_point.record_sent(&self.session, framing.frames(frames));
    }

    /// Says what is left to say, closes the writing side, and waits a moment for the peer to do the same: closing over
    /// unread input would reset the connection and destroy the last frame.
    async fn finish_session(&mut self) {
        let reason = self.session.close_reason().unwrap_or(CloseReason::Broken);
        tracing::debug!(
            session = %self.session.id(),
            peer = %self.session.peer(),
            uid = self.session.uid().map(i64::from),
            reason = reason.label(),
            "session closed"
        );
        let is_silenced = self.is_silenced();
        let is_silent = reason.is_abrupt() || is_silenced || self.server.manager.is_killed();
        let last = if is_silent {
            BytesMut::new()
        } else {
            self.take_final_output()
        };
        // What it says last goes before it.
        let closed = EventKind::Closed(reason.label());
        self.server.fault_point.record(&self.session, closed, &[]);
        if reason == CloseReason::Dropped && is_silenced {
            // A FIN alone; over unread input it would be a reset.
            if self.transport.shutdown().await.is_ok() {
                let _ = running::timeout(LINGER, self.transport.drain()).await;
            }
            return;
        }
        if is_silent {
            return;
        }
        let shutdown = self.server.manager.shutdown().clone();
        // What the socket takes at once is said even in a hurry.
        tokio::select! {
            biased;
            () = self.close_gracefully(reason, &last) => {}
            () = shutdown.hurried() => {}
        }
    }

    /// Whether the peer is told nothing more.
    fn is_silenced(&self) -> bool {
        self.session.is_half_open()
            || self
                .backlog
                .as_ref()
                .is_some_and(|backlog| backlog.is_silenced)
    }

    /// What is left to say.
    fn take_final_output(&mut self) -> BytesMut {
        let mut last = self.take_unwritten();
        let counted = last.len();
        // What a rule holds that has ended is said before the last word.
        if let Some(held) = self.take_released_reply() {
            last.extend_from_slice(&held.frame);
        }
        self.session
            .take_final_output(self.server.framing, &mut last);
        self.record_sent(last.get(counted..).unwrap_or_default(), None);
        last
    }

    async fn close_gracefully(&mut self, reason: CloseReason, last: &[u8]) {
        self.server.manager.done(&self.session);
        let said = async {
            self.transport.write_all(last).await?;
            self.transport.shutdown().await
        };
        // A peer that is gone, or takes nothing, has missed its chance. At a shutdown the chance lasts as long as the
        // grace period, at the end of which comes the hurry.
        let is_said = if reason == CloseReason::Shutdown {
            said.await.is_ok()
        } else {
            matches!(running::timeout(LINGER, said).await, Ok(Ok(())))
        };
        if is_said {
            let _ = running::timeout(LINGER, self.transport.drain()).await;
        }
    }
}

/// What is in a buffer, if something is.
fn take_filled(buffer: Option<&mut BytesMut>) -> Option<BytesMut> {
    buffer
        .map(std::mem::take)
        .filter(|buffer| !buffer.is_empty())
}

#[cfg(test)]
mod tests;

//! The task of a session: it reads, lets a handler answer, and writes.
//!
//! Every frame of every client passes through here, in `Connection::turn` and `Connection::write`.

mod attended;
mod held;
mod watched;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::manager::Manager;
use super::{CloseReason, Session, Tap, Turn, Work, spare};
use crate::clock::running;
use crate::codec::{Framing, MAX_FRAME, Split};
use crate::lab::What;
use crate::metrics::{Connections, Metrics};
use crate::proto::{Code, Reply};
use crate::transport::Transport;
use held::HeldFrame;

/// How much is read at once, in bytes.
const READ: usize = 16 * 1024;

/// A close waits so long for the peer to take the last frames, and as long again to see it close too. Real time.
const LINGER: Duration = Duration::from_millis(250);

/// What answers the frames of the sessions of one listener.
pub trait Handler: Send + Sync + 'static {
    /// What is not answered yet of the frames that one read brought.
    type Open: Default + Send;

    /// Takes one frame. The answer goes into the turn, now or by [`finish`](Self::finish).
    fn frame(&self, turn: &mut Turn<Self::Open>, frame: &[u8]) -> impl Future<Output = ()> + Send;

    /// Answers all that is still open: every frame that one read brought has been taken.
    fn finish(&self, turn: &mut Turn<Self::Open>) -> impl Future<Output = ()> + Send;

    /// Refuses with this code, as a fault wants it, what `reply` would have answered.
    fn refuse(&self, reply: Reply, code: Code) -> Reply {
        reply.with(code, code.text())
    }

    /// Does what comes after the answers: they are written, as far as the socket took them.
    fn answered(&self, open: Self::Open);
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
    pub tap: Tap,
    /// What answers them.
    pub handler: H,
}

/// A session's socket. While the session waits, there is nothing else.
pub struct Connection<H> {
    transport: Transport,
    session: Arc<Session>,
    server: Arc<Server<H>>,
    /// None when both would be empty.
    rest: Option<Box<Rest>>,
}

/// What could not be done yet.
#[derive(Default)]
struct Rest {
    /// The beginning of a frame.
    unread: BytesMut,
    /// What the socket has not taken.
    unwritten: BytesMut,
    /// What a fault lets pass after the next frame, each way.
    held_request: Option<Box<HeldFrame>>,
    held_reply: Option<Box<HeldFrame>>,
    /// The peer is told nothing more.
    is_mute: bool,
}

impl Rest {
    /// Whether there is nothing in it but what was not written.
    fn is_spent(&self) -> bool {
        self.unread.is_empty()
            && self.held_request.is_none()
            && self.held_reply.is_none()
            && !self.is_mute
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
            rest: None,
        }
    }

    /// Runs the session to its end.
    pub async fn run(mut self) {
        self.server.tap.record(&self.session, What::Opened, &[]);
        if self.server.tap.accepting_may_fail() {
            Box::pin(self.accepted()).await;
        }
        if self.serve().await.is_err() {
            self.session.close(CloseReason::Broken);
        }
        // In boxes, here and below: an idle session should not carry the room for what it rarely does.
        Box::pin(self.end()).await;
    }

    async fn serve(&mut self) -> io::Result<()> {
        loop {
            let input = match poll_fn(|cx| self.poll_event(cx)).await? {
                Event::Close => return Ok(()),
                Event::HalfOpen => {
                    Box::pin(self.stand_still()).await;
                    return Ok(());
                }
                Event::Released => {
                    Box::pin(self.let_go()).await?;
                    continue;
                }
                Event::Write => {
                    let unwritten = self.take_unwritten();
                    let counted = unwritten.len();
                    if self.writes_watched() {
                        Box::pin(self.write_watched(unwritten, counted, None)).await?;
                    } else {
                        self.write(unwritten, counted, None)?;
                    }
                    continue;
                }
                Event::Read(input) => input,
            };
            let may_be_more = input.len() >= READ;
            Box::pin(self.turn(input)).await?;
            if may_be_more {
                // Else whoever sends without end would keep this thread.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for something to do. While too much waits to be written, reading is not among it.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let work = self.session.poll_work(cx);
        if self.server.manager.rests(&self.session, cx) {
            return Poll::Pending;
        }
        if work == Some(Work::HalfOpen) {
            self.server.manager.parked();
            return Poll::Ready(Ok(Event::HalfOpen));
        }
        // Before a close and before the next frame: what was held stands in front of both.
        let is_released = |rest: &mut Box<Rest>| rest.poll_released(cx);
        if self.rest.as_mut().is_some_and(is_released) {
            return Poll::Ready(Ok(Event::Released));
        }
        if work == Some(Work::Close) {
            return Poll::Ready(Ok(Event::Close));
        }
        let unwritten = self.rest.as_ref().map_or(0, |rest| rest.unwritten.len());
        if unwritten > 0
            && let Poll::Ready(ready) = self.transport.poll_write_ready(cx)
        {
            return Poll::Ready(ready.map(|()| Event::Write));
        }
        if self.is_congested(unwritten) {
            self.session.timers.our_turn();
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
        self.session.timers.peers_turn(|| manager.clock().now());
        // Before there is room for it: whoever says nothing more takes none.
        ready!(self.transport.poll_read_ready(cx))?;
        let unread = take_filled(self.rest.as_mut().map(|rest| &mut rest.unread));
        let (mut input, room) = match unread {
            None => (spare::take(), READ),
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
                match &mut self.rest {
                    Some(rest) if !input.is_empty() => rest.unread = input,
                    _ => spare::give(input),
                }
                Poll::Pending
            }
        }
    }

    /// Whether what is written may meet a fault, or one that it has met is not over.
    fn writes_watched(&self) -> bool {
        let holds = |rest: &Rest| rest.held_reply.is_some();
        self.server.tap.writing_may_fail() || self.rest.as_deref().is_some_and(holds)
    }

    fn holds_request(&self) -> bool {
        let holds = |rest: &Rest| rest.held_request.is_some();
        self.rest.as_deref().is_some_and(holds)
    }

    /// Past the high-water mark: no further request is taken before replies have left.
    fn is_congested(&self, unwritten: usize) -> bool {
        unwritten > self.session.outbound_limit / 2
    }

    /// Handles every whole frame that was read, writes the answers, and keeps the beginning of the next frame.
    async fn turn(&mut self, input: BytesMut) -> io::Result<()> {
        let unwritten = self.take_unwritten();
        let mut turn = Turn::new(&self.session, self.server.framing, unwritten);
        let taken = self.handle(&input, &mut turn).await;
        let finished = self.finish(&mut turn).await;
        let taken = finished.and(taken);
        let whole = input.get(..*taken.as_ref().unwrap_or(&0));
        let traffic = self.server.metrics.traffic();
        traffic.received(self.server.framing.frames(whole.unwrap_or_default()));
        let kept = taken.map(|taken| self.keep(input, taken));
        self.answer(turn, kept).await
    }

    /// Answers all that is still open, but not past a kill.
    async fn finish(&mut self, turn: &mut Turn<H::Open>) -> io::Result<()> {
        let Server {
            manager, handler, ..
        } = &*self.server;
        // In its place: moved into the other future, it would be copied each time, and it is large.
        let finishing = pin!(handler.finish(turn));
        let finished = self.attended(finishing);
        manager.alive(&self.session, pin!(finished)).await
    }

    /// Writes the answers of a turn, and tells those whom it concerns. Nothing is written where the turn has failed.
    async fn answer(&mut self, mut turn: Turn<H::Open>, done: io::Result<()>) -> io::Result<()> {
        let read_at = Some(turn.read_at);
        // What a flush in the middle of the turn could not write stands in front.
        if let Some(mut unwritten) = take_filled(self.rest.as_mut().map(|rest| &mut rest.unwritten))
        {
            turn.counted += unwritten.len();
            unwritten.unsplit(turn.out);
            turn.out = unwritten;
        }
        if self.writes_watched() {
            // Answers that meet a fault may never be written: nobody else waits for them.
            self.server.handler.answered(turn.open);
            done?;
            return Box::pin(self.write_watched(turn.out, turn.counted, read_at)).await;
        }
        let written = done.and_then(|()| self.write(turn.out, turn.counted, read_at));
        // Also when this connection is broken: what was stored for others is theirs.
        self.server.handler.answered(turn.open);
        written
    }

    /// Hands the whole frames in `buffer` to the handler; returns how many bytes they took.
    async fn handle(&mut self, buffer: &[u8], turn: &mut Turn<H::Open>) -> io::Result<usize> {
        let server = Arc::clone(&self.server);
        let Server {
            manager, handler, ..
        } = &*server;
        let mut rest = buffer;
        while self.session.is_served() {
            match server.framing.split(rest, self.max_frame()) {
                Ok(Split::Frame { message, taken }) => {
                    self.session.timers.our_turn();
                    if server.tap.is_quiet() && !self.holds_request() {
                        // In its place, as in `finish`.
                        let taking = pin!(handler.frame(turn, message));
                        let taken = self.attended(taking);
                        manager.alive(&self.session, pin!(taken)).await?;
                    } else {
                        let session = Arc::clone(&self.session);
                        manager
                            .alive(&session, Box::pin(self.take(turn, message)).as_mut())
                            .await??;
                    }
                    rest = rest.get(taken..).unwrap_or_default();
                }
                Ok(Split::Needs(_)) => break,
                Err(error) => {
                    self.finish(turn).await?;
                    let code = Code::RequestErr;
                    turn.reply(&Reply::server(code, code.because(error)));
                    self.session.close(CloseReason::FrameTooLong);
                }
            }
            if self.is_congested(turn.out.len()) {
                self.finish(turn).await?;
                self.relieve(turn).await?;
            }
        }
        Ok(buffer.len() - rest.len())
    }

    /// Keeps what is left of a read: the beginning of a frame.
    fn keep(&mut self, mut input: BytesMut, taken: usize) {
        if taken == input.len() {
            self.session.timers.no_half_frame();
            spare::give(input);
            return;
        }
        if taken > 0 || input.capacity() > 2 * input.len() {
            let unread = BytesMut::from(input.get(taken..).unwrap_or_default());
            spare::give(std::mem::replace(&mut input, unread));
        }
        self.session
            .timers
            .half_frame(taken > 0, self.server.manager.clock().now());
        self.rest.get_or_insert_default().unread = input;
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
    async fn relieve(&mut self, turn: &mut Turn<H::Open>) -> io::Result<()> {
        loop {
            let out = std::mem::take(&mut turn.out);
            let read_at = Some(turn.read_at);
            // Whom the answers concern need not wait until this peer takes them.
            if self.writes_watched() {
                self.server.handler.answered(std::mem::take(&mut turn.open));
                Box::pin(self.write_watched(out, turn.counted, read_at)).await?;
            } else {
                self.write(out, turn.counted, read_at)?;
                self.server.handler.answered(std::mem::take(&mut turn.open));
            }
            turn.out = self.take_unwritten();
            turn.counted = turn.out.len();
            if !self.is_congested(turn.out.len()) {
                // So many answers took their time, and a peer that reads them as fast never makes this task wait.
                tokio::task::yield_now().await;
                return Ok(());
            }
            let closed = poll_fn(|cx| {
                if self.session.poll_over(cx).is_ready() {
                    return Poll::Ready(Ok(true));
                }
                if self.server.manager.rests(&self.session, cx) {
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
        let unwritten = take_filled(self.rest.as_mut().map(|rest| &mut rest.unwritten));
        unwritten.unwrap_or_else(spare::take)
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
            self.went(out.get(counted..).unwrap_or_default(), read_at.take());
            let written = if self.server.manager.is_paused() {
                // As if the socket were full.
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                self.transport.try_write(&out)
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) if n == out.len() => {
                    timers.write_goes_on();
                    out.clear();
                    counted = 0;
                    takes_more = !takes_more;
                }
                Ok(n) => {
                    timers.write_goes_on();
                    out.advance(n);
                    counted = out.len();
                    takes_more = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    timers.write_stalled(self.server.manager.clock().now());
                    self.session.stall(out.len());
                    self.rest.get_or_insert_default().unwritten = out;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        spare::give(out);
        if self.rest.as_ref().is_some_and(|rest| rest.is_spent()) {
            self.rest = None;
        }
        Ok(())
    }

    /// Counts and records frames that are about to be written; the answers among them are to requests that were read at
    /// `read_at`.
    fn went(&self, frames: &[u8], read_at: Option<Instant>) {
        let Server {
            framing,
            metrics,
            tap,
            ..
        } = &*self.server;
        metrics.traffic().sent(framing.frames(frames), read_at);
        tap.went(&self.session, framing.frames(frames));
    }

    /// Says what is left to say, closes the writing side, and waits a moment for the peer to do the same: closing over
    /// unread input would reset the connection and destroy the last frame.
    async fn end(&mut self) {
        let reason = self.session.close_reason().unwrap_or(CloseReason::Broken);
        tracing::debug!(
            session = %self.session.id(),
            peer = %self.session.peer(),
            uid = self.session.uid().map(i64::from),
            reason = reason.label(),
            "session closed"
        );
        let is_mute = self.is_mute();
        let is_silent = reason.is_abrupt() || is_mute || self.server.manager.is_killed();
        let last = if is_silent {
            BytesMut::new()
        } else {
            self.take_last()
        };
        // What it says last goes before it.
        let closed = What::Closed(reason.label());
        self.server.tap.record(&self.session, closed, &[]);
        if reason == CloseReason::Dropped && is_mute {
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
            () = self.part(reason, &last) => {}
            () = shutdown.hurried() => {}
        }
    }

    /// Whether the peer is told nothing more.
    fn is_mute(&self) -> bool {
        self.session.is_half_open() || self.rest.as_ref().is_some_and(|rest| rest.is_mute)
    }

    /// What is left to say.
    fn take_last(&mut self) -> BytesMut {
        let mut last = self.take_unwritten();
        let counted = last.len();
        // What a rule holds that has ended is said before the last word.
        if let Some(held) = self.released_reply() {
            last.extend_from_slice(&held.frame);
        }
        self.session.take_last(self.server.framing, &mut last);
        self.went(last.get(counted..).unwrap_or_default(), None);
        last
    }

    async fn part(&mut self, reason: CloseReason, last: &[u8]) {
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

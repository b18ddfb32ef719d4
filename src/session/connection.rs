//! The task of a session: it reads, lets a handler answer, and writes.
//!
//! Every frame of every client passes through here, in `Connection::read` and `Connection::write`.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::manager::Manager;
use super::{CloseReason, Session, Work};
use crate::codec::{self, MAX_FRAME, Split};
use crate::proto::{Code, Reply};

/// How much is read at once, in bytes.
const READ: usize = 16 * 1024;

/// A close waits so long for the peer to take the last frames, and as long again to see it close too. Real time.
const LINGER: Duration = Duration::from_millis(250);

/// What answers the frames of a session.
pub trait Handler: Send {
    /// Takes one frame. The answer is queued with [`Session::reply`], now or by [`finish`](Self::finish).
    fn frame(&mut self, session: &Arc<Session>, frame: &[u8]) -> impl Future<Output = ()> + Send;

    /// Answers all that is still open: every frame that one read brought has been taken.
    fn finish(&mut self, session: &Arc<Session>) -> impl Future<Output = ()> + Send;
}

/// Runs a session to its end.
///
/// `frame_limit` is how long a frame may be before the login, in bytes.
pub async fn drive<H: Handler>(
    stream: TcpStream,
    session: Arc<Session>,
    manager: Arc<Manager>,
    frame_limit: usize,
    handler: H,
) {
    let _leaving = Leaving {
        session: Arc::clone(&session),
        manager: Arc::clone(&manager),
    };
    let mut connection = Connection {
        stream,
        session,
        manager,
        frame_limit,
        handler,
        unread: BytesMut::new(),
        unwritten: BytesMut::new(),
    };
    if connection.run().await.is_err() {
        connection.session.close(CloseReason::Broken);
    }
    connection.end().await;
}

/// Takes the session off the lists when its task ends, also when it panics.
struct Leaving {
    session: Arc<Session>,
    manager: Arc<Manager>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.session.close(CloseReason::Broken);
        self.manager.remove(self.session.id());
    }
}

struct Connection<H> {
    stream: TcpStream,
    session: Arc<Session>,
    manager: Arc<Manager>,
    frame_limit: usize,
    handler: H,
    /// The beginning of a frame. Holds no memory between frames.
    unread: BytesMut,
    /// What was taken from the session to be written. Holds no memory when it is empty.
    unwritten: BytesMut,
}

enum Event {
    Close,
    Write,
    Read,
}

impl<H: Handler> Connection<H> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match self.event().await? {
                Event::Close => return Ok(()),
                Event::Write => self.write()?,
                Event::Read => {
                    self.read().await?;
                    self.write()?;
                }
            }
        }
    }

    /// Waits for something to do. While too much waits to be written, reading is not among it.
    async fn event(&mut self) -> io::Result<Event> {
        // Moved in whole: a shared borrow would ask of the handler to be Sync.
        let this = self;
        poll_fn(move |cx| {
            match this.session.poll_work(cx) {
                Some(Work::Close) => return Poll::Ready(Ok(Event::Close)),
                Some(Work::Write) => return Poll::Ready(Ok(Event::Write)),
                None => {}
            }
            if !this.unwritten.is_empty()
                && let Poll::Ready(ready) = this.stream.poll_write_ready(cx)
            {
                return Poll::Ready(ready.map(|()| Event::Write));
            }
            if this.is_congested() {
                this.session.timers.our_turn();
                return Poll::Pending;
            }
            this.session
                .timers
                .peers_turn(|| this.manager.clock().now());
            this.stream.poll_read_ready(cx).map_ok(|()| Event::Read)
        })
        .await
    }

    /// Past the high-water mark: no further request is taken before replies have left.
    fn is_congested(&self) -> bool {
        self.session.queued() > self.session.outbound_limit / 2
    }

    /// Reads once, handles every whole frame that is there now, and keeps the beginning of the next.
    async fn read(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.unread);
        let whole = match codec::split(&buffer, MAX_FRAME) {
            Ok(Split::Needs(total)) => total - buffer.len(),
            _ => 0,
        };
        buffer.reserve(whole.max(self.max_frame().min(READ)));
        match self.stream.try_read_buf(&mut buffer) {
            Ok(0) => {
                self.session.close(CloseReason::PeerClosed);
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !buffer.is_empty() {
                    self.unread = buffer;
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let taken = self.handle(&buffer).await?;
        self.handler.finish(&self.session).await;
        self.keep(buffer, taken);
        Ok(())
    }

    /// Hands the whole frames in `buffer` to the handler; returns how many bytes they took.
    async fn handle(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let mut rest = buffer;
        while self.session.close_reason().is_none() {
            match codec::split(rest, self.max_frame()) {
                Ok(Split::Frame { message, taken }) => {
                    self.session.timers.our_turn();
                    self.handler.frame(&self.session, message).await;
                    rest = rest.get(taken..).unwrap_or_default();
                }
                Ok(Split::Needs(_)) => break,
                Err(error) => {
                    self.handler.finish(&self.session).await;
                    let code = Code::RequestErr;
                    self.session
                        .reply(&Reply::server(code, code.because(error)));
                    self.session.close(CloseReason::FrameTooLong);
                }
            }
            if self.is_congested() {
                self.handler.finish(&self.session).await;
                self.relieve().await?;
            }
        }
        Ok(buffer.len() - rest.len())
    }

    /// Keeps what is left of a read: the beginning of a frame.
    fn keep(&mut self, mut buffer: BytesMut, taken: usize) {
        if taken == buffer.len() {
            self.session.timers.no_half_frame();
            return;
        }
        if taken > 0 {
            buffer = BytesMut::from(buffer.get(taken..).unwrap_or_default());
        }
        self.session
            .timers
            .half_frame(taken > 0, self.manager.clock().now());
        self.unread = buffer;
    }

    /// The longest frame that this session may send, in bytes.
    fn max_frame(&self) -> usize {
        if self.session.uid().is_some() {
            MAX_FRAME
        } else {
            self.frame_limit
        }
    }

    /// Writes until the congestion is over or the session closes.
    async fn relieve(&mut self) -> io::Result<()> {
        self.write()?;
        while self.is_congested() {
            let closed = poll_fn(|cx| {
                if self.session.poll_work(cx) == Some(Work::Close) {
                    return Poll::Ready(Ok(true));
                }
                self.stream.poll_write_ready(cx).map_ok(|()| false)
            });
            if closed.await? {
                return Ok(());
            }
            self.write()?;
        }
        Ok(())
    }

    /// Writes what the socket takes now.
    fn write(&mut self) -> io::Result<()> {
        loop {
            if self.unwritten.is_empty() {
                self.unwritten = self.session.take_outbound();
                if self.unwritten.is_empty() {
                    return Ok(());
                }
            }
            match self.stream.try_write(&self.unwritten) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.unwritten.advance(n);
                    self.session.timers.write_goes_on();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.session
                        .timers
                        .write_stalled(self.manager.clock().now());
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says what is left to say, closes the writing side, and waits a moment for the peer to do the same: closing over
    /// unread input would reset the connection and destroy the last frame.
    async fn end(mut self) {
        let reason = self.session.close_reason().unwrap_or(CloseReason::Broken);
        tracing::debug!(
            session = %self.session.id(),
            peer = %self.session.peer(),
            uid = self.session.uid(),
            reason = reason.label(),
            "session closed"
        );
        if reason.is_abrupt() {
            return;
        }
        let shutdown = self.manager.shutdown().clone();
        // What the socket takes at once is said even in a hurry.
        tokio::select! {
            biased;
            () = self.part(reason) => {}
            () = shutdown.hurried() => {}
        }
    }

    async fn part(&mut self, reason: CloseReason) {
        let mut last = std::mem::take(&mut self.unwritten);
        last.unsplit(self.session.take_last());
        let said = async {
            self.stream.write_all(&last).await?;
            self.stream.shutdown().await
        };
        // A peer that is gone, or takes nothing, has missed its chance. At a shutdown the chance lasts as long as the
        // grace period, at the end of which comes the hurry.
        let is_said = if reason == CloseReason::Shutdown {
            said.await.is_ok()
        } else {
            matches!(tokio::time::timeout(LINGER, said).await, Ok(Ok(())))
        };
        if is_said {
            let _ = tokio::time::timeout(LINGER, drain(&self.stream)).await;
        }
    }
}

/// Reads and forgets until the peer closes.
async fn drain(stream: &TcpStream) -> io::Result<()> {
    let mut waste = BytesMut::with_capacity(READ);
    loop {
        stream.readable().await?;
        waste.clear();
        match stream.try_read_buf(&mut waste) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

//! One connection of a load generator: one read, all its frames, one write.
//!
//! Serves `imd bench` and `examples/side_by_side`, whose bare servers and clients of other brokers use it too: the scanner
//! of frames is a parameter. The buffers belong to the thread, so a connection holds none while it waits.
//!
//! A turn of a connection never waits: what the socket does not take is kept and written before the next turn. Frames are
//! seen once, whole and in order, however the stream was cut.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio_util::io::poll_read_buf;

use crate::codec::{self, MAX_FRAME};

/// How much is read at once, in bytes: the rest of one frame and a whole one, of any length.
const READ: usize = 2 * (MAX_FRAME + 2);

/// How long connecting may take, and one answer before the run begins.
const PATIENCE: Duration = Duration::from_secs(15);

thread_local! {
    /// What is read and what is to be written, for the connection whose turn it is.
    static BUFFERS: RefCell<(Vec<u8>, BytesMut)> =
        RefCell::new((Vec::with_capacity(READ), BytesMut::with_capacity(READ)));
}

/// Finds the frames in a stream of bytes.
pub trait FrameScanner: 'static {
    /// Returns how many bytes the whole frames at the start of `bytes` take.
    fn whole(bytes: &[u8]) -> usize;
}

/// The frames of `imd`: a length, then a message.
pub struct LengthPrefixed;

impl FrameScanner for LengthPrefixed {
    fn whole(bytes: &[u8]) -> usize {
        codec::frames(bytes).map(|(_, taken)| taken).sum()
    }
}

/// What one connection of a load generator does.
pub trait Driver {
    /// Finds the frames that the server sends.
    type Scanner: FrameScanner;
    /// Why the run can't go on.
    type Error: From<io::Error>;

    /// Looks at whole frames, and appends what is to be written to `out`. Without frames it is called when the connection
    /// begins and whenever its task is woken: register `cx` with whatever may wake it.
    ///
    /// # Errors
    ///
    /// When the connection is to end with this error.
    fn react(
        &mut self,
        cx: &Context<'_>,
        frames: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), Self::Error>;

    /// Returns whether the next turn reads. A connection that does not read is not woken by what arrives either.
    fn reads(&self) -> bool {
        true
    }

    /// Returns whether the connection is to be closed after this turn.
    fn is_done(&self) -> bool {
        false
    }
}

/// A connection to a server, or one that a bare server has accepted.
pub struct Connection<S = LengthPrefixed> {
    stream: TcpStream,
    /// The beginning of a frame whose rest was not read yet; whole frames too, right after [`next`](Self::next).
    partial_frame: Vec<u8>,
    /// What the socket has not taken yet.
    unwritten: BytesMut,
    scanner: PhantomData<fn() -> S>,
}

impl<S: FrameScanner> Connection<S> {
    /// Takes over a stream.
    pub fn new(stream: TcpStream) -> Self {
        Connection {
            stream,
            partial_frame: Vec::new(),
            unwritten: BytesMut::new(),
            scanner: PhantomData,
        }
    }

    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// When no server listens there, or it does not accept in time.
    pub async fn connect(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::open(TcpStream::connect(addr)).await
    }

    /// Waits for a stream that is being connected, for instance from a socket that was bound before.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn open(connecting: impl Future<Output = io::Result<TcpStream>>) -> io::Result<Self> {
        let stream = in_time(connecting).await?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }

    /// Lets a driver use the connection until it is done.
    ///
    /// # Errors
    ///
    /// The error of the driver, and when the connection fails or the server closes it.
    pub async fn run<D: Driver<Scanner = S>>(mut self, driver: &mut D) -> Result<(), D::Error> {
        poll_fn(|cx| {
            loop {
                let may_read = driver.reads();
                let react = |cx: &Context<'_>, frames: &[u8], out: &mut BytesMut| {
                    driver.react(cx, frames, out)
                };
                let turn = self.poll_turn(cx, may_read, react)?;
                if driver.is_done() {
                    return Poll::Ready(Ok(()));
                }
                ready!(turn);
            }
        })
        .await
    }

    /// Reads once, if it `may_read`, calls `react` with the whole frames, and writes what that appends. Without anything to
    /// read, `react` is called with no frames, for there may be something else to write.
    ///
    /// It also reads while the peer does not take what is to be written: two peers that wait for each other to read would
    /// wait forever.
    ///
    /// # Errors
    ///
    /// The error of `react`, and when the connection fails or the peer closes it.
    pub fn poll_turn<E: From<io::Error>>(
        &mut self,
        cx: &mut Context<'_>,
        may_read: bool,
        react: impl FnOnce(&Context<'_>, &[u8], &mut BytesMut) -> Result<(), E>,
    ) -> Poll<Result<(), E>> {
        // If the socket does not take all of it, this registers the task to be woken when it does.
        let _ = self.poll_flush(cx)?;
        BUFFERS.with_borrow_mut(|(buffer, out)| {
            buffer.clear();
            buffer.extend_from_slice(&self.partial_frame);
            let read = if may_read {
                // Not `try_read`: after a short read this one knows that the socket is empty, and saves a system call.
                poll_read_buf(Pin::new(&mut self.stream), cx, buffer)?
            } else {
                Poll::Pending
            };
            if read == Poll::Ready(0) {
                return Poll::Ready(Err(closed().into()));
            }
            let (whole, partial) = buffer.split_at(S::whole(buffer));
            out.clear();
            react(cx, whole, out)?;
            self.partial_frame = partial.to_vec();
            if read.is_pending() && out.is_empty() {
                return Poll::Pending;
            }
            self.write(out)?;
            Poll::Ready(Ok(()))
        })
    }

    /// Writes what the socket takes at once, and keeps the rest.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = if bytes.is_empty() || !self.unwritten.is_empty() {
            0
        } else {
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                written => written?,
            }
        };
        let rest = bytes.get(taken..).unwrap_or_default();
        self.unwritten.extend_from_slice(rest);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unwritten))?;
            self.unwritten.advance(written);
        }
        self.unwritten = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

/// Requests one after the other, before a run begins.
impl Connection {
    /// Writes whole frames, and waits until the socket has taken them.
    ///
    /// # Errors
    ///
    /// When the connection fails.
    pub async fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.stream.write_all(frames).await
    }

    /// Waits for the next frame, and returns its message.
    ///
    /// # Errors
    ///
    /// When the connection fails, the server closes it, or no frame comes in time.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        in_time(async {
            loop {
                let frame = codec::frames(&self.partial_frame).next();
                if let Some((message, taken)) = frame.map(|(it, taken)| (it.to_vec(), taken)) {
                    self.partial_frame.drain(..taken);
                    return Ok(message);
                }
                if self.stream.read_buf(&mut self.partial_frame).await? == 0 {
                    return Err(closed());
                }
            }
        })
        .await
    }

    /// Writes one frame, and waits for the next one.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send) and [`next`](Self::next).
    pub async fn ask(&mut self, frame: &[u8]) -> io::Result<Vec<u8>> {
        self.send(frame).await?;
        self.next().await
    }
}

fn closed() -> io::Error {
    let kind = io::ErrorKind::UnexpectedEof;
    io::Error::new(kind, "the server has closed the connection")
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = Connection::connect(listener.local_addr().unwrap()).await;
        (connection.unwrap(), listener.accept().await.unwrap().0)
    }

    /// Collects messages until there are three.
    #[derive(Default)]
    struct Collector(Vec<Vec<u8>>);

    impl Driver for Collector {
        type Scanner = LengthPrefixed;
        type Error = io::Error;

        fn react(&mut self, _: &Context<'_>, frames: &[u8], out: &mut BytesMut) -> io::Result<()> {
            let messages = codec::frames(frames).map(|(message, _)| message.to_vec());
            self.0.extend(messages);
            out.extend_from_slice(frames);
            Ok(())
        }

        fn is_done(&self) -> bool {
            self.0.len() == 3
        }
    }

    #[tokio::test]
    async fn frames_are_found_however_they_are_cut() {
        let (mut connection, mut peer) = pair().await;
        // The second frame has come with the first one, and the third is cut.
        peer.write_all(b"\0\x01a\0\x01b\0\x02c").await.unwrap();
        assert_eq!(connection.next().await.unwrap(), b"a");
        let serve = tokio::spawn(async move {
            let mut collector = Collector::default();
            connection.run(&mut collector).await.map(|()| collector.0)
        });
        let mut echoed = [0; 3];
        peer.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, b"\0\x01b");
        peer.write_all(b"d").await.unwrap();
        peer.write_all(b"\0\x01e").await.unwrap();
        assert_eq!(serve.await.unwrap().unwrap(), [&b"b"[..], b"cd", b"e"]);
    }

    #[tokio::test]
    async fn a_closed_connection_is_an_error() {
        let (connection, peer) = pair().await;
        drop(peer);
        let ended = connection.run(&mut Collector::default()).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

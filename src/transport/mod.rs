//! The bytes of one connection, whatever carries them.
//!
//! Serves [`session`](crate::session), which names no kind of socket, and the listeners, which wrap what they accept.
//! A variant of [`Transport`] answers for readiness, reading, writing, the orderly end and the abrupt one. What only a
//! WebSocket has, its control frames and its close frame, the other variants answer with nothing.
//!
//! Two rules hold for every variant. A `poll_*` method that returns `Pending` wakes the task of its last caller. A
//! `try_*` method never waits, and reports [`WouldBlock`](io::ErrorKind::WouldBlock) instead. Whoever writes offers the bytes
//! that were not taken again, before any others.

#[cfg(test)]
pub mod pipe;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod websocket;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use crate::tls::{MaybeTls, ServerStream};
pub use tcp::discard;
pub use websocket::{End, FailedUpgrade, UpgradeError, WebSocket, upgrade};

/// One connection, by what carries its bytes.
#[derive(Debug)]
pub enum Transport {
    /// A TCP connection without encryption.
    Tcp(TcpStream),
    /// A TLS connection over TCP.
    #[cfg(feature = "tls")]
    Tls(tls::Tls),
    /// A WebSocket over another transport. In a box, since idle connections of the other kinds would pay for its size.
    WebSocket(Box<WebSocket>),
    /// A connection within this process, for tests that need no socket.
    #[cfg(test)]
    Pipe(pipe::Pipe),
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Transport::Tcp(stream)
    }
}

impl From<ServerStream> for Transport {
    fn from(stream: ServerStream) -> Self {
        match stream {
            MaybeTls::Plain(stream) => Transport::Tcp(stream),
            #[cfg(feature = "tls")]
            MaybeTls::Tls(stream) => Transport::Tls(tls::Tls::new(stream)),
            #[cfg(not(feature = "tls"))]
            MaybeTls::Tls(stream) => Transport::Tcp(*stream),
        }
    }
}

impl Transport {
    /// Returns the local address by which the peer came.
    ///
    /// # Errors
    ///
    /// When the connection is already gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Transport::Tcp(stream) => stream.local_addr(),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.tcp().local_addr(),
            Transport::WebSocket(socket) => socket.inner().local_addr(),
            #[cfg(test)]
            Transport::Pipe(_) => Ok(pipe::ADDRESS),
        }
    }

    /// Resolves when a read would not wait, so that a buffer is taken only then.
    ///
    /// # Errors
    ///
    /// When the connection or the runtime has ended.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(stream) => stream.poll_read_ready(cx),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.poll_read_ready(cx),
            Transport::WebSocket(socket) => socket.poll_read_ready(cx),
            #[cfg(test)]
            Transport::Pipe(pipe) => pipe.poll_read_ready(cx),
        }
    }

    /// Appends at most `limit` bytes to `into`, whose spare capacity must be at least that. Returns how many were
    /// appended: 0 when the peer has closed its writing side, or its WebSocket, whose [`end`](WebSocket::end) says how.
    ///
    /// What a WebSocket appends are frames, which may be more bytes than the limit by as much as is left of earlier reads.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    #[inline]
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            // This is used instead of `try_read`: after a short read it knows that the socket is empty, which saves the
            // system call that would report it.
            Transport::Tcp(stream) => poll_read_buf(Pin::new(stream), cx, &mut into.limit(limit)),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.poll_read(cx, into, limit),
            Transport::WebSocket(socket) => socket.poll_read(cx, into, limit),
            #[cfg(test)]
            Transport::Pipe(pipe) => pipe.poll_read(cx, into, limit),
        }
    }

    /// Resolves when a write would not wait.
    ///
    /// # Errors
    ///
    /// When the connection or the runtime has ended.
    #[inline]
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(stream) => stream.poll_write_ready(cx),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.poll_write_ready(cx),
            Transport::WebSocket(socket) => socket.inner().poll_write_ready(cx),
            #[cfg(test)]
            Transport::Pipe(pipe) => pipe.poll_write_ready(cx),
        }
    }

    /// Writes as much of `bytes` as is taken at once, and returns how much that was.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing is taken at once; others when the connection has broken.
    #[inline]
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.try_write(bytes),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.try_write(bytes),
            Transport::WebSocket(socket) => socket.inner_mut().try_write(bytes),
            #[cfg(test)]
            Transport::Pipe(pipe) => pipe.try_write(bytes),
        }
    }

    /// Waits until some of `bytes` is taken, and returns how much. Nothing is written when the future is dropped
    /// before.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write(cx, bytes)).await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.poll_write(cx, bytes),
            Transport::WebSocket(socket) => socket.inner_mut().poll_write(cx, bytes),
            #[cfg(test)]
            Transport::Pipe(pipe) => pipe.poll_write(cx, bytes),
        }
    }

    /// Waits until all of `bytes` is taken.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = bytes.get(written..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Closes the writing side: the peer reads the end behind what was written.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    pub async fn close_writing(&mut self) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => stream.shutdown().await,
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.close_writing().await,
            Transport::WebSocket(socket) => Box::pin(socket.inner_mut().close_writing()).await,
            #[cfg(test)]
            Transport::Pipe(pipe) => {
                pipe.end();
                Ok(())
            }
        }
    }

    /// Makes the drop of this connection reset it, so that the peer sees an error in place of an end.
    pub fn reset_on_drop(&mut self) {
        match self {
            Transport::Tcp(stream) => tcp::reset_on_drop(stream),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tcp::reset_on_drop(tls.tcp()),
            Transport::WebSocket(socket) => socket.inner_mut().reset_on_drop(),
            #[cfg(test)]
            Transport::Pipe(pipe) => pipe.reset_on_drop(),
        }
    }

    /// Waits for input and discards it, until the peer closes its writing side.
    ///
    /// The future holds no buffer, so that thousands of connections which wait here take no memory for their input.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    pub async fn drain(&mut self) -> io::Result<()> {
        while self.discard().await? > 0 {
            // Without this, a peer that never stops writing would keep this thread, and no timer would fire on it.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn discard(&mut self) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => discard(stream).await,
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => discard(tls.tcp()).await,
            Transport::WebSocket(socket) => Box::pin(socket.inner_mut().discard()).await,
            #[cfg(test)]
            Transport::Pipe(pipe) => pipe.discard().await,
        }
    }

    /// Resolves when the peer has closed its writing side or the connection. Where the system can tell, this is noticed
    /// also while input lies unread before that end.
    pub async fn hung_up(&self) {
        match self {
            Transport::Tcp(stream) => tcp::hung_up(stream).await,
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tcp::hung_up(tls.tcp()).await,
            Transport::WebSocket(socket) => Box::pin(socket.inner().hung_up()).await,
            #[cfg(test)]
            Transport::Pipe(pipe) => pipe.hung_up().await,
        }
    }

    /// Returns the WebSocket, if this is one.
    #[inline]
    pub fn websocket(&self) -> Option<&WebSocket> {
        match self {
            Transport::WebSocket(socket) => Some(socket),
            _ => None,
        }
    }

    /// Returns the WebSocket, if this is one.
    #[inline]
    pub fn websocket_mut(&mut self) -> Option<&mut WebSocket> {
        match self {
            Transport::WebSocket(socket) => Some(socket),
            _ => None,
        }
    }
}

//! A connection with or without TLS, as one type.
//!
//! Serves the acceptor, which makes the connections of a server, and the client, which makes its own.

use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection, or a TLS connection over one. `T` is the TLS stream of the server's or of the client's side.
#[derive(Debug)]
pub enum MaybeTls<T> {
    /// A connection without TLS.
    Plain(TcpStream),
    /// A connection whose handshake is done. Boxed, since it is many times the size of a [`TcpStream`].
    Tls(Box<T>),
}

/// A connection that a server has accepted.
#[cfg(feature = "tls")]
pub type ServerStream = MaybeTls<tokio_rustls::server::TlsStream<TcpStream>>;

/// A connection that a server has accepted. Without the cargo feature `tls` it is always [`MaybeTls::Plain`].
#[cfg(not(feature = "tls"))]
pub type ServerStream = MaybeTls<TcpStream>;

/// A connection that a client has opened.
#[cfg(feature = "tls")]
pub type ClientStream = MaybeTls<tokio_rustls::client::TlsStream<TcpStream>>;

/// A connection that a client has opened. Without the cargo feature `tls` it is always [`MaybeTls::Plain`].
#[cfg(not(feature = "tls"))]
pub type ClientStream = MaybeTls<TcpStream>;

impl ServerStream {
    /// Returns the TCP connection, whose bytes are ciphertext if the connection has TLS.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            MaybeTls::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            MaybeTls::Tls(stream) => stream.get_ref().0,
            #[cfg(not(feature = "tls"))]
            MaybeTls::Tls(stream) => stream,
        }
    }
}

impl ServerStream {
    /// Reads what has arrived by now, although the runtime may not have been told of it yet. Returns 0 at the end.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is nothing; others when the connection has broken.
    pub fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            MaybeTls::Plain(stream) => (&*SockRef::from(&*stream)).read(buf),
            #[cfg(feature = "tls")]
            MaybeTls::Tls(stream) => {
                let (tcp, connection) = stream.get_mut();
                connection.read_tls(&mut &*SockRef::from(&*tcp))?;
                let processed = connection.process_new_packets();
                processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                match connection.reader().read(buf) {
                    // The end of the TCP stream without one of TLS.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                    read => read,
                }
            }
            #[cfg(not(feature = "tls"))]
            MaybeTls::Tls(stream) => (&*SockRef::from(&**stream)).read(buf),
        }
    }

    /// Says the end of a TLS connection, as far as the socket takes it at once. Its client would take an end without that for
    /// one by an attacker. A plain connection is left as it is.
    pub async fn end_tls(&mut self) {
        if let MaybeTls::Tls(stream) = self {
            let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_shutdown(cx))).await;
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for MaybeTls<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for MaybeTls<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            MaybeTls::Plain(stream) => stream.is_write_vectored(),
            MaybeTls::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_flush(cx),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

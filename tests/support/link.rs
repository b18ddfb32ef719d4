//! The bytes of a test client's connection: those of the socket, or those within TLS.
//!
//! Serves [`super::connection`]. A link is shared by the halves of its connection, and closed when both are dropped.

use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

#[cfg(feature = "tls")]
use super::tls::Tls;
use super::transport::Transport;

/// The bytes of one connection.
#[derive(Debug)]
pub struct Link {
    tcp: TcpStream,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl Link {
    /// Takes over a socket. TLS is begun by the first flush.
    pub fn new(tcp: TcpStream) -> Link {
        let is_tls = Transport::of_this_run().is_tls();
        assert!(!is_tls || cfg!(feature = "tls"), "this build has no TLS");
        Link {
            tcp,
            #[cfg(feature = "tls")]
            tls: is_tls.then(Tls::new),
        }
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Waits until the handshake of TLS is done.
    pub fn poll_handshake(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.poll_handshake(&self.tcp, _cx);
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.poll_read(&self.tcp, cx, into);
        }
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    into.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.poll_write(&self.tcp, cx, bytes);
        }
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    /// Waits until the socket has taken what was written, as far as it can be sent yet.
    pub fn poll_flush(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.poll_flush(&self.tcp, _cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the writing side, and TLS before it.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.end();
        }
        ready!(self.poll_flush(cx))?;
        match SockRef::from(&self.tcp).shutdown(Shutdown::Write) {
            // The connection was reset before.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

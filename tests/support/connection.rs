//! A connection of a test client, by the [transport](Transport) of the run: what is written and read are frames with a
//! length before them, whatever goes over the wire.
//!
//! Serves [`super::wire`]. There is no task behind a connection: what arrives is read from the socket when the test reads,
//! and dropping both halves closes the socket at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::link::Link;
use super::transport::Transport;
use super::websocket::{ClientFrames, ServerFrames, UPGRADE};

/// The most bytes that are translated at once.
const STEP: usize = 8 * 1024;

/// Splits a connection of the run's transport into its halves. The first flush of the writing half sends what opens the
/// connection.
pub fn split(stream: TcpStream) -> (Incoming, Outgoing) {
    let link = Arc::new(Link::new(stream));
    let is_websocket = Transport::of_this_run().is_websocket();
    let opening = if is_websocket { UPGRADE } else { b"" };
    let incoming = Incoming {
        link: Arc::clone(&link),
        frames: is_websocket.then(ServerFrames::default),
        translated: BytesMut::new(),
        end: None,
    };
    let outgoing = Outgoing {
        link,
        frames: is_websocket.then(ClientFrames::default),
        waiting: BytesMut::from(opening),
    };
    (incoming, outgoing)
}

/// The reading half.
#[derive(Debug)]
pub struct Incoming {
    link: Arc<Link>,
    /// Set on a WebSocket.
    frames: Option<ServerFrames>,
    /// What was translated and not read yet.
    translated: BytesMut,
    /// The end of the connection, if it was met while it was opened.
    end: Option<io::Result<()>>,
}

impl Incoming {
    /// Waits until the connection is open for frames. One that ends before is reported by the next read.
    pub async fn opened(&mut self) {
        std::future::poll_fn(|cx| self.poll_opened(cx)).await;
    }

    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Err(error) = ready!(self.link.poll_handshake(cx)) {
            self.end = Some(Err(error));
        }
        while self.end.is_none() && self.frames.as_ref().is_some_and(|frames| !frames.is_open()) {
            match ready!(self.poll_translate(cx)) {
                Ok(1..) => {}
                end => self.end = Some(end.map(drop)),
            }
        }
        Poll::Ready(())
    }

    /// Returns the code of the close frame that the server has sent. `None` without one, as on every transport but a
    /// WebSocket.
    pub fn close_code(&self) -> Option<u16> {
        self.frames.as_ref()?.close_code()
    }

    /// Reads from the socket once, and translates that. Returns how many bytes it was.
    fn poll_translate(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; STEP];
        let mut read = ReadBuf::new(&mut bytes);
        ready!(self.link.poll_read(cx, &mut read))?;
        match &mut self.frames {
            Some(frames) => frames.translate(read.filled(), &mut self.translated),
            None => self.translated.extend_from_slice(read.filled()),
        }
        Poll::Ready(Ok(read.filled().len()))
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.translated.is_empty() {
            if let Some(end) = self.end.take() {
                return Poll::Ready(end);
            }
            if ready!(self.poll_translate(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let length = self.translated.len().min(into.remaining());
        into.put_slice(&self.translated[..length]);
        self.translated.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// The writing half.
#[derive(Debug)]
pub struct Outgoing {
    link: Arc<Link>,
    /// Set on a WebSocket.
    frames: Option<ClientFrames>,
    /// What was translated and not sent yet.
    waiting: BytesMut,
}

/// The socket, for its options.
impl AsRef<TcpStream> for Outgoing {
    fn as_ref(&self) -> &TcpStream {
        self.link.tcp()
    }
}

impl Outgoing {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let sent = ready!(self.link.poll_write(cx, &self.waiting))?;
            self.waiting.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let this = &mut *self;
        let Some(frames) = &mut this.frames else {
            return this.link.poll_write(cx, bytes);
        };
        let bytes = &bytes[..bytes.len().min(STEP)];
        frames.translate(bytes, &mut this.waiting);
        // What the socket does not take at once is sent by the next call.
        let _ = self.poll_send(cx)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        self.link.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(frames) = this.frames.take() {
            frames.close(&mut this.waiting);
        }
        ready!(this.poll_send(cx))?;
        this.link.poll_shutdown(cx)
    }
}

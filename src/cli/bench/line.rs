//! A connection that is as light as can be: it holds no buffer while nothing is under way.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use imd::codec::{self, FrameTooLong, MAX_FRAME, Split};
use imd::proto::{Cmd, Payload};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use super::fields::{command, verdict};
use crate::cli::refusal;

/// How long connecting and one answer may take before the run has begun.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server has closed the connection")]
    Closed,
    #[error("no answer in time")]
    Silent,
    /// The server says no to what the run needs, or takes its leave.
    #[error("{}", refusal::advise(*code, text))]
    Told { code: u32, text: String },
    #[error(transparent)]
    TooLong(#[from] FrameTooLong),
}

impl Broken {
    /// What a server says, by its code and text.
    pub fn told((code, text): (u32, &[u8])) -> Broken {
        let text = String::from_utf8_lossy(text).into_owned();
        Broken::Told { code, text }
    }
}

/// A connection.
pub struct Line {
    stream: TcpStream,
    /// The beginning of a frame.
    unread: BytesMut,
    /// What the socket has not taken yet.
    pub out: BytesMut,
}

impl Line {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When nobody is there.
    pub async fn open(addr: &str) -> Result<Line, Broken> {
        Line::over(TcpStream::connect(addr)).await
    }

    /// Connects from a socket that may be bound.
    ///
    /// # Errors
    ///
    /// When nobody is there.
    pub async fn open_from(socket: TcpSocket, addr: SocketAddr) -> Result<Line, Broken> {
        Line::over(socket.connect(addr)).await
    }

    async fn over(stream: impl Future<Output = io::Result<TcpStream>>) -> Result<Line, Broken> {
        let stream = tokio::time::timeout(PATIENCE, stream)
            .await
            .map_err(|_| Broken::Silent)??;
        stream.set_nodelay(true)?;
        Ok(Line {
            stream,
            unread: BytesMut::new(),
            out: BytesMut::new(),
        })
    }

    /// Sends a request and waits for its answer. What the server pushes meanwhile is forgotten.
    ///
    /// # Errors
    ///
    /// When the connection fails, or the server has something else to say.
    pub async fn ask(&mut self, cmd: Cmd, request: &impl Payload) -> Result<BytesMut, Broken> {
        codec::encode(request, &mut self.out)?;
        self.send().await?;
        self.answer(cmd).await
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    ///
    /// When the connection fails.
    pub async fn send(&mut self) -> Result<(), Broken> {
        self.stream.write_all_buf(&mut self.out).await?;
        self.out = BytesMut::new();
        Ok(())
    }

    /// Waits for the next answer to such a request.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub async fn answer(&mut self, cmd: Cmd) -> Result<BytesMut, Broken> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.frame())
                .await
                .map_err(|_| Broken::Silent)??;
            match command(&frame) {
                number if number == cmd.number() => return Ok(frame),
                number if number == Cmd::ErrServer.number() => {
                    return Err(Broken::told(verdict(&frame, 2)));
                }
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> Result<BytesMut, Broken> {
        loop {
            if let Split::Frame { message, taken } = codec::split(&self.unread, MAX_FRAME)? {
                let len = message.len();
                self.unread.advance(taken - len);
                let frame = self.unread.split_to(len);
                if self.unread.is_empty() {
                    self.unread = BytesMut::new();
                }
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(Broken::Closed);
            }
        }
    }

    /// Reads once into `scratch`, and says how much that was.
    ///
    /// # Errors
    ///
    /// When the connection fails or ends.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<usize, Broken>> {
        // Not try_read: that would need one more call into the system to learn that nothing more is there.
        let mut buffer = ReadBuf::new(scratch);
        let stream = Pin::new(&mut self.stream);
        match tokio::io::AsyncRead::poll_read(stream, cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Err(Broken::Closed)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
        }
    }

    /// Hands over every whole frame that has come with `read`, and where to write to; keeps the beginning of the next.
    ///
    /// # Errors
    ///
    /// What `hear` says.
    pub fn frames(
        &mut self,
        read: &[u8],
        mut hear: impl FnMut(&[u8], &mut BytesMut) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let mut unread = std::mem::take(&mut self.unread);
        let mut rest = if unread.is_empty() {
            read
        } else {
            unread.extend_from_slice(read);
            &unread
        };
        while let Split::Frame { message, taken } = codec::split(rest, MAX_FRAME)? {
            hear(message, &mut self.out)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.unread = BytesMut::from(rest);
        Ok(())
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    ///
    /// When the connection fails.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(written) => self.out.advance(written?),
            }
        }
        Poll::Ready(Ok(()))
    }
}

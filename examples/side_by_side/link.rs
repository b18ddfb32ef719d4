//! A socket of framed messages, as lean as it gets: one read, all frames, one write.
//!
//! The baselines and the load go through here. The buffers are the thread's, so a connection holds none while it waits.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use imd::codec::{MAX_FRAME, Split, split};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Two frames of any length.
const READ: usize = 2 * (MAX_FRAME + 2);

thread_local! {
    static BUFFERS: RefCell<(Vec<u8>, BytesMut)> =
        RefCell::new((vec![0; READ], BytesMut::with_capacity(READ)));
}

/// How a stream falls into frames.
pub trait Framing {
    /// How many bytes the whole frames at the start of `bytes` take.
    fn whole(bytes: &[u8]) -> io::Result<usize>;
}

/// What `imd` speaks: a length and a message.
pub struct Prefixed;

impl Framing for Prefixed {
    fn whole(bytes: &[u8]) -> io::Result<usize> {
        let mut end = 0;
        loop {
            match split(&bytes[end..], MAX_FRAME).map_err(io::Error::other)? {
                Split::Frame { taken, .. } => end += taken,
                Split::Needs(_) => return Ok(end),
            }
        }
    }
}

/// A socket, and what a read or a write has left over.
pub struct Link<F = Prefixed> {
    stream: TcpStream,
    /// The beginning of a frame.
    half: Vec<u8>,
    /// What the socket did not take yet.
    rest: BytesMut,
    framing: PhantomData<F>,
}

impl<F: Framing> Link<F> {
    pub fn new(stream: TcpStream) -> Self {
        Link {
            stream,
            half: Vec::new(),
            rest: BytesMut::new(),
            framing: PhantomData,
        }
    }

    /// Reads once, if it `may_read`, lets `answer` look at all whole frames, and writes what it has put into its buffer.
    /// It is also called without frames, for what is to be written unasked. Says whether the connection goes on.
    pub fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        may_read: bool,
        answer: impl FnOnce(&[u8], &mut BytesMut),
    ) -> Poll<io::Result<bool>> {
        ready!(self.poll_flush(cx))?;
        BUFFERS.with_borrow_mut(|(buffer, out)| {
            let read = if may_read {
                self.poll_read(cx, buffer)?
            } else {
                Poll::Pending
            };
            if read == Poll::Ready(0) {
                return Poll::Ready(Ok(false));
            }
            let filled = match read {
                Poll::Ready(n) => self.half.len() + n,
                Poll::Pending => 0,
            };
            let bytes = &buffer[..filled];
            let (whole, half) = bytes.split_at(F::whole(bytes)?);
            out.clear();
            answer(whole, out);
            if read.is_ready() {
                self.half = half.to_vec();
            } else if out.is_empty() {
                return Poll::Pending;
            }
            self.write(out)?;
            Poll::Ready(Ok(true))
        })
    }

    /// Not `try_read`: after a short read this one knows that the socket is empty, and saves a call that would say so.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> io::Result<Poll<usize>> {
        let at = self.half.len();
        buffer[..at].copy_from_slice(&self.half);
        let mut room = ReadBuf::new(&mut buffer[at..]);
        match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(room.filled().len())),
        }
    }

    /// Writes at once what the socket takes, and keeps the rest.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let taken = match self.stream.try_write(bytes) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.rest.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.rest))?;
            let _ = self.rest.split_to(n);
        }
        self.rest = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

/// The messages in a run of whole frames.
pub fn messages(mut run: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || match split(run, MAX_FRAME) {
        Ok(Split::Frame { message, taken }) => {
            run = &run[taken..];
            Some(message)
        }
        _ => None,
    })
}

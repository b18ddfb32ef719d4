//! A connection within this process: a pair of ends with a bounded buffer in each direction.
//!
//! Serves the unit tests of [`session`](crate::session). Unlike tokio's `DuplexStream`, an end reports readiness apart
//! from reading and writing, which is what a session waits for.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;

/// The address of every pipe's ends.
pub const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// One end of a pipe. Its methods do what the methods of [`Transport`](super::Transport) with these names do.
#[derive(Debug)]
pub struct Pipe {
    incoming: Arc<Mutex<Channel>>,
    outgoing: Arc<Mutex<Channel>>,
    resets: bool,
}

/// The bytes of one direction.
#[derive(Debug)]
struct Channel {
    bytes: BytesMut,
    /// The most bytes that wait to be read.
    capacity: usize,
    /// Whether the writer has closed this direction: the end follows the bytes.
    is_ended: bool,
    /// Whether one of the ends has reset the connection, or the reader is gone.
    is_broken: bool,
    /// The tasks that wait for a change of this direction.
    waiting: Vec<Waker>,
}

impl Channel {
    fn changed(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// Creates a pipe whose directions hold at most `capacity` bytes each.
pub fn pair(capacity: usize) -> (Pipe, Pipe) {
    let [one, other] = [(), ()].map(|()| {
        Arc::new(Mutex::new(Channel {
            bytes: BytesMut::new(),
            capacity,
            is_ended: false,
            is_broken: false,
            waiting: Vec::new(),
        }))
    });
    let end = |incoming: &Arc<_>, outgoing: &Arc<_>| Pipe {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        resets: false,
    };
    (end(&one, &other), end(&other, &one))
}

/// Polls a channel: ready when `look` finds something. Otherwise the task is woken by the next change.
fn poll_channel<T>(
    channel: &Mutex<Channel>,
    cx: &Context<'_>,
    look: impl FnOnce(&mut Channel) -> Option<T>,
) -> Poll<io::Result<T>> {
    let mut channel = channel.lock();
    if channel.is_broken {
        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
    }
    match look(&mut channel) {
        Some(found) => Poll::Ready(Ok(found)),
        None => {
            channel.waiting.push(cx.waker().clone());
            Poll::Pending
        }
    }
}

impl Pipe {
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_channel(&self.incoming, cx, |channel| {
            (channel.is_ended || !channel.bytes.is_empty()).then_some(())
        })
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_read_ready(cx))?;
        let mut channel = self.incoming.lock();
        let read = channel.bytes.len().min(limit);
        into.extend_from_slice(&channel.bytes[..read]);
        channel.bytes.advance(read);
        channel.changed();
        Poll::Ready(Ok(read))
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_channel(&self.outgoing, cx, |channel| {
            (channel.bytes.len() < channel.capacity).then_some(())
        })
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_ready(cx))?;
        Poll::Ready(self.try_write(bytes))
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut channel = self.outgoing.lock();
        if channel.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = bytes.len().min(channel.capacity - channel.bytes.len());
        if written == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        channel.bytes.extend_from_slice(&bytes[..written]);
        channel.changed();
        Ok(written)
    }

    pub(super) fn end(&mut self) {
        let mut channel = self.outgoing.lock();
        channel.is_ended = true;
        channel.changed();
    }

    pub(super) fn reset_on_drop(&mut self) {
        self.resets = true;
    }

    pub(super) async fn discard(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_ready(cx)).await?;
        let mut channel = self.incoming.lock();
        let read = channel.bytes.len();
        channel.bytes.clear();
        channel.changed();
        Ok(read)
    }

    pub(super) async fn hung_up(&self) {
        let ended = |channel: &mut Channel| channel.is_ended.then_some(());
        // A connection that was reset has ended too.
        let _ = poll_fn(|cx| poll_channel(&self.incoming, cx, ended)).await;
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let has_unread = !self.incoming.lock().bytes.is_empty();
        {
            let mut incoming = self.incoming.lock();
            incoming.is_broken = true;
            incoming.changed();
        }
        let mut outgoing = self.outgoing.lock();
        outgoing.is_ended = true;
        // As with TCP, closing over unread input resets the connection.
        outgoing.is_broken |= self.resets || has_unread;
        outgoing.changed();
    }
}

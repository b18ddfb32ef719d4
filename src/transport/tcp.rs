//! The operations of [`Transport`](super::Transport) on TCP for which tokio has no call.
//!
//! Serves the variant for TCP. No future of this module holds a buffer.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The most that one read discards, in bytes.
const DISCARDED: usize = 16 * 1024;

/// Waits for input and discards it. Returns how many bytes it was: 0 when the peer has closed its writing side.
///
/// The future holds no buffer.
///
/// # Errors
///
/// When the connection has broken.
pub async fn discard(stream: &TcpStream) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match discard_once(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Reads once into a buffer on the stack. This is a function of its own so that the buffer is no part of a future.
fn discard_once(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; DISCARDED])
}

/// Makes the drop of the stream send a reset instead of an end.
pub(super) fn reset_on_drop(stream: &TcpStream) {
    // This fails only for a socket that is gone already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Resolves when the peer has closed its writing side or the connection, also behind input that was not read.
#[cfg(target_os = "linux")]
pub(super) async fn hung_up(stream: &TcpStream) {
    // No socket is registered for urgent data, so this resolves when the reading side is closed, and not before. An
    // error comes only from a runtime that ends.
    let _ = stream.ready(tokio::io::Interest::PRIORITY).await;
}

/// Resolves when the peer has closed its writing side or the connection. Input that was not read hides it on this
/// system.
#[cfg(not(target_os = "linux"))]
pub(super) async fn hung_up(stream: &TcpStream) {
    if let Ok(1..) = stream.peek(&mut [0]).await {
        std::future::pending().await
    }
}

//! The least work that a server can do: it sends whole frames back.
//!
//! Serves the rows about the gateway and about idle connections, as their baseline. It reads and writes with the same code as
//! the mock and the clients, holds no buffer for a connection that waits, and has no limits or deadlines.

use std::future::poll_fn;
use std::io;

use imd::load::Connection;
use tokio::net::{TcpListener, TcpStream};

/// Serves connections until accepting fails.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

async fn echo(stream: TcpStream) {
    let mut connection: Connection = Connection::new(stream);
    let mut turn = async || {
        poll_fn(|cx| {
            connection.poll_turn(cx, true, |_, frames, out| {
                out.extend_from_slice(frames);
                Ok::<_, io::Error>(())
            })
        })
        .await
    };
    // It fails when the peer closes or breaks the connection.
    while turn().await.is_ok() {}
}

//! The least that a server can do: it sends back whole frames.

use std::future::poll_fn;
use std::io;

use tokio::net::{TcpListener, TcpStream};

use crate::link::Link;

pub async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

async fn echo(stream: TcpStream) {
    let mut link: Link = Link::new(stream);
    // Whoever breaks the connection has heard enough.
    while let Ok(true) =
        poll_fn(|cx| link.poll_turn(cx, true, |frames, out| out.extend_from_slice(frames))).await
    {
    }
}

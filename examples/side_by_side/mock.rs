//! A server that has only the path of a message: send, answer, notify, sync, page, on one thread. It has no limits,
//! deadlines, logs or tokens. With a log, a message is synced to the disk before it is answered.

use std::future::poll_fn;
use std::io;

use imd::codec;
use imd::load::Connection;
use tokio::net::{TcpListener, TcpStream};

use crate::hub::{self, Request};
use crate::log::Log;

/// Serves connections until accepting fails.
pub async fn serve(listener: TcpListener, log: Option<Log>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve_one(stream, log.clone()));
    }
}

async fn serve_one(stream: TcpStream, log: Option<Log>) {
    let mut connection: Connection = Connection::new(stream);
    let mut uid = 0;
    loop {
        let turn = poll_fn(|cx| {
            let may_read = hub::with(|hub| hub.begin_turn(uid, cx));
            connection.poll_turn(cx, may_read, |_, frames, out| {
                hub::with(|hub| {
                    let now = if frames.is_empty() { 0 } else { hub::now() };
                    let mut late = Vec::new();
                    let messages = codec::frames(frames).map(|(message, _)| message);
                    for request in messages.filter_map(Request::decode) {
                        match (&log, request) {
                            (_, Request::Login(login)) => {
                                uid = login.uid;
                                hub.answer(uid, Request::Login(login), now, out);
                            }
                            (Some(_), request) => late.push(request),
                            (None, request) => hub.answer(uid, request, now, out),
                        }
                    }
                    if let Some(log) = &log {
                        log.submit(hub, uid, late, now, out);
                    }
                    hub.end_turn(uid, out);
                });
                Ok::<_, io::Error>(())
            })
        });
        // It fails when the peer closes or breaks the connection.
        if turn.await.is_err() {
            return;
        }
    }
}

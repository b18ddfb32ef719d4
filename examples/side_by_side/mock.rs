//! The message path and nothing else: send, answer, notify, sync, page, on one thread. No limits, no deadlines, no logs,
//! no tokens. With a log beneath, a message is synced before it is answered.

use std::future::poll_fn;
use std::io;

use tokio::net::{TcpListener, TcpStream};

use crate::hub::{self, Request};
use crate::link::{Link, messages};
use crate::log::Log;

pub async fn serve(listener: TcpListener, log: Option<Log>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream, log.clone()));
    }
}

async fn connection(stream: TcpStream, log: Option<Log>) {
    let mut link: Link = Link::new(stream);
    let mut uid = 0;
    loop {
        let turn = poll_fn(|cx| {
            let may_read = hub::with(|hub| hub.begin_turn(uid, cx));
            link.poll_turn(cx, may_read, |frames, out| {
                hub::with(|hub| {
                    let now = if frames.is_empty() { 0 } else { hub::now() };
                    let mut late = Vec::new();
                    for request in messages(frames).filter_map(Request::decode) {
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
            })
        });
        match turn.await {
            Ok(true) => {}
            // Whoever breaks the connection has heard enough.
            _ => return,
        }
    }
}

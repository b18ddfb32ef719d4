//! The bare server that `imd` is compared with: only the path of a message, on one thread.
//!
//! Serves [`serve`](crate::serve). It answers login, ping, send, group send and sync, and notifies. What it keeps of a message
//! and what it leaves out is said in [`hub`]. With a log, a message is synced to the disk before it is answered and before its
//! receiver learns of it; other requests of the same user do not wait for that.

use std::future::poll_fn;
use std::io;

use bytes::BytesMut;
use imd::codec;
use imd::load::{Connection, FieldTable};
use imd::proto::Cmd;
use tokio::net::{TcpListener, TcpStream};

use crate::hub::{self, Hub};
use crate::log::{Job, Log};

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
            hub::with(|hub| hub.begin_turn(uid, cx));
            connection.poll_turn(cx, true, |_, frames, out| {
                hub::with(|hub| answer_all(hub, &mut uid, frames, log.as_ref(), out));
                Ok::<_, io::Error>(())
            })
        });
        // It fails when the peer closes or breaks the connection.
        if turn.await.is_err() {
            return;
        }
    }
}

/// Answers the requests of one read.
fn answer_all(hub: &mut Hub, uid: &mut i64, frames: &[u8], log: Option<&Log>, out: &mut BytesMut) {
    let mut job = Job::of(*uid);
    let now = if frames.is_empty() { 0 } else { hub::now() };
    for (message, _) in codec::frames(frames) {
        let request = FieldTable::read(message);
        match request.cmd() {
            Some(Cmd::SyncMsg) => hub.page(*uid, request.number(4), out),
            Some(Cmd::SendP2PMsg | Cmd::SendGroupMsg) => match log {
                Some(_) => {
                    let accepted = hub.accept(*uid, &request, now, &mut job.answers);
                    job.messages.extend(accepted);
                }
                None => {
                    if let Some(message) = hub.accept(*uid, &request, now, out) {
                        hub.deliver(message);
                    }
                }
            },
            Some(cmd @ (Cmd::Login | Cmd::Ping)) => {
                if cmd == Cmd::Login {
                    *uid = request.number(3);
                }
                hub::frame(out, |out| {
                    hub::put_number(1, cmd.number().into(), out);
                    hub::put_bytes(3, b"ok", out);
                });
            }
            _ => {}
        }
    }
    if let Some(log) = log.filter(|_| !job.answers.is_empty()) {
        log.submit(hub, job);
    }
    hub.end_turn(*uid, out);
}

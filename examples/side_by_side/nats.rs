//! The messages of a ring of users over NATS, which stores and answers nothing. So the arrival of a message makes its
//! sender send the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

use bytes::BytesMut;
use imd::load::{Client, Connection, Framing, Mailbox, Template};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Fault;
use crate::load::{Crowd, Sample, connect_late};
use crate::messages::{Run, TEXT, measure};
use crate::server::Server;
use crate::wire::{self, ID_DIGITS, NO_ID};

/// The framing of NATS: lines. The line of a message is followed by its text.
pub struct Lines;

impl Framing for Lines {
    fn whole(bytes: &[u8]) -> usize {
        let mut end = 0;
        while let Some(taken) = one(&bytes[end..]) {
            end += taken;
        }
        end
    }
}

/// Returns how many bytes the first line takes, together with its text if it is a message; `None` if it is not
/// complete.
fn one(bytes: &[u8]) -> Option<usize> {
    let line = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let Some(head) = bytes[..line].strip_prefix(b"MSG ") else {
        return Some(line);
    };
    let len = head.trim_ascii().rsplit(|&byte| byte == b' ').next()?;
    let len: usize = std::str::from_utf8(len).ok()?.parse().ok()?;
    let taken = line + len + 2;
    (bytes.len() >= taken).then_some(taken)
}

struct User {
    run: Arc<Mutex<Run>>,
    publish: Template,
    mailbox: Arc<Mailbox>,
    /// The mailbox of the user who sends to this one.
    sender: Arc<Mailbox>,
    /// When the messages that are to be sent were due. They are not timed.
    due: VecDeque<u64>,
}

impl Client for User {
    type Framing = Lines;
    type Error = Fault;

    fn turn(&mut self, cx: &Context<'_>, mut said: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        let mut run = self.run.lock();
        while let Some(taken) = one(said) {
            let (thing, rest) = said.split_at(taken);
            said = rest;
            if thing.starts_with(b"MSG ") {
                let text = taken - 2 - TEXT;
                let id = &thing[text..text + ID_DIGITS];
                // The arrival also counts as the answer, for there is none.
                run.arrive(id)?;
                run.answer(id)?;
                self.sender.push(0);
            } else if thing.starts_with(b"PING") {
                out.extend_from_slice(b"PONG\r\n");
            } else if thing.starts_with(b"-ERR") {
                return Err(String::from_utf8_lossy(thing).into());
            }
        }
        self.mailbox.take(cx, &mut self.due);
        if !run.is_over() {
            for _ in self.due.drain(..) {
                run.send(&self.publish, out);
            }
        }
        Ok(())
    }
}

/// Lets users send messages in a ring, each to the next one. The figure is deliveries per second.
pub async fn p2p(
    server: &Server,
    users: i64,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let run = Run::new(1);
    let mailboxes: Vec<Arc<Mailbox>> = (0..users).map(|_| Arc::default()).collect();
    let mut subscribed = Vec::new();
    for uid in 1..=users {
        subscribed.push((uid, subscribe(server, uid).await?));
    }
    let mut crowd = Crowd::default();
    for (this, (uid, stream)) in subscribed.into_iter().enumerate() {
        let text = NO_ID.to_owned() + &"x".repeat(TEXT - ID_DIGITS);
        let publish = format!("PUB user.{} {TEXT}\r\n{text}\r\n", uid % users + 1);
        let user = User {
            run: Arc::clone(&run),
            publish: wire::template(publish.as_bytes()),
            mailbox: Arc::clone(&mailboxes[this]),
            sender: Arc::clone(&mailboxes[this.checked_sub(1).unwrap_or(mailboxes.len() - 1)]),
            due: std::iter::repeat_n(0, outstanding).collect(),
        };
        crowd.add(Connection::new(stream), user);
    }
    measure(server, &mut crowd, &run, secs).await
}

async fn subscribe(server: &Server, uid: i64) -> Result<TcpStream, Fault> {
    let mut stream = connect_late(server.gateway).await?;
    let hello = format!("CONNECT {{\"verbose\":false}}\r\nSUB user.{uid} 1\r\nPING\r\n");
    stream.write_all(hello.as_bytes()).await?;
    let mut said = Vec::new();
    while !said.ends_with(b"PONG\r\n") {
        if stream.read_buf(&mut said).await? == 0 {
            return Err("the broker has closed a connection".into());
        }
    }
    Ok(stream)
}

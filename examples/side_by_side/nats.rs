//! The messages of a ring of users over NATS: nothing is stored, and nothing answered. So a message that has arrived lets
//! its sender send the next one.

use std::io;
use std::sync::Arc;
use std::task::Waker;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Fault;
use crate::link::Framing;
use crate::load::{Client, Crowd, Cue, Sample, connect_late};
use crate::messages::{Run, TEXT, measure};
use crate::server::Server;
use crate::wire::{ID_DIGITS, Template};

/// Lines; a message has a second one of a given length.
pub struct Lines;

impl Framing for Lines {
    fn whole(bytes: &[u8]) -> io::Result<usize> {
        let mut end = 0;
        while let Some(taken) = one(&bytes[end..]) {
            end += taken;
        }
        Ok(end)
    }
}

/// How many bytes the first thing that the server says takes, if it is all there.
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
    /// To send the next message.
    cue: Arc<Cue>,
    /// The same of the user who writes to this one.
    senders: Arc<Cue>,
}

impl Client for User {
    type Framing = Lines;

    fn begin(&mut self, task: &Waker) {
        self.cue.wakes(task);
    }

    fn turn(&mut self, mut said: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        let mut run = self.run.lock();
        while let Some(taken) = one(said) {
            let (thing, rest) = said.split_at(taken);
            said = rest;
            if thing.starts_with(b"MSG ") {
                let text = taken - 2 - TEXT;
                let id = &thing[text..text + ID_DIGITS];
                // To arrive is all the answer there is.
                run.arrive(id)?;
                run.answer(id)?;
                self.senders.give(1);
            } else if thing.starts_with(b"PING") {
                out.extend_from_slice(b"PONG\r\n");
            } else if thing.starts_with(b"-ERR") {
                return Err(String::from_utf8_lossy(thing).into());
            }
        }
        if !run.is_over() {
            for _ in 0..self.cue.take() {
                run.send(&self.publish, out);
            }
        }
        Ok(())
    }
}

/// Tells deliveries per second.
pub async fn p2p(
    server: &Server,
    users: i64,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let run = Run::new(1);
    let cues: Vec<Arc<Cue>> = (0..users).map(|_| Arc::default()).collect();
    let mut subscribed = Vec::new();
    for uid in 1..=users {
        subscribed.push((uid, subscribe(server, uid).await?));
    }
    let mut crowd = Crowd::default();
    for (this, (uid, stream)) in subscribed.into_iter().enumerate() {
        let text = "0".repeat(ID_DIGITS) + &"x".repeat(TEXT - ID_DIGITS);
        let publish = format!("PUB user.{} {TEXT}\r\n{text}\r\n", uid % users + 1);
        let user = User {
            run: Arc::clone(&run),
            publish: Template::of(publish.as_bytes()),
            cue: Arc::clone(&cues[this]),
            senders: Arc::clone(&cues[this.checked_sub(1).unwrap_or(cues.len() - 1)]),
        };
        user.cue.give(outstanding);
        crowd.add(stream, user);
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

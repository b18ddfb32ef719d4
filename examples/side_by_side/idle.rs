//! Many users who are logged in and send only heartbeats.
//!
//! Serves the row `idle`: the memory of a connection, and the processor time of a heartbeat, which must all be answered. The
//! clients of each server have a process of their own, because one process can't open enough files for those of two
//! servers.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use imd::codec;
use imd::load::{Driver, LengthPrefixed, Mailbox, request};

use crate::Fault;
use crate::in_turn::InTurn;
use crate::load::{Crowd, Sample, Spent, Stopwatch, log_in, sleepless};
use crate::server::Server;
use crate::wire;

/// The number of slices in which each client sends one heartbeat.
pub const SLICES: usize = 10;

/// How long to wait for answers to arrive and memory to be given back.
const REST: Duration = Duration::from_millis(500);

/// The arguments of the process of the clients.
#[derive(Debug, clap::Args)]
pub struct Clients {
    /// How many clients there are
    connections: usize,
    /// In how many milliseconds each of them sends a heartbeat
    every_ms: u64,
    /// The access servers
    access: Vec<SocketAddr>,
}

struct Heart {
    uid: i64,
    mailbox: Arc<Mailbox>,
    /// When the heartbeats that are to be sent were due.
    due: VecDeque<u64>,
    /// How many heartbeats of all clients have been answered.
    answered: Arc<AtomicUsize>,
}

impl Driver for Heart {
    type Scanner = LengthPrefixed;
    type Error = Fault;

    fn react(&mut self, cx: &Context<'_>, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        self.mailbox.take(cx, &mut self.due);
        for _ in self.due.drain(..) {
            wire::put(&request::ping(self.uid), out);
        }
        let answers = codec::frames(frames).count();
        self.answered.fetch_add(answers, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs the process of the clients. It prints a line when all clients are logged in. For each line that it reads it
/// runs one slice, and prints a line when all heartbeats have been sent, and one when they have been answered.
pub async fn serve(clients: &Clients) -> Result<(), Fault> {
    let answered = Arc::new(AtomicUsize::new(0));
    let mut crowd = Crowd::default();
    let mut mailboxes = Vec::new();
    for uid in 1..=clients.connections as i64 {
        let connection = log_in(&clients.access, uid).await?;
        let mailbox = Arc::<Mailbox>::default();
        mailboxes.push(Arc::clone(&mailbox));
        let heart = Heart {
            uid,
            mailbox,
            due: VecDeque::new(),
            answered: Arc::clone(&answered),
        };
        crowd.add(connection, heart);
    }
    crowd.for_(REST).await?;
    println!("logged in");
    let rate = clients.connections as f64 * 1e3 / clients.every_ms as f64;
    let mut given = 0;
    let mut mailboxes = mailboxes.iter().cycle();
    for line in std::io::stdin().lines() {
        line?;
        let slice = clients.connections / SLICES;
        let beat = |due| {
            if let Some(mailbox) = mailboxes.next() {
                mailbox.push(due);
            }
        };
        let schedule = sleepless(Instant::now(), rate, slice);
        crowd.until(schedule.run(beat)).await?;
        println!("given");
        crowd.for_(REST).await?;
        given += slice;
        if answered.load(Ordering::Relaxed) != given {
            return Err("not every heartbeat was answered once".into());
        }
        println!("answered");
    }
    Ok(())
}

/// The clients of one server. The figures are the server's memory for each client, in bytes, and its processor time for
/// each heartbeat, in microseconds.
pub struct Hearts<'a> {
    server: &'a Server,
    connections: usize,
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    memory: u64,
    spent: Spent,
}

impl<'a> Hearts<'a> {
    /// Starts the process of the clients, and returns when all are logged in.
    pub fn log_in(server: &'a Server, connections: usize, every: Duration) -> Result<Self, Fault> {
        let before = server.resident()?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg("hearts")
            .arg(connections.to_string())
            .arg(every.as_millis().to_string())
            .args(server.access.iter().map(SocketAddr::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take().ok_or("no stdin")?;
        let stdout = process.stdout.take().ok_or("no stdout")?;
        let mut hearts = Hearts {
            server,
            connections,
            process,
            stdin,
            stdout: BufReader::new(stdout),
            memory: 0,
            spent: Spent::default(),
        };
        hearts.wait_for("logged in")?;
        hearts.memory = server.resident()?.saturating_sub(before);
        Ok(hearts)
    }

    fn wait_for(&mut self, what: &str) -> Result<(), Fault> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.trim_end() != what {
            return Err(format!("the clients have ended before they were {what}").into());
        }
        Ok(())
    }
}

impl InTurn for Hearts<'_> {
    fn server(&self) -> &Server {
        self.server
    }

    async fn slice(&mut self) -> Result<(), Fault> {
        let watch = Stopwatch::start_with(self.server, self.process.id());
        writeln!(self.stdin)?;
        self.wait_for("given")?;
        let beats = (self.connections / SLICES) as f64;
        self.spent.add(watch.stop(self.server, beats));
        self.wait_for("answered")
    }

    fn sample(&self) -> Sample {
        let memory = self.memory as f64 / self.connections as f64;
        self.spent.sample(vec![memory, self.spent.cpu()])
    }
}

impl Drop for Hearts<'_> {
    fn drop(&mut self) {
        // A process that has ended by itself can't be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

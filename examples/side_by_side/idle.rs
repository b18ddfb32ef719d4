//! Many who are logged in and say nothing but that they are still there.
//!
//! The clients of each server are a process of their own: a process may open too few files for those of two.

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::Fault;
use crate::in_turn::InTurn;
use crate::latency::paced;
use crate::link::{Prefixed, messages};
use crate::load::{Client, Crowd, Cue, Sample, Spent, Stopwatch, log_in};
use crate::server::Server;
use crate::wire;

/// Slices in which each client gives one heartbeat.
pub const SLICES: usize = 10;

/// For memory to be given back, and answers to come.
const REST: Duration = Duration::from_millis(500);

/// What the process of the clients is told.
#[derive(Debug, clap::Args)]
pub struct Clients {
    /// How many there are
    connections: usize,
    /// In how many milliseconds all of them have given a heartbeat
    every_ms: u64,
    /// The access servers
    access: Vec<SocketAddr>,
}

struct Heart {
    uid: i64,
    beat: Arc<Cue>,
    /// By all hearts.
    answered: Arc<AtomicUsize>,
}

impl Client for Heart {
    type Framing = Prefixed;

    fn begin(&mut self, task: &Waker) {
        self.beat.wakes(task);
    }

    fn turn(&mut self, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        for _ in 0..self.beat.take() {
            wire::put_ping(self.uid, out);
        }
        let answers = messages(frames).count();
        self.answered.fetch_add(answers, Ordering::Relaxed);
        Ok(())
    }
}

/// What that process does: it says a line when all are logged in, and one when a slice is over for each that it is told.
pub async fn serve(clients: &Clients) -> Result<(), Fault> {
    let answered = Arc::new(AtomicUsize::new(0));
    let mut crowd = Crowd::default();
    let mut beats = Vec::new();
    for uid in 1..=clients.connections as i64 {
        let stream = log_in(&clients.access, uid).await?;
        let beat = Arc::new(Cue::default());
        beats.push(Arc::clone(&beat));
        let answered = Arc::clone(&answered);
        crowd.add(
            stream,
            Heart {
                uid,
                beat,
                answered,
            },
        );
    }
    crowd.for_(REST).await?;
    println!("logged in");
    let pace = Duration::from_millis(clients.every_ms) / clients.connections as u32;
    let mut given = 0;
    for line in std::io::stdin().lines() {
        line?;
        let slice = clients.connections / SLICES;
        let beat = |n: usize| beats[(given + n) % beats.len()].give(1);
        crowd
            .until(paced(Instant::now(), pace, slice, beat))
            .await?;
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

/// The clients of a server. They tell its memory for each of them in bytes, and its processor time for each heartbeat in
/// microseconds.
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
        // They may have ended by themselves; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

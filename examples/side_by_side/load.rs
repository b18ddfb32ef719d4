//! The load's side of a connection, and the window in which things are counted.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use imd::proto::Cmd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Fault;
use crate::link::{Framing, Link};
use crate::server::{Server, cpu};
use crate::wire::{self, Flat};

/// Before anything is counted, the work goes on for so long.
const WARM_UP: Duration = Duration::from_millis(300);

/// A broker may take so long to start.
const START: Duration = Duration::from_secs(5);

/// What a client does.
pub trait Client: Unpin + Send + 'static {
    /// How what it is told falls into frames.
    type Framing: Framing + Unpin + Send;

    /// Is told once which task it is.
    fn begin(&mut self, _: &Waker) {}

    /// Looks at whole frames, if any, and puts what it has to say into `out`.
    fn turn(&mut self, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault>;
}

/// Tells a client from outside that it is to do something, and how often.
#[derive(Default)]
pub struct Cue {
    given: AtomicUsize,
    task: OnceLock<Waker>,
}

impl Cue {
    /// The client's task is this.
    pub fn wakes(&self, task: &Waker) {
        // Set once: a task keeps its waker.
        let _ = self.task.set(task.clone());
    }

    pub fn give(&self, times: usize) {
        self.given.fetch_add(times, Ordering::Relaxed);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }

    /// How often it was given since it was last taken.
    pub fn take(&self) -> usize {
        self.given.swap(0, Ordering::Relaxed)
    }
}

/// A client at work. Ends only with a fault.
pub struct AtWork<C: Client> {
    link: Link<C::Framing>,
    client: C,
    has_begun: bool,
}

impl<C: Client> AtWork<C> {
    pub fn new(stream: TcpStream, client: C) -> Self {
        AtWork {
            link: Link::new(stream),
            client,
            has_begun: false,
        }
    }
}

impl<C: Client> Future for AtWork<C> {
    type Output = Fault;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Fault> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.has_begun, true) {
            this.client.begin(cx.waker());
        }
        loop {
            let mut done = Ok(());
            let turn = this.link.poll_turn(cx, true, |frames, out| {
                done = this.client.turn(frames, out);
            });
            if let Err(fault) = done {
                return Poll::Ready(fault);
            }
            match ready!(turn) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready("the server has closed a connection".into()),
                Err(error) => return Poll::Ready(error.into()),
            }
        }
    }
}

/// Clients at work; dropping it ends them.
#[derive(Default)]
pub struct Crowd {
    tasks: JoinSet<Fault>,
}

impl Crowd {
    pub fn add(&mut self, stream: TcpStream, client: impl Client) {
        self.add_task(AtWork::new(stream, client));
    }

    /// Adds work that ends only with a fault.
    pub fn add_task(&mut self, work: impl Future<Output = Fault> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Waits for so long, or until a client has met a fault.
    pub async fn for_(&mut self, time: Duration) -> Result<(), Fault> {
        self.until(tokio::time::sleep(time)).await
    }

    /// Waits for `done`, or until a client has met a fault.
    pub async fn until<T>(&mut self, done: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            Some(fault) = self.tasks.join_next() => Err(fault?),
            done = done => Ok(done),
        }
    }
}

/// What one run has shown.
#[derive(Debug, Clone)]
pub struct Sample {
    /// One for each line of the row.
    pub values: Vec<f64>,
    /// The server's processor time per operation, in microseconds.
    pub cpu: f64,
    /// The share of the time in which the server was at work, and in which the load was.
    pub busy: [f64; 2],
}

impl Sample {
    /// Counts for `secs`, after a while of warming up: operations per second.
    pub async fn rate(
        server: &Server,
        crowd: &mut Crowd,
        secs: f64,
        count: impl Fn() -> u64,
    ) -> Result<Sample, Fault> {
        crowd.for_(WARM_UP).await?;
        let (counted, watch) = (count(), Stopwatch::start(server));
        crowd.for_(Duration::from_secs_f64(secs)).await?;
        let spent = watch.stop(server, (count() - counted) as f64);
        Ok(spent.sample(vec![spent.operations / spent.wall.as_secs_f64()]))
    }
}

/// What was spent on operations, also in several pieces.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    operations: f64,
    wall: Duration,
    /// By the server, and by the load.
    cpu: [Duration; 2],
}

impl Spent {
    pub fn add(&mut self, other: Spent) {
        self.operations += other.operations;
        self.wall += other.wall;
        for (sum, other) in self.cpu.iter_mut().zip(other.cpu) {
            *sum += other;
        }
    }

    /// The server's processor time for each operation, in microseconds.
    pub fn cpu(&self) -> f64 {
        self.cpu[0].as_secs_f64() / self.operations.max(1.0) * 1e6
    }

    /// What it shows, with these values of its row.
    pub fn sample(&self, values: Vec<f64>) -> Sample {
        Sample {
            values,
            cpu: self.cpu(),
            busy: self
                .cpu
                .map(|cpu| cpu.as_secs_f64() / self.wall.as_secs_f64()),
        }
    }
}

/// The time that something takes, of each kind.
pub struct Stopwatch {
    /// The process that is the load.
    load: u32,
    begun: Instant,
    cpu: [Duration; 2],
}

impl Stopwatch {
    /// Where this process is the load.
    pub fn start(server: &Server) -> Self {
        Stopwatch::start_with(server, std::process::id())
    }

    pub fn start_with(server: &Server, load: u32) -> Self {
        Stopwatch {
            load,
            cpu: [server.cpu(), cpu(load)],
            begun: Instant::now(),
        }
    }

    /// So many operations were done meanwhile.
    pub fn stop(&self, server: &Server, operations: f64) -> Spent {
        let wall = self.begun.elapsed();
        Spent {
            operations,
            wall,
            cpu: [server.cpu() - self.cpu[0], cpu(self.load) - self.cpu[1]],
        }
    }
}

pub async fn connect(addr: SocketAddr) -> Result<TcpStream, Fault> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The same with a server that may take a moment to listen.
pub async fn connect_late(addr: SocketAddr) -> Result<TcpStream, Fault> {
    let begun = Instant::now();
    loop {
        match connect(addr).await {
            Err(_) if begun.elapsed() < START => tokio::time::sleep(START / 500).await,
            connected => return connected,
        }
    }
}

/// A connection on which `uid` is logged in.
pub async fn log_in(access: &[SocketAddr], uid: i64) -> Result<TcpStream, Fault> {
    let mut stream = connect(access[uid as usize % access.len()]).await?;
    let answer = ask(&mut stream, &wire::login(uid)).await?;
    let answer = Flat::read(&answer);
    // The echo says the login back, which has no code.
    if !answer.is(Cmd::Login) || answer.number(2) != 0 {
        return Err("a login was refused".into());
    }
    Ok(stream)
}

/// Sends a frame and waits for the next one.
pub async fn ask(stream: &mut TcpStream, frame: &[u8]) -> Result<Vec<u8>, Fault> {
    stream.write_all(frame).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

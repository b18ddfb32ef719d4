//! The load's side of a connection, and the window in which things are counted.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use imd::proto::Cmd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Fault;
use crate::link::Link;
use crate::server::Server;
use crate::wire::{self, Flat};

/// Before anything is counted, the work goes on for so long.
const WARM_UP: Duration = Duration::from_millis(300);

/// What a client does.
pub trait Client: Unpin + Send + 'static {
    /// Looks at whole frames, if any, and puts what it has to say into `out`.
    fn turn(&mut self, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault>;
}

/// A client at work. Ends only with a fault.
pub struct AtWork<C> {
    link: Link,
    client: C,
}

impl<C: Client> AtWork<C> {
    pub fn new(stream: TcpStream, client: C) -> Self {
        AtWork {
            link: Link::new(stream),
            client,
        }
    }
}

impl<C: Client> Future for AtWork<C> {
    type Output = Fault;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Fault> {
        let this = self.get_mut();
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
        self.tasks.spawn(AtWork::new(stream, client));
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
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// One for each line of the row.
    pub values: Vec<f64>,
    /// The server's processor time per operation, in microseconds.
    pub cpu: f64,
    /// The share of the time in which the server was at work.
    pub busy: f64,
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
        let (count_before, cpu_before, begun) = (count(), server.cpu(), Instant::now());
        crowd.for_(Duration::from_secs_f64(secs)).await?;
        let wall = begun.elapsed().as_secs_f64();
        let cpu = (server.cpu() - cpu_before).as_secs_f64();
        let counted = (count() - count_before) as f64;
        Ok(Sample {
            values: vec![counted / wall],
            cpu: cpu / counted.max(1.0) * 1e6,
            busy: cpu / wall,
        })
    }
}

pub async fn connect(addr: SocketAddr) -> Result<TcpStream, Fault> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection on which `uid` is logged in.
pub async fn log_in(server: &Server, uid: i64) -> Result<TcpStream, Fault> {
    let servers = server.access.len();
    let addr = server.access[uid as usize % servers];
    let mut stream = connect(addr).await?;
    let answer = ask(&mut stream, &wire::login(uid)).await?;
    let answer = Flat::read(&answer);
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

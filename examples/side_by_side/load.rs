//! Clients at work, the time in which things are counted, and the figures that come of it.
//!
//! Serves all rows. All clients are tasks of one thread. The first fault of a client ends the measurement with an error: no
//! figure is made from a run in which something went wrong.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use imd::load::{Connection, Driver, FieldTable, LatencyHistogram, Schedule};
use imd::proto::Cmd;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Fault;
use crate::server::{Server, cpu};
use crate::wire;

/// How long the clients work before anything is counted.
pub const WARM_UP: Duration = Duration::from_millis(300);

/// How long a broker may take to start.
const START: Duration = Duration::from_secs(5);

/// Clients at work. Dropping it ends them.
#[derive(Default)]
pub struct Crowd {
    tasks: JoinSet<Fault>,
}

impl Crowd {
    /// Adds a client with its connection. Its driver ends only with a fault.
    pub fn add<D>(&mut self, connection: Connection<D::Scanner>, mut driver: D)
    where
        D: Driver<Error = Fault> + Send + 'static,
    {
        self.add_task(async move {
            match connection.run(&mut driver).await {
                Ok(()) => "a client has ended".into(),
                Err(fault) => fault,
            }
        });
    }

    /// Adds work that ends only with a fault.
    pub fn add_task(&mut self, work: impl Future<Output = Fault> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Waits for this time, or until a client meets a fault. A real delay, because it is the time in which things are
    /// counted.
    pub async fn for_(&mut self, time: Duration) -> Result<(), Fault> {
        self.until(tokio::time::sleep(time)).await
    }

    /// Waits for `done`, or until a client meets a fault.
    pub async fn until<T>(&mut self, done: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            Some(fault) = self.tasks.join_next() => Err(fault?),
            done = done => Ok(done),
        }
    }
}

/// The figures of one run.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The figure of each line of the row.
    pub values: Vec<f64>,
    /// The server's processor time per operation, in microseconds.
    pub cpu: f64,
    /// The share of the time in which the server was busy, and that in which the load was.
    pub busy: [f64; 2],
    /// All latencies of the run; none where they are not measured.
    pub latency: LatencyHistogram,
}

impl Sample {
    /// Takes the server's processor time of each operation as the figure.
    pub fn cost(self) -> Sample {
        Sample {
            values: vec![self.cpu],
            ..self
        }
    }

    /// Adds the figure of another half of the load, which worked on the same server at the same time in the same process.
    pub fn and(mut self, other: &Sample) -> Sample {
        for (value, other) in self.values.iter_mut().zip(&other.values) {
            *value += other;
        }
        // Each half has counted the processor time of both.
        self.cpu = 1.0 / (1.0 / self.cpu + 1.0 / other.cpu);
        for (busy, other) in self.busy.iter_mut().zip(other.busy) {
            *busy = f64::midpoint(*busy, other);
        }
        self.latency.add(&other.latency);
        self
    }

    /// Counts operations for `secs`, after a while of warming up. The figure is operations per second.
    pub async fn rate(
        server: &Server,
        crowd: &mut Crowd,
        secs: f64,
        count: impl Fn() -> u64,
    ) -> Result<Sample, Fault> {
        crowd.for_(WARM_UP).await?;
        let (counted, watch) = (count(), Stopwatch::start(server));
        crowd.for_(Duration::from_secs_f64(secs)).await?;
        Ok(watch.stop(server, (count() - counted) as f64).rate())
    }
}

/// What was spent on operations. Several measurements can be added up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    operations: f64,
    wall: Duration,
    /// The processor time of the server and of the load.
    cpu: [Duration; 2],
}

impl Spent {
    /// Adds another measurement.
    pub fn add(&mut self, other: Spent) {
        self.operations += other.operations;
        self.wall += other.wall;
        for (sum, other) in self.cpu.iter_mut().zip(other.cpu) {
            *sum += other;
        }
    }

    /// Returns the server's processor time for each operation, in microseconds.
    pub fn cpu(&self) -> f64 {
        self.cpu[0].as_secs_f64() / self.operations.max(1.0) * 1e6
    }

    /// Makes a sample of it, with operations per second as the figure.
    pub fn rate(&self) -> Sample {
        self.sample(vec![self.operations / self.wall.as_secs_f64()])
    }

    /// Makes a sample of it, with these figures of its row.
    pub fn sample(&self, values: Vec<f64>) -> Sample {
        Sample {
            values,
            cpu: self.cpu(),
            busy: self
                .cpu
                .map(|cpu| cpu.as_secs_f64() / self.wall.as_secs_f64()),
            latency: LatencyHistogram::default(),
        }
    }
}

/// Measures how long something takes, and the processor time of server and load meanwhile.
pub struct Stopwatch {
    /// The process that is the load.
    load: u32,
    begun: Instant,
    cpu: [Duration; 2],
}

impl Stopwatch {
    /// Starts to measure, with this process as the load.
    pub fn start(server: &Server) -> Self {
        Stopwatch::start_with(server, std::process::id())
    }

    /// Starts to measure, with another process as the load.
    pub fn start_with(server: &Server, load: u32) -> Self {
        Stopwatch {
            load,
            cpu: [server.cpu(), cpu(load)],
            begun: Instant::now(),
        }
    }

    /// Returns what was spent on that many operations since the start.
    pub fn stop(&self, server: &Server, operations: f64) -> Spent {
        let wall = self.begun.elapsed();
        Spent {
            operations,
            wall,
            cpu: [server.cpu() - self.cpu[0], cpu(self.load) - self.cpu[1]],
        }
    }
}

/// Returns the value below which a share of the values is: 0.5 for the median.
pub fn at_share(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// Returns a schedule of `requests` at `rate` a second. Its task does not sleep between them: waking up takes longer than
/// what is measured.
pub fn sleepless(begun: Instant, rate: f64, requests: usize) -> Schedule {
    Schedule {
        begun,
        rate,
        first: 0,
        step: 1,
        end: requests as u64,
        watch: u64::MAX,
    }
}

/// Connects to a broker, which may not listen yet.
pub async fn connect_late(addr: SocketAddr) -> Result<TcpStream, Fault> {
    let begun = Instant::now();
    let stream = loop {
        match TcpStream::connect(addr).await {
            Err(_) if begun.elapsed() < START => tokio::time::sleep(START / 500).await,
            connected => break connected?,
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns a connection on which `uid` is logged in.
pub async fn log_in(access: &[SocketAddr], uid: i64) -> Result<Connection, Fault> {
    let mut connection = Connection::connect(access[uid as usize % access.len()]).await?;
    let answer = connection.ask(&wire::login(uid)).await?;
    let answer = FieldTable::read(&answer);
    // The echo sends the login back, which has no code.
    if answer.cmd() != Some(Cmd::Login) || answer.number(2) != 0 {
        return Err("a login was refused".into());
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_load_have_the_sum_of_messages_for_the_same_processor_time() {
        let half = |messages| {
            let second = Duration::from_secs(1);
            let cpu = [second / 2, second];
            let spent = Spent {
                operations: messages,
                wall: second,
                cpu,
            };
            spent.rate()
        };
        let both = half(10_000.0).and(&half(40_000.0));
        assert_eq!((both.values, both.busy), (vec![50_000.0], [0.5, 1.0]));
        assert!((both.cpu - 10.0).abs() < 1e-9, "{}", both.cpu);
    }
}

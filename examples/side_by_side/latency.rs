//! Messages at a fixed rate, whatever becomes of them, each timed from the moment it was due.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::Fault;
use crate::load::{Crowd, Sample, Stopwatch, log_in};
use crate::messages::{Run, User, p2p_template, settle};
use crate::server::Server;
use bytes::BytesMut;

/// Messages per second, of all users together.
const RATE: u32 = 2_000;
/// The first messages are not counted.
const WARM_UP: usize = 600;

/// Tells half of the messages' latency and that of the slowest percent, in microseconds from due to read.
pub async fn run(server: &Server, users: i64, secs: f64) -> Result<Sample, Fault> {
    let run = Run::new(1);
    let mut crowd = Crowd::default();
    let mut senders = Vec::new();
    for uid in 1..=users {
        let stream = log_in(server, uid).await?.into_std()?;
        senders.push((stream.try_clone()?, p2p_template(uid, uid % users + 1)));
        let stream = tokio::net::TcpStream::from_std(stream)?;
        crowd.add(stream, User::new(uid, &run, None));
    }
    let every = Duration::from_secs(1) / RATE;
    let messages = WARM_UP + (secs * f64::from(RATE)) as usize;
    let begun = Instant::now();
    run.lock().time_from(begun, every);
    let mut frame = BytesMut::new();
    let send = |n: usize| {
        let (stream, template) = &senders[n % senders.len()];
        frame.clear();
        run.lock().send(template, &mut frame);
        write(stream, &frame)
    };
    let watch = Stopwatch::start(server);
    crowd.until(paced(begun, every, messages, send)).await??;
    let mut sample = watch.stop(server, messages as f64);
    settle(&mut crowd, &run).await?;
    let mut latencies = run.lock().latencies(WARM_UP);
    latencies.sort_unstable();
    let at = |share: f64| {
        let at = (latencies.len() as f64 * share) as usize;
        latencies
            .get(at)
            .map_or(f64::NAN, |d| d.as_secs_f64() * 1e6)
    };
    sample.values = vec![at(0.5), at(0.99)];
    Ok(sample)
}

/// Does `work` with each number below `count` when it is due. It does not sleep in between, as the shortest sleep is
/// longer than what is measured.
pub async fn paced(
    begun: Instant,
    every: Duration,
    count: usize,
    mut work: impl FnMut(usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for n in 0..count {
        let due = begun + every.mul_f64(n as f64);
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        work(n)?;
    }
    Ok(())
}

/// Writes past the client who holds the same socket.
pub fn write(mut stream: &TcpStream, frame: &[u8]) -> Result<(), Fault> {
    if stream.write(frame)? < frame.len() {
        return Err("the server does not take what it is sent".into());
    }
    Ok(())
}

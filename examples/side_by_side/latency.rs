//! Messages at a fixed rate, whatever becomes of them, each timed from the moment it was due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Fault;
use crate::load::{Crowd, Cue, Sample, Stopwatch, log_in};
use crate::messages::{Pace, Run, User, p2p_template, settle};
use crate::server::Server;

/// Messages per second, of all users together.
const RATE: u32 = 2_000;
/// The first messages are not counted.
const WARM_UP: usize = 600;

/// Tells half of the messages' latency and that of the slowest percent, in microseconds from due to read.
pub async fn run(server: &Server, users: i64, secs: f64) -> Result<Sample, Fault> {
    let run = Run::new(1);
    let mut crowd = Crowd::default();
    let mut cues = Vec::new();
    for uid in 1..=users {
        let stream = log_in(server, uid).await?;
        let cue = Arc::new(Cue::default());
        let sends = (
            p2p_template(uid, uid % users + 1),
            Pace::Cued(Arc::clone(&cue)),
        );
        crowd.add(stream, User::new(uid, &run, Some(sends)));
        cues.push(cue);
    }
    let every = Duration::from_secs(1) / RATE;
    let messages = WARM_UP + (secs * f64::from(RATE)) as usize;
    let begun = Instant::now();
    run.lock().time_from(begun, every);
    let send = |n: usize| cues[n % cues.len()].give(1);
    let watch = Stopwatch::start(server);
    crowd.until(paced(begun, every, messages, send)).await?;
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
pub async fn paced(begun: Instant, every: Duration, count: usize, mut work: impl FnMut(usize)) {
    for n in 0..count {
        let due = begun + every.mul_f64(n as f64);
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        work(n);
    }
}

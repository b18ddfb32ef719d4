//! Messages at a fixed rate, whatever becomes of them, each timed from the moment it was due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::Fault;
use crate::in_turn::InTurn;
use crate::load::{Crowd, Cue, Sample, Spent, Stopwatch, log_in};
use crate::messages::{Pace, Run, User, p2p_template, settle};
use crate::server::Server;
use crate::table::at_share;

/// Messages per second, of all users together.
const RATE: u32 = 2_000;
/// Messages of a slice, and how many of them are not timed, the first.
const MESSAGES: usize = 1_200;
const UNTIMED: usize = 200;

/// Slices in a second of measuring: half a second of messages is timed in each. The slowest percent takes more of them than
/// another figure.
pub const SLICES: f64 = 15.0;

/// Users who write at that rate. They tell half of the messages' latency and that of the slowest percent, in microseconds
/// from due to read: of each slice, and then what a quarter of the slices stays below. A virtual machine may stand still for
/// milliseconds several times a second: that is a percent of the messages in most of the slices, whoever serves them.
pub struct Writers<'a> {
    server: &'a Server,
    run: Arc<Mutex<Run>>,
    crowd: Crowd,
    cues: Vec<Arc<Cue>>,
    spent: Spent,
    halves: Vec<f64>,
    slowest: Vec<f64>,
}

impl<'a> Writers<'a> {
    pub async fn log_in(server: &'a Server, users: i64) -> Result<Self, Fault> {
        let run = Run::new(1);
        let mut crowd = Crowd::default();
        let mut cues = Vec::new();
        for uid in 1..=users {
            let stream = log_in(&server.access, uid).await?;
            let cue = Arc::new(Cue::default());
            let sends = (
                p2p_template(uid, uid % users + 1),
                Pace::Cued(Arc::clone(&cue)),
            );
            crowd.add(stream, User::new(uid, &run, Some(sends)));
            cues.push(cue);
        }
        Ok(Writers {
            server,
            run,
            crowd,
            cues,
            spent: Spent::default(),
            halves: Vec::new(),
            slowest: Vec::new(),
        })
    }
}

impl InTurn for Writers<'_> {
    fn server(&self) -> &Server {
        self.server
    }

    async fn slice(&mut self) -> Result<(), Fault> {
        let every = Duration::from_secs(1) / RATE;
        let begun = Instant::now();
        self.run.lock().due(begun, every, UNTIMED);
        let send = |n: usize| self.cues[n % self.cues.len()].give(1);
        let watch = Stopwatch::start(self.server);
        self.crowd
            .until(paced(begun, every, MESSAGES, send))
            .await?;
        self.spent.add(watch.stop(self.server, MESSAGES as f64));
        settle(&mut self.crowd, &self.run).await?;
        let latencies = self.run.lock().take_latencies();
        let micros = latencies.iter().map(|latency| latency.as_secs_f64() * 1e6);
        let micros: Vec<f64> = micros.collect();
        self.halves.push(at_share(micros.clone(), 0.5));
        self.slowest.push(at_share(micros, 0.99));
        Ok(())
    }

    fn sample(&self) -> Sample {
        let undisturbed = |values: &Vec<f64>| at_share(values.clone(), 0.25);
        let values = [&self.halves, &self.slowest].map(undisturbed);
        self.spent.sample(values.to_vec())
    }
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

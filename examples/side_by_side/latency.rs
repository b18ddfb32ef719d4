//! Messages at a fixed rate, whatever becomes of them, each timed from the moment when it was due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use imd::load::Mailbox;
use parking_lot::Mutex;

use crate::Fault;
use crate::in_turn::InTurn;
use crate::load::{Crowd, Sample, Spent, Stopwatch, at_share, log_in, sleepless};
use crate::messages::{Pace, Run, User, p2p_template, settle};
use crate::server::Server;

/// Messages per second, of all users together.
const RATE: u32 = 2_000;
/// Messages of a slice, and how many of them, the first, are not timed.
const MESSAGES: usize = 1_200;
const UNTIMED: usize = 200;

/// Slices in a second of measuring: half a second of messages is timed in each. The slowest percent takes more of them than
/// another figure.
pub const SLICES: f64 = 15.0;

/// Users who send messages at that rate. The figures are the latencies below which 50 and 99 percent of a slice's messages
/// stay, in microseconds from due to read, and of all slices the value below which a quarter of them is. A virtual machine
/// may stand still for milliseconds several times a second: in most slices that delays a percent of the messages, whichever
/// server is measured.
pub struct Writers<'a> {
    server: &'a Server,
    run: Arc<Mutex<Run>>,
    crowd: Crowd,
    mailboxes: Vec<Arc<Mailbox>>,
    spent: Spent,
    halves: Vec<f64>,
    slowest: Vec<f64>,
}

impl<'a> Writers<'a> {
    /// Logs users in, who send nothing yet.
    pub async fn log_in(server: &'a Server, users: i64) -> Result<Self, Fault> {
        let run = Run::new(1);
        let mut crowd = Crowd::default();
        let mut mailboxes = Vec::new();
        for uid in 1..=users {
            let connection = log_in(&server.access, uid).await?;
            let mailbox = Arc::<Mailbox>::default();
            let sends = (
                p2p_template(uid, uid % users + 1),
                Pace::Scheduled(Arc::clone(&mailbox)),
            );
            crowd.add(connection, User::new(uid, &run, Some(sends)));
            mailboxes.push(mailbox);
        }
        Ok(Writers {
            server,
            run,
            crowd,
            mailboxes,
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
        let mut mailboxes = self.mailboxes.iter().cycle();
        let send = |due| {
            if let Some(mailbox) = mailboxes.next() {
                mailbox.push(due);
            }
        };
        let watch = Stopwatch::start(self.server);
        let schedule = sleepless(begun, f64::from(RATE), MESSAGES);
        self.crowd.until(schedule.run(send)).await?;
        self.spent.add(watch.stop(self.server, MESSAGES as f64));
        settle(&mut self.crowd, &self.run).await?;
        let latencies = self.run.lock().take_latencies().percentiles();
        let latencies = latencies.ok_or("nothing was delivered")?;
        self.halves.push(latencies.p50);
        self.slowest.push(latencies.p99);
        Ok(())
    }

    fn sample(&self) -> Sample {
        let undisturbed = |values: &Vec<f64>| at_share(values.clone(), 0.25);
        let values = [&self.halves, &self.slowest].map(undisturbed);
        self.spent.sample(values.to_vec())
    }
}

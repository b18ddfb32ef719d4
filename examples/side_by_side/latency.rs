//! Messages at a fixed rate, whether or not they are answered. Each is timed from the moment in which it was due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use imd::load::Mailbox;
use parking_lot::Mutex;

use crate::Fault;
use crate::in_turn::InTurn;
use crate::load::{Crowd, Sample, Spent, Stopwatch, at_share, log_in, sleepless};
use crate::messages::{Pace, Run, User, p2p_template, settle};
use crate::server::Server;

/// How many messages all users together send in a second.
const RATE: u32 = 2_000;
/// How many messages a slice has, and how many at its start are not timed.
const MESSAGES: usize = 1_200;
const UNTIMED: usize = 200;

/// How many slices are measured for each second that a row is to take. A slice times half a second of messages. The
/// slowest percent takes more messages than other figures.
pub const SLICES: f64 = 15.0;

/// Users who send messages at that rate.
///
/// Each slice has the latencies below which 50 and 99 percent of its messages stay, in microseconds from due to read.
/// The figures are the lower quartiles of all slices: a virtual machine may stand still for milliseconds several times
/// a second, which delays a percent of the messages in most slices, whichever server is measured.
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
    /// Logs the users in. They send nothing yet.
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

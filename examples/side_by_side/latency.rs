//! Messages at a fixed rate, whether or not they are answered. Each is timed from the moment in which it was due.
//!
//! Serves the rows `latency` and `latency-durable`. Two servers are measured in turn, in slices. A slice ends when every message
//! has arrived, so that none of its work falls into the slice of the other server.

use std::time::{Duration, Instant};

use imd::load::{LatencyHistogram, nanos};

use crate::Fault;
use crate::in_turn::InTurn;
use crate::load::{Sample, Spent, Stopwatch, at_share, sleepless};
use crate::messages::{Traffic, Users};
use crate::server::Server;

/// How many messages all users together send in a second.
const RATE: u32 = 2_000;
/// How many messages a slice has, and how many at its start are not timed.
const MESSAGES: usize = 1_200;
const UNTIMED: u32 = 200;

/// How many slices are measured for each second that a row is to take. A slice times half a second of messages. The
/// slowest percent takes more messages than other figures.
pub const SLICES: f64 = 15.0;

/// Users who send messages at that rate.
///
/// The figures are latencies from due to read, in microseconds: below the first two, 50 and 99 percent of the messages stay in a
/// calm slice, which a quarter of all slices are. A virtual machine may stand still for milliseconds several times a second,
/// which delays a percent of the messages in most slices, whichever server is measured. Below the others, 50 and 99
/// percent of all messages stay.
pub struct Writers<'a> {
    server: &'a Server,
    users: Users,
    spent: Spent,
    halves: Vec<f64>,
    slowest: Vec<f64>,
    whole: LatencyHistogram,
}

impl<'a> Writers<'a> {
    /// Logs the users in. They send nothing yet.
    pub async fn log_in(server: &'a Server, traffic: Traffic) -> Result<Self, Fault> {
        Ok(Writers {
            server,
            users: Users::connect(server.setup.kind, &server.access, traffic).await?,
            spent: Spent::default(),
            halves: Vec::new(),
            slowest: Vec::new(),
            whole: LatencyHistogram::default(),
        })
    }
}

impl InTurn for Writers<'_> {
    fn server(&self) -> &Server {
        self.server
    }

    async fn slice(&mut self) -> Result<(), Fault> {
        let (begun, offset) = (Instant::now(), self.users.run.lock().elapsed());
        let untimed = Duration::from_secs(1) / RATE * UNTIMED;
        self.users.time_from(offset + untimed);
        let mailboxes = self.users.mailboxes();
        let mut mailboxes = mailboxes.iter().cycle();
        let send = |due| {
            if let Some(mailbox) = mailboxes.next() {
                mailbox.push(nanos(offset) + due);
            }
        };
        let watch = Stopwatch::start(self.server);
        let schedule = sleepless(begun, f64::from(RATE), MESSAGES);
        self.users.crowd.until(schedule.run(send)).await?;
        self.spent.add(watch.stop(self.server, MESSAGES as f64));
        self.users.settle().await?;
        let latency = self.users.take_latency();
        let percentiles = latency.percentiles().ok_or("nothing was delivered")?;
        self.halves.push(percentiles.p50);
        self.slowest.push(percentiles.p99);
        self.whole.add(&latency);
        Ok(())
    }

    fn sample(&self) -> Sample {
        let calm = [&self.halves, &self.slowest].map(|values| at_share(values.clone(), 0.25));
        let whole = self.whole.percentiles();
        let whole = whole.map_or([f64::NAN; 2], |all| [all.p50, all.p99]);
        Sample {
            latency: self.whole.clone(),
            ..self.spent.sample([&calm[..], &whole].concat())
        }
    }
}

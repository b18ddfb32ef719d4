//! Messages at a fixed rate, whether or not they are answered. Each is timed from the moment in which it was due.
//!
//! Serves the rows `latency` and `hot`. Two servers are measured in turn, in slices. A slice ends when every message has arrived,
//! so that none of its work falls into the slice of the other server. In the rows `hot`, others send messages meanwhile, whose
//! latencies do not count: the question is what hot or slow receivers among them cost everybody else.

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

/// How many messages the others send in a second, if there are others, and how many in a slice.
const RATE_OF_OTHERS: u32 = 4_000;
const MESSAGES_OF_OTHERS: usize = MESSAGES * (RATE_OF_OTHERS / RATE) as usize;

/// How many slices are measured for each second that a row is to take. A slice times half a second of messages. The
/// slowest percent takes more messages than other figures.
pub const SLICES: f64 = 15.0;

/// Users who send messages at that rate.
///
/// The figures are latencies from due to read, in microseconds. 99 percent of the messages stay below the first one in a calm
/// slice, and below the second one in the whole run; the other two are the same for 50 percent. A quarter of all slices are calm:
/// a virtual machine may stand still for milliseconds several times a second, which delays a percent of the messages in most
/// slices, whichever server is measured.
pub struct Writers<'a> {
    server: &'a Server,
    users: Users,
    /// Users who write to each other meanwhile, and are not timed.
    others: Option<Users>,
    spent: Spent,
    halves: Vec<f64>,
    slowest: Vec<f64>,
    whole: LatencyHistogram,
}

impl<'a> Writers<'a> {
    /// Logs the users in, and the others if there are any. They send nothing yet.
    pub async fn log_in(
        server: &'a Server,
        traffic: Traffic,
        others: Option<Traffic>,
    ) -> Result<Self, Fault> {
        let log_in = |traffic| Users::connect(server.setup.kind, &server.access, traffic);
        Ok(Writers {
            server,
            users: log_in(traffic).await?,
            others: match others {
                Some(others) => Some(log_in(others).await?),
                None => None,
            },
            spent: Spent::default(),
            halves: Vec::new(),
            slowest: Vec::new(),
            whole: LatencyHistogram::default(),
        })
    }

    /// Lets all users send their messages of a slice. Returns how many these were.
    async fn send(&mut self) -> Result<usize, Fault> {
        let own = on_schedule(&self.users, RATE, MESSAGES);
        let Some(others) = &mut self.others else {
            self.users.crowd.until(own).await?;
            return Ok(MESSAGES);
        };
        let theirs = on_schedule(others, RATE_OF_OTHERS, MESSAGES_OF_OTHERS);
        let both = self.users.crowd.until(async { tokio::join!(own, theirs) });
        others.crowd.until(both).await??;
        Ok(MESSAGES + MESSAGES_OF_OTHERS)
    }

    /// Returns the others, if they are slow or if they are not.
    fn others(&mut self, are_slow: bool) -> Option<&mut Users> {
        let others = self.others.as_mut();
        others.filter(|others| others.traffic().is_slow == are_slow)
    }
}

/// Makes messages due at a rate, from now on, one user after the other.
fn on_schedule(users: &Users, rate: u32, messages: usize) -> impl Future<Output = ()> + use<> {
    let schedule = sleepless(Instant::now(), f64::from(rate), messages);
    let offset = nanos(users.run.lock().elapsed());
    let mailboxes = users.mailboxes();
    async move {
        let mut mailboxes = mailboxes.iter().cycle();
        let send = |due| {
            if let Some(mailbox) = mailboxes.next() {
                mailbox.push(offset + due);
            }
        };
        schedule.run(send).await;
    }
}

impl InTurn for Writers<'_> {
    fn server(&self) -> &Server {
        self.server
    }

    async fn slice(&mut self) -> Result<(), Fault> {
        let untimed = Duration::from_secs(1) / RATE * UNTIMED;
        let offset = self.users.run.lock().elapsed();
        self.users.time_from(offset + untimed);
        let watch = Stopwatch::start(self.server);
        let messages = self.send().await?;
        self.spent.add(watch.stop(self.server, messages as f64));
        self.users.settle().await?;
        if let Some(others) = self.others(false) {
            others.settle().await?;
        }
        let latency = self.users.take_latency();
        let percentiles = latency.percentiles().ok_or("nothing was delivered")?;
        self.halves.push(percentiles.p50);
        self.slowest.push(percentiles.p99);
        self.whole.add(&latency);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Fault> {
        match self.others(true) {
            Some(others) => others.catch_up().await,
            None => Ok(()),
        }
    }

    fn sample(&self) -> Sample {
        let calm = |values: &Vec<f64>| at_share(values.clone(), 0.25);
        let whole = self.whole.percentiles();
        let [p50, p99] = whole.map_or([f64::NAN; 2], |all| [all.p50, all.p99]);
        let values = vec![calm(&self.slowest), p99, calm(&self.halves), p50];
        Sample {
            latency: self.whole.clone(),
            ..self.spent.sample(values)
        }
    }
}

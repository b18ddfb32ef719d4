//! The rows of the table: what is measured, against which baseline, and which ratio is the goal.

use std::time::Duration;

use crate::Fault;
use crate::idle::Hearts;
use crate::kind::Kind;
use crate::latency::Writers;
use crate::load::Sample;
use crate::server::{Server, Setup};
use crate::{connects, fair, growth, idle, in_turn, latency, messages, mqtt, nats, requests};

/// How many users write to one another.
const USERS: i64 = 100;
/// How many connections ask the gateway.
const ASKING: usize = 50;
/// How many connections the row `many` has.
const MANY: usize = 2_000;
/// How many users are in the group.
const MEMBERS: i64 = 1_000;
/// How many members the largest group has that the default config allows, and how many messages one of them has
/// outstanding.
const MOST_MEMBERS: i64 = 2_000;
const FLOOD: usize = 300;

/// One kind of work, on the baseline and on `imd`.
pub struct Row {
    /// The name of the row in `--rows`.
    pub name: &'static str,
    /// What the clients do, as the table says it.
    pub work: String,
    pub load: Load,
    pub baseline: Setup,
    pub imd: Setup,
    pub lines: Vec<Line>,
}

/// One figure of a row.
pub struct Line {
    pub unit: &'static str,
    pub goal: Goal,
}

/// The goal of `imd`'s figure.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At least this many times the baseline's.
    AtLeast(f64),
    /// At most this many times the baseline's.
    AtMost(f64),
    /// Below this value, whatever the baseline's.
    Below(f64),
}

/// What the clients do, and how the measurement alternates between the servers.
#[derive(Clone, Copy)]
pub enum Load {
    /// The whole work with one server, and then with the other.
    OneByOne(Work),
    /// A few messages, timed, in alternating slices.
    Latency,
    /// This number of connections, each with one heartbeat in this time, in alternating slices.
    Idle(usize, Duration),
}

/// Work that is done with one server as a whole.
#[derive(Clone, Copy)]
pub enum Work {
    /// This number of connections that ask, each with this number of requests outstanding.
    Requests(usize, usize),
    /// The work of `Requests`; the figure is the processor time of each request.
    RequestCost(usize, usize),
    /// This number of connections with one request each; the figure is the latency of the slowest percent.
    Crowd(usize),
    /// Connect, ask, close.
    Connects,
    /// Users in a ring, each with this number of messages outstanding.
    P2p(usize),
    /// The work of `P2p`; the figure is the processor time of each delivery.
    Growth(usize),
    /// One user who writes to a group, with this number of messages outstanding.
    Group(usize),
    /// One user who writes to a group, with this number of messages outstanding; the figure is how long another user
    /// waits for an answer.
    Fair(usize),
}

impl Load {
    /// Measures both servers.
    async fn run(self, setups: [Setup; 2], secs: f64) -> Result<[Sample; 2], Fault> {
        let [baseline, imd] = setups;
        match self {
            Load::OneByOne(work) => {
                let one = async |setup| {
                    let server = Server::start(setup)?;
                    let sample = work.run(&server, secs).await;
                    sample.map_err(|fault| server.at_fault(fault))
                };
                Ok([one(baseline).await?, one(imd).await?])
            }
            Load::Latency => {
                let [baseline, imd] = [Server::start(baseline)?, Server::start(imd)?];
                let both = [
                    Writers::log_in(&baseline, USERS).await?,
                    Writers::log_in(&imd, USERS).await?,
                ];
                in_turn::measure(both, (latency::SLICES * secs).ceil() as usize).await
            }
            Load::Idle(connections, every) => {
                let [baseline, imd] = [Server::start(baseline)?, Server::start(imd)?];
                let both = [
                    Hearts::log_in(&baseline, connections, every)?,
                    Hearts::log_in(&imd, connections, every)?,
                ];
                in_turn::measure(both, idle::SLICES).await
            }
        }
    }
}

impl Work {
    async fn run(self, server: &Server, secs: f64) -> Result<Sample, Fault> {
        match self {
            Work::Requests(connections, outstanding) => {
                requests::closed_loop(server, connections, outstanding, secs).await
            }
            Work::RequestCost(connections, outstanding) => {
                let asked = requests::closed_loop(server, connections, outstanding, secs);
                let mut sample = asked.await?;
                sample.values = vec![sample.cpu];
                Ok(sample)
            }
            Work::Crowd(connections) => {
                let mut sample = requests::closed_loop(server, connections, 1, secs).await?;
                sample.values.remove(0);
                Ok(sample)
            }
            Work::Connects => connects::run(server, secs).await,
            Work::Growth(outstanding) => growth::run(server, USERS, outstanding, secs).await,
            Work::P2p(outstanding) => match server.setup.kind {
                Kind::Nats => nats::p2p(server, USERS, outstanding, secs).await,
                Kind::Mosquitto => mqtt::p2p(server, USERS, outstanding, secs).await,
                _ => messages::p2p(server, USERS, outstanding, secs).await,
            },
            Work::Group(outstanding) => messages::group(server, MEMBERS, outstanding, secs).await,
            Work::Fair(outstanding) => fair::run(server, MOST_MEMBERS, outstanding, secs).await,
        }
    }
}

impl Row {
    fn new(
        name: &'static str,
        work: String,
        load: Load,
        [baseline, imd]: [Setup; 2],
        lines: &[(&'static str, Goal)],
    ) -> Self {
        let lines = lines.iter().map(|&(unit, goal)| Line { unit, goal });
        Row {
            name,
            work,
            load,
            baseline,
            imd,
            lines: lines.collect(),
        }
    }

    /// Measures the baseline and `imd` once each.
    pub async fn round(&self, secs: f64) -> Result<[Sample; 2], Fault> {
        let samples = self.load.run([self.baseline, self.imd], secs).await;
        samples.map_err(|fault| format!("{}: {fault}", self.work).into())
    }
}

fn beside(baseline: Kind, is_durable: bool, members: i64) -> [Setup; 2] {
    [baseline, Kind::Imd].map(|kind| Setup {
        kind,
        is_durable,
        members,
        stored: 0,
        idle: 0,
    })
}

/// Returns all rows in their order. `is_full` makes some of them larger, and slower.
pub fn all(is_full: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let echo = beside(Kind::Echo, false, 0);
    for (outstanding, least) in [(1, 0.87), (16, 0.75)] {
        rows.push(Row::new(
            "gateway",
            format!("gateway, {ASKING} connections, {outstanding} outstanding"),
            Load::OneByOne(Work::Requests(ASKING, outstanding)),
            echo,
            &[("requests/s", Goal::AtLeast(least))],
        ));
    }
    rows.push(Row::new(
        "connect",
        "gateway, connect + ask + close".into(),
        Load::OneByOne(Work::Connects),
        echo,
        &[("connects/s", Goal::AtLeast(0.9))],
    ));
    let stores = [false, true];
    for is_durable in stores {
        for outstanding in [1, 16] {
            rows.push(Row::new(
                named("p2p", "p2p-durable", is_durable),
                format!("p2p, {}, {outstanding} outstanding", store(is_durable)),
                Load::OneByOne(Work::P2p(outstanding)),
                beside(Kind::Mock, is_durable, 0),
                &[("deliveries/s", Goal::AtLeast(0.85))],
            ));
        }
    }
    for is_durable in stores {
        rows.push(Row::new(
            named("latency", "latency-durable", is_durable),
            format!("p2p, {}, 2,000 messages/s, when calm", store(is_durable)),
            Load::Latency,
            beside(Kind::Mock, is_durable, 0),
            &[("p50 us", Goal::AtMost(1.3)), ("p99 us", Goal::AtMost(1.3))],
        ));
    }
    for is_durable in stores {
        rows.push(Row::new(
            named("group", "group-durable", is_durable),
            format!("group of {MEMBERS}, {}", store(is_durable)),
            Load::OneByOne(Work::Group(16)),
            beside(Kind::Mock, is_durable, MEMBERS),
            &[("deliveries/s", Goal::AtLeast(0.8))],
        ));
    }
    for is_durable in stores {
        rows.push(Row::new(
            named("fair", "fair-durable", is_durable),
            format!(
                "p2p beside a flood to {MOST_MEMBERS}, {}",
                store(is_durable)
            ),
            Load::OneByOne(Work::Fair(FLOOD)),
            beside(Kind::Mock, is_durable, MOST_MEMBERS),
            &[("p99 ms", Goal::Below(50.0))],
        ));
    }
    let (connections, every) = if is_full { (18_000, 10) } else { (2_000, 2) };
    rows.push(Row::new(
        "idle",
        format!("{connections} idle, one heartbeat in {every} s"),
        Load::Idle(connections, Duration::from_secs(every)),
        echo,
        &[
            ("bytes each", Goal::Below(1_300.0)),
            ("CPU us/beat", Goal::AtMost(1.3)),
        ],
    ));
    rows.push(Row::new(
        "many",
        format!("gateway, {MANY} connections at once"),
        Load::OneByOne(Work::Crowd(MANY)),
        echo,
        &[("p99 ms", Goal::AtMost(1.5))],
    ));
    let small = Setup {
        idle: 10,
        stored: 1_000,
        ..beside(Kind::Imd, false, 0)[1]
    };
    let stored = if is_full { 10_000_000 } else { 1_000_000 };
    let with_idle = Setup {
        idle: connections,
        ..small
    };
    let with_stored = Setup { stored, ..small };
    let on_disk = |setup: Setup| Setup {
        is_durable: true,
        ..setup
    };
    let grown = [
        (
            format!("10 -> {connections} connections"),
            [small, with_idle],
        ),
        (format!("1,000 -> {stored} stored"), [small, with_stored]),
        (
            format!("1,000 -> {stored} stored, durable"),
            [small, with_stored].map(on_disk),
        ),
    ];
    for (what, setups) in grown {
        rows.push(Row::new(
            named("growth", "growth-durable", setups[0].is_durable),
            format!("imd alone, {what}"),
            Load::OneByOne(Work::Growth(16)),
            setups,
            &[("CPU us each", Goal::AtMost(1.3))],
        ));
    }
    let costs = [
        ("gateway, 16 outstanding", Work::RequestCost(ASKING, 16)),
        ("p2p, memory, 1 outstanding", Work::Growth(1)),
        ("p2p, memory, 16 outstanding", Work::Growth(16)),
    ];
    for (what, work) in costs {
        rows.push(Row::new(
            "lab",
            what.into(),
            Load::OneByOne(work),
            beside(Kind::WithoutLab, false, 0),
            &[("CPU us each", Goal::AtMost(1.05))],
        ));
    }
    for (name, peer) in [("nats", Kind::Nats), ("mosquitto", Kind::Mosquitto)] {
        for outstanding in [1, 16] {
            rows.push(Row::new(
                name,
                format!("p2p, beside {name}, {outstanding} outstanding"),
                Load::OneByOne(Work::P2p(outstanding)),
                beside(peer, false, 0),
                &[("deliveries/s", Goal::AtLeast(1.0))],
            ));
        }
    }
    rows
}

fn named(memory: &'static str, durable: &'static str, is_durable: bool) -> &'static str {
    if is_durable { durable } else { memory }
}

fn store(is_durable: bool) -> &'static str {
    named("memory", "durable", is_durable)
}

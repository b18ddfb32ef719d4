//! The rows of the table: what is measured, against which neighbour, and which ratio is the goal.
//!
//! Serves `main`, which measures them one after the other. A row measures its neighbour and `imd` in turn, with the same load
//! from the same code, and never compares figures of two rows. Rows about messages go to random receivers, until they are
//! delivered and acknowledged; the rows `ring` are another load, which is easier, and say so.

use std::fmt::Write as _;
use std::time::Duration;

use clap::ValueEnum;
use imd::load::{Pattern, Until};

use crate::Fault;
use crate::carried::Carrier;
use crate::idle::Hearts;
use crate::kind::Kind;
use crate::latency::Writers;
use crate::load::Sample;
use crate::messages::{Traffic, Users};
use crate::server::{Server, Setup};
use crate::{affinity, carried, connects, cores, fair, growth, idle, in_turn, latency, requests};

/// How many users write to one another.
const USERS: usize = 100;
/// How many connections ask the gateway.
const ASKING: usize = 50;
/// How many connections the row `many` has.
const MANY: usize = 2_000;
/// How many users are in the group.
const MEMBERS: usize = 1_000;
/// How many members the largest group has that the default config allows, and how many messages one of them has
/// outstanding.
const MOST_MEMBERS: i64 = 2_000;
const FLOOD: usize = 300;
/// How many users write to each other beside those who are timed, in the rows `hot`.
const OTHERS: usize = 1_000;

/// What the options say of all rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Some rows are larger, and slower.
    pub is_full: bool,
    /// To whom messages go, but for the rows `ring` and those of groups.
    pub pattern: Pattern,
    /// When a message makes room for the next one, but for the flood of the rows `fair`.
    pub until: Until,
    /// How many cores the machine has.
    pub cores: usize,
}

/// One kind of work, on the neighbour and on `imd`.
pub struct Row {
    /// The name of the row in `--rows`.
    pub name: &'static str,
    /// What the clients do, as the table says it.
    pub work: String,
    pub load: Load,
    pub neighbour: Setup,
    pub imd: Setup,
    pub lines: Vec<Line>,
}

/// One figure of a row.
#[derive(Clone, Copy)]
pub struct Line {
    pub unit: &'static str,
    pub goal: Goal,
}

/// The goal of `imd`'s figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At least this many times the neighbour's.
    AtLeast(f64),
    /// At most this many times the neighbour's.
    AtMost(f64),
    /// At most this much more than the neighbour's.
    AtMostMore(f64),
    /// Below this value, whatever the neighbour's.
    Below(f64),
    /// The figure is only shown.
    None,
}

/// What the clients do, and how the measurement alternates between the servers.
#[derive(Clone, Copy)]
pub enum Load {
    /// The whole work with one server, and then with the other.
    OneByOne(Work),
    /// A few messages, timed, in alternating slices; beside those of other users, who may differ between the two servers.
    Latency(Traffic, [Option<Traffic>; 2]),
    /// This number of connections, each with one heartbeat in this time, in alternating slices.
    Idle(usize, Duration),
}

/// Work that is done with one server as a whole.
#[derive(Clone, Copy)]
pub enum Work {
    /// This number of connections that ask, each with this number of requests outstanding.
    Requests(usize, usize),
    /// The work of `Requests`, over what the setup says.
    Carried(usize, usize),
    /// This number of users who are logged in over what the setup says; the figure is the memory of each.
    CarriedIdle(usize),
    /// The work of `Requests`; the figure is the processor time of each request.
    RequestCost(usize, usize),
    /// This number of connections with one request each; the figure is the latency of the slowest percent.
    Crowd(usize),
    /// Connect, ask, close.
    Connects,
    /// Users who write to one another, or to their group.
    Messages(Traffic),
    /// The work of `Messages`; the figure is the processor time of each delivery.
    MessageCost(Traffic),
    /// The work of `Messages`, from two threads on two cores.
    MessagesOfTwo(Traffic),
    /// No work: the figure is the resident memory of each stored message, less that of a server without messages.
    Kept,
    /// One user who writes to a group, with this number of messages outstanding; the figure is how long another user
    /// waits for an answer.
    Fair(usize),
}

impl Load {
    /// Measures both servers.
    async fn run(self, setups: [Setup; 2], secs: f64) -> Result<[Sample; 2], Fault> {
        let [neighbour, imd] = setups;
        match self {
            Load::OneByOne(work) => {
                let one = async |setup| {
                    let server = Server::start(setup)?;
                    let sample = work.run(&server, secs).await;
                    sample.map_err(|fault| server.at_fault(fault))
                };
                Ok([one(neighbour).await?, one(imd).await?])
            }
            Load::Latency(traffic, [beside, beside_imd]) => {
                let [neighbour, imd] = [Server::start(neighbour)?, Server::start(imd)?];
                let both = [
                    Writers::log_in(&neighbour, traffic, beside).await?,
                    Writers::log_in(&imd, traffic, beside_imd).await?,
                ];
                in_turn::measure(both, (latency::SLICES * secs).ceil() as usize).await
            }
            Load::Idle(connections, every) => {
                let [neighbour, imd] = [Server::start(neighbour)?, Server::start(imd)?];
                let both = [
                    Hearts::log_in(&neighbour, connections, every)?,
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
            Work::Carried(connections, outstanding) => {
                carried::closed_loop(server, connections, outstanding, secs).await
            }
            Work::CarriedIdle(connections) => carried::idle(server, connections).await,
            Work::RequestCost(connections, outstanding) => {
                let asked = requests::closed_loop(server, connections, outstanding, secs);
                Ok(asked.await?.cost())
            }
            Work::Crowd(connections) => {
                let mut sample = requests::closed_loop(server, connections, 1, secs).await?;
                let slowest = sample.latency.percentiles().ok_or("nothing was answered")?;
                sample.values = vec![slowest.p99 / 1e3];
                Ok(sample)
            }
            Work::Connects => connects::run(server, secs).await,
            Work::Messages(traffic) => {
                let users = Users::connect(server.setup.kind, &server.access, traffic);
                users.await?.rate(server, secs).await
            }
            Work::MessageCost(traffic) => growth::run(server, traffic, secs).await,
            Work::MessagesOfTwo(traffic) => cores::run(server, traffic, secs),
            Work::Kept => growth::kept(server),
            Work::Fair(outstanding) => fair::run(server, outstanding, secs).await,
        }
    }
}

impl Row {
    /// Measures the neighbour and `imd` once each.
    pub async fn round(&self, secs: f64) -> Result<[Sample; 2], Fault> {
        let samples = self.load.run([self.neighbour, self.imd], secs).await;
        samples.map_err(|fault| format!("{}: {fault}", self.work).into())
    }
}

/// Returns all rows in their order.
pub fn all(options: Options) -> Vec<Row> {
    let mut rows = Rows {
        options,
        rows: Vec::new(),
    };
    rows.gateway();
    rows.messages();
    rows.latencies();
    rows.cores();
    rows.groups();
    rows.connections();
    rows.carried();
    rows.growth();
    rows.lab();
    rows.brokers();
    rows.rows
}

/// The rows so far.
struct Rows {
    options: Options,
    rows: Vec<Row>,
}

impl Rows {
    fn add(
        &mut self,
        name: &'static str,
        work: impl Into<String>,
        load: Load,
        [neighbour, imd]: [Setup; 2],
        lines: &[(&'static str, Goal)],
    ) {
        self.rows.push(Row {
            name,
            work: work.into(),
            load,
            neighbour,
            imd,
            lines: lines
                .iter()
                .map(|&(unit, goal)| Line { unit, goal })
                .collect(),
        });
    }

    /// Returns the traffic that all rows have which do not say another one.
    fn traffic(&self, outstanding: usize) -> Traffic {
        Traffic {
            users: USERS,
            first: 0,
            pattern: Some(self.options.pattern),
            until: self.options.until,
            outstanding,
            gives_ids: false,
            is_slow: false,
        }
    }

    /// Returns a goal of messages, which are set for one load only.
    fn goal(&self, goal: Goal) -> Goal {
        let Options { pattern, until, .. } = self.options;
        match (pattern, until) {
            (Pattern::Random, Until::Delivered) => goal,
            _ => Goal::None,
        }
    }

    /// Adds a row of messages between users.
    fn p2p(&mut self, name: &'static str, setups: [Setup; 2], traffic: Traffic, goal: Goal) {
        let work = format!("{}{}", beside(setups), describe(traffic));
        let load = Load::OneByOne(Work::Messages(traffic));
        self.add(name, work, load, setups, &[("messages/s", goal)]);
    }

    fn gateway(&mut self) {
        let echo = pair(Kind::Echo, false);
        for (outstanding, least) in [(1, 0.87), (16, 0.75)] {
            self.add(
                "gateway",
                format!("gateway, {ASKING} connections, {outstanding} outstanding"),
                Load::OneByOne(Work::Requests(ASKING, outstanding)),
                echo,
                &[("requests/s", Goal::AtLeast(least))],
            );
        }
        let goal = [("connects/s", Goal::AtLeast(0.9))];
        let work = "gateway, connect + ask + close";
        self.add("connect", work, Load::OneByOne(Work::Connects), echo, &goal);
    }

    fn messages(&mut self) {
        for (is_durable, goals) in [(false, [0.9, 0.75]), (true, [0.9, 0.9])] {
            for (outstanding, least) in [1, 16].into_iter().zip(goals) {
                let name = named("p2p", "p2p-durable", is_durable);
                let (traffic, goal) = (self.traffic(outstanding), self.goal(Goal::AtLeast(least)));
                self.p2p(name, pair(Kind::Mock, is_durable), traffic, goal);
            }
        }
        for outstanding in [1, 16] {
            let traffic = Traffic {
                gives_ids: true,
                ..self.traffic(outstanding)
            };
            self.p2p("ids", pair(Kind::Mock, false), traffic, Goal::None);
        }
        for (kind, is_durable) in [(Kind::Mock, false), (Kind::Mock, true), (Kind::Nats, false)] {
            for outstanding in [1, 16] {
                let traffic = Traffic {
                    pattern: Some(Pattern::Ring),
                    ..self.traffic(outstanding)
                };
                let goal = match (kind, outstanding) {
                    (Kind::Nats, 16) => self.goal(Goal::AtLeast(0.8)),
                    _ => Goal::None,
                };
                self.p2p("ring", pair(kind, is_durable), traffic, goal);
            }
        }
    }

    fn latencies(&mut self) {
        let goal = self.goal(Goal::AtMost(1.3));
        let lines = ["p99 us, calm", "p99 us", "p50 us, calm", "p50 us"].map(|unit| (unit, goal));
        let traffic = self.traffic(0);
        for is_durable in [false, true] {
            let setups = pair(Kind::Mock, is_durable);
            let pattern = name(self.options.pattern);
            self.add(
                named("latency", "latency-durable", is_durable),
                format!("{}2,000 messages/s, {pattern}", beside(setups)),
                Load::Latency(traffic, [None; 2]),
                setups,
                &lines,
            );
        }
        // Those who are timed must have the same p99, whoever the others are.
        let others = |pattern, is_slow| {
            Some(Traffic {
                users: OTHERS,
                first: USERS,
                pattern: Some(pattern),
                is_slow,
                ..traffic
            })
        };
        let even = others(Pattern::Random, false);
        let compared = [
            ("zipf", others(Pattern::Zipf, false)),
            ("not read", others(Pattern::Random, true)),
        ];
        for (is_durable, (what, others)) in both_stores(compared) {
            self.add(
                named("hot", "hot-durable", is_durable),
                format!(
                    "imd {}: 2,000/s beside 4,000/s of others, random -> {what}",
                    stored(is_durable)
                ),
                Load::Latency(traffic, [even, others]),
                pair(Kind::Imd, is_durable),
                &lines[..2],
            );
        }
    }

    /// Adds the rows of a server on two cores. With four, it has two of its own and a load on the others, and is to do more.
    /// With fewer, the load shares its cores; then a message is to cost it hardly more.
    fn cores(&mut self) {
        let traffic = self.traffic(16);
        let (both, work, unit, goal) = if self.options.cores < 4 {
            let work = Work::MessageCost(traffic);
            (affinity::BOTH, work, "CPU us each", Goal::AtMost(1.15))
        } else {
            let work = Work::MessagesOfTwo(traffic);
            let both = affinity::SERVER_OF_FOUR;
            (both, work, "messages/s", Goal::AtLeast(1.6))
        };
        for (is_durable, workers) in both_stores([2, 4]) {
            let one = Setup::new(Kind::Imd, is_durable);
            let two = Setup {
                cores: both,
                workers,
                ..one
            };
            self.add(
                named("cores", "cores-durable", is_durable),
                format!(
                    "imd {}: {}, 1 core -> 2, {workers} workers",
                    stored(is_durable),
                    describe(traffic)
                ),
                Load::OneByOne(work),
                [one, two],
                &[(unit, self.goal(goal))],
            );
        }
    }

    fn groups(&mut self) {
        for is_durable in [false, true] {
            let traffic = Traffic {
                users: MEMBERS,
                pattern: None,
                ..self.traffic(16)
            };
            let setups = with_group(MEMBERS as i64, is_durable);
            self.add(
                named("group", "group-durable", is_durable),
                format!("{}{}", beside(setups), describe(traffic)),
                Load::OneByOne(Work::Messages(traffic)),
                setups,
                &[("deliveries/s", self.goal(Goal::AtLeast(0.8)))],
            );
        }
        for is_durable in [false, true] {
            let setups = with_group(MOST_MEMBERS, is_durable);
            self.add(
                named("fair", "fair-durable", is_durable),
                format!("{}p2p beside a flood to {MOST_MEMBERS}", beside(setups)),
                Load::OneByOne(Work::Fair(FLOOD)),
                setups,
                &[("p99 ms", Goal::Below(50.0))],
            );
        }
    }

    /// Returns how many idle connections there are.
    fn idle(&self) -> usize {
        if self.options.is_full { 18_000 } else { 2_000 }
    }

    fn connections(&mut self) {
        let (connections, every) = (self.idle(), if self.options.is_full { 10 } else { 2 });
        self.add(
            "idle",
            format!("{connections} idle, one heartbeat in {every} s"),
            Load::Idle(connections, Duration::from_secs(every)),
            pair(Kind::Echo, false),
            &[
                ("bytes each", Goal::Below(996.0)),
                ("CPU us/beat", Goal::AtMost(1.3)),
            ],
        );
        self.add(
            "many",
            format!("gateway, {MANY} connections at once"),
            Load::OneByOne(Work::Crowd(MANY)),
            pair(Kind::Echo, false),
            &[("p99 ms", Goal::AtMost(1.5))],
        );
    }

    fn carried(&mut self) {
        for (name, carrier, what) in [
            ("ws", Carrier::WebSocket, "WebSocket"),
            ("tls", Carrier::Tls, "TLS"),
        ] {
            let setups = pair(Kind::Echo, false).map(|setup| Setup { carrier, ..setup });
            for outstanding in [1, 16] {
                self.add(
                    name,
                    format!("gateway over {what}, {ASKING} connections, {outstanding} outstanding"),
                    Load::OneByOne(Work::Carried(ASKING, outstanding)),
                    setups,
                    &[("requests/s", Goal::AtLeast(0.8))],
                );
            }
            // The goal is set for WebSockets only.
            let goal = match carrier {
                Carrier::WebSocket => Goal::AtMostMore(1_536.0),
                _ => Goal::None,
            };
            self.add(
                name,
                format!("{MANY} idle over {what}"),
                Load::OneByOne(Work::CarriedIdle(MANY)),
                setups,
                &[("bytes each", goal)],
            );
        }
    }

    fn growth(&mut self) {
        let more = if self.options.is_full {
            10_000_000
        } else {
            1_000_000
        };
        let connections = self.idle();
        let setup = |is_durable, idle, stored| Setup {
            idle,
            stored,
            ..Setup::new(Kind::Imd, is_durable)
        };
        self.add(
            "kept",
            format!("imd in memory, 100,000 -> {more} stored, 32 bytes of text"),
            Load::OneByOne(Work::Kept),
            [100_000, more].map(|stored| setup(false, 0, stored)),
            &[("bytes each", Goal::Below(96.0))],
        );
        let grown = [
            (
                format!("10 -> {connections} connections"),
                false,
                connections,
                1_000,
            ),
            (format!("1,000 -> {more} stored"), false, 10, more),
            (format!("1,000 -> {more} stored, durable"), true, 10, more),
        ];
        for (what, is_durable, idle, stored) in grown {
            self.add(
                named("growth", "growth-durable", is_durable),
                format!("imd alone, {what}"),
                Load::OneByOne(Work::MessageCost(self.traffic(16))),
                [
                    setup(is_durable, 10, 1_000),
                    setup(is_durable, idle, stored),
                ],
                &[("CPU us each", self.goal(Goal::AtMost(1.3)))],
            );
        }
    }

    fn lab(&mut self) {
        let costs = [
            (
                "gateway, 16 outstanding".to_owned(),
                Work::RequestCost(ASKING, 16),
            ),
            (
                describe(self.traffic(1)),
                Work::MessageCost(self.traffic(1)),
            ),
            (
                describe(self.traffic(16)),
                Work::MessageCost(self.traffic(16)),
            ),
        ];
        for (what, work) in costs {
            let setups = pair(Kind::WithoutLab, false);
            let goal = [("CPU us each", Goal::AtMost(1.05))];
            self.add("lab", what, Load::OneByOne(work), setups, &goal);
        }
    }

    /// Adds the brokers, each beside `imd` with its store in memory or in a folder, whichever keeps what the broker keeps.
    fn brokers(&mut self) {
        let stored = |kind, is_synced| [Setup::new(kind, is_synced), Setup::new(Kind::Imd, true)];
        let least = |one, many| [Goal::AtLeast(one), Goal::AtLeast(many)];
        let rows = [
            ("nats", pair(Kind::Nats, false), least(1.0, 1.0)),
            ("mosquitto", pair(Kind::Mosquitto, false), least(1.0, 1.0)),
            ("jetstream", stored(Kind::JetStream, false), least(0.8, 1.0)),
            (
                "jetstream-sync",
                stored(Kind::JetStream, true),
                least(3.0, 3.0),
            ),
            ("redis", stored(Kind::Redis, false), [Goal::None; 2]),
            ("redis-sync", stored(Kind::Redis, true), [Goal::None; 2]),
        ];
        for (name, setups, goals) in rows {
            for (outstanding, goal) in [1, 16].into_iter().zip(goals) {
                let (traffic, goal) = (self.traffic(outstanding), self.goal(goal));
                self.p2p(name, setups, traffic, goal);
            }
        }
    }
}

/// Returns a neighbour and `imd`, which keep messages in the same place.
fn pair(neighbour: Kind, is_durable: bool) -> [Setup; 2] {
    [neighbour, Kind::Imd].map(|kind| Setup::new(kind, is_durable))
}

/// Returns the mock and `imd` with a group.
fn with_group(members: i64, is_durable: bool) -> [Setup; 2] {
    pair(Kind::Mock, is_durable).map(|setup| Setup { members, ..setup })
}

/// Returns both sides of a row, for its description.
fn beside([neighbour, imd]: [Setup; 2]) -> String {
    let neighbour = match (neighbour.kind, neighbour.is_durable) {
        (Kind::Echo, _) => "echo",
        (Kind::Mock, false) => "mock",
        (Kind::Mock, true) => "mock synced",
        (Kind::Nats, _) => "NATS core",
        (Kind::JetStream, false) => "JetStream on file",
        (Kind::JetStream, true) => "JetStream synced",
        (Kind::Mosquitto, _) => "Mosquitto QoS 1",
        (Kind::Redis, false) => "Redis everysec",
        (Kind::Redis, true) => "Redis synced",
        (Kind::Imd | Kind::WithoutLab, _) => "imd",
    };
    format!("{neighbour}, imd {}: ", stored(imd.is_durable))
}

/// Returns where `imd` keeps messages, for the description of a row.
fn stored(is_durable: bool) -> &'static str {
    named("in memory", "synced", is_durable)
}

/// Returns each of these for the store in memory, and then for the one in a folder.
fn both_stores<T: Copy, const N: usize>(each: [T; N]) -> impl Iterator<Item = (bool, T)> {
    let with = move |is_durable| each.map(|it| (is_durable, it));
    [false, true].into_iter().flat_map(with)
}

/// Returns what the users do, for the description of a row.
fn describe(traffic: Traffic) -> String {
    let mut text = match traffic.pattern {
        Some(pattern) => name(pattern),
        None => format!("group of {}, random senders", traffic.users),
    };
    // Writing to a string can't fail.
    let _ = write!(text, ", {} outstanding", traffic.outstanding);
    if traffic.gives_ids {
        text += ", with msgIDs";
    }
    if traffic.until == Until::Acknowledged {
        text += " until acknowledged";
    }
    text
}

/// Returns the name of a pattern, as `--pattern` has it.
fn name(pattern: Pattern) -> String {
    let value = pattern.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn named(memory: &'static str, durable: &'static str, is_durable: bool) -> &'static str {
    if is_durable { durable } else { memory }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_random_receivers_until_delivered_but_for_the_ring() {
        let mut found = 0;
        for row in all(Options::default()) {
            let Load::OneByOne(Work::Messages(traffic)) = row.load else {
                continue;
            };
            found += 1;
            assert_eq!(traffic.until, Until::Delivered, "{}", row.work);
            let pattern = match row.name {
                "ring" => Some(Pattern::Ring),
                "group" | "group-durable" => None,
                _ => Some(Pattern::Random),
            };
            assert_eq!(traffic.pattern, pattern, "{}", row.work);
            assert_eq!(traffic.gives_ids, row.name == "ids", "{}", row.work);
        }
        assert_eq!(found, 26);
    }

    #[test]
    fn goals_are_for_the_default_load() {
        let options = Options {
            pattern: Pattern::Zipf,
            ..Options::default()
        };
        let rows = all(options);
        let nats = rows.iter().find(|row| row.name == "nats").unwrap();
        assert_eq!(nats.lines[0].goal, Goal::None);
        assert!(nats.work.contains("zipf"), "{}", nats.work);
        assert_ne!(rows[0].lines[0].goal, Goal::None);
    }

    #[test]
    fn only_others_differ_between_the_sides_of_a_row_about_hot_receivers() {
        let mut found = Vec::new();
        for row in all(Options::default()) {
            let Load::Latency(timed, [Some(even), Some(others)]) = row.load else {
                continue;
            };
            assert_eq!(row.neighbour, row.imd, "{}", row.work);
            let is_apart = timed.first + timed.users <= even.first;
            assert!(is_apart && even.first == others.first, "{}", row.work);
            assert_eq!((even.pattern, even.is_slow), (timed.pattern, false));
            found.push((row.name, others.pattern, others.is_slow));
        }
        let (random, zipf) = (Some(Pattern::Random), Some(Pattern::Zipf));
        let each = |name| [(name, zipf, false), (name, random, true)];
        assert_eq!(found, [each("hot"), each("hot-durable")].concat());
    }

    #[test]
    fn a_server_on_two_cores_is_judged_by_its_rate_if_the_load_has_two_others() {
        let rows = |cores| {
            let options = Options {
                cores,
                ..Options::default()
            };
            let rows = all(options).into_iter();
            let rows = rows.filter(|row| ["cores", "cores-durable"].contains(&row.name));
            rows.map(|row| (row.imd.cores, row.imd.workers, row.lines[0].goal))
                .collect::<Vec<_>>()
        };
        let each = |cores: &'static [usize], goal| [(cores, 2, goal), (cores, 4, goal)].repeat(2);
        assert_eq!(rows(2), each(&[0, 1], Goal::AtMost(1.15)));
        assert_eq!(rows(4), each(&[0, 2], Goal::AtLeast(1.6)));
    }
}

//! The rows of the table: what is measured, against what, and how good it has to be.

use crate::Fault;
use crate::load::Sample;
use crate::messages;
use crate::requests;
use crate::serve::Kind;
use crate::server::{Server, Setup};

/// How many users write to one another.
const USERS: i64 = 100;
/// How many connections ask the gateway.
const ASKING: usize = 50;
/// How many connections are many.
const MANY: usize = 2_000;
/// How many users are in the group.
const MEMBERS: i64 = 1_000;

/// One kind of work, on the baseline and on `imd`.
pub struct Row {
    /// What `--rows` calls it.
    pub name: &'static str,
    /// What is done.
    pub work: String,
    pub load: Load,
    pub baseline: Setup,
    pub imd: Setup,
    pub lines: Vec<Line>,
}

/// One figure of a row.
pub struct Line {
    pub unit: &'static str,
    /// What the ratio of `imd` to the baseline has to be.
    pub goal: Goal,
}

#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub fn is_met(self, ratio: f64) -> bool {
        match self {
            Goal::AtLeast(least) => ratio >= least,
            Goal::AtMost(most) => ratio <= most,
        }
    }
}

/// What the clients do.
pub enum Load {
    Requests {
        connections: usize,
        outstanding: usize,
    },
    /// One request each on so many connections; how late the slowest percent is.
    Crowd {
        connections: usize,
    },
    P2p {
        outstanding: usize,
    },
    Group {
        members: i64,
        outstanding: usize,
    },
}

impl Load {
    pub async fn run(&self, server: &Server, secs: f64) -> Result<Sample, Fault> {
        match *self {
            Load::Requests {
                connections,
                outstanding,
            } => requests::closed_loop(server, connections, outstanding, secs).await,
            Load::Crowd { connections } => {
                let mut sample = requests::closed_loop(server, connections, 1, secs).await?;
                sample.values.remove(0);
                Ok(sample)
            }
            Load::P2p { outstanding } => messages::p2p(server, USERS, outstanding, secs).await,
            Load::Group {
                members,
                outstanding,
            } => messages::group(server, members, outstanding, secs).await,
        }
    }
}

fn setup(kind: Kind) -> Setup {
    Setup {
        kind,
        is_durable: false,
        members: 0,
    }
}

fn line(unit: &'static str, goal: Goal) -> Line {
    Line { unit, goal }
}

/// All rows, in their order.
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for (outstanding, least) in [(1, 0.87), (16, 0.75)] {
        rows.push(Row {
            name: "gateway",
            work: format!("gateway, {ASKING} connections, {outstanding} outstanding"),
            load: Load::Requests {
                connections: ASKING,
                outstanding,
            },
            baseline: setup(Kind::Echo),
            imd: setup(Kind::Imd),
            lines: vec![line("requests/s", Goal::AtLeast(least))],
        });
    }
    for (name, store, is_durable) in [("p2p", "memory", false), ("p2p-durable", "durable", true)] {
        for outstanding in [1, 16] {
            let setup = |kind| Setup {
                is_durable,
                ..setup(kind)
            };
            rows.push(Row {
                name,
                work: format!("p2p, {store}, {USERS} users, {outstanding} outstanding"),
                load: Load::P2p { outstanding },
                baseline: setup(Kind::Mock),
                imd: setup(Kind::Imd),
                lines: vec![line("deliveries/s", Goal::AtLeast(0.85))],
            });
        }
    }
    for (name, store, is_durable) in [
        ("group", "memory", false),
        ("group-durable", "durable", true),
    ] {
        let setup = |kind| Setup {
            kind,
            is_durable,
            members: MEMBERS,
        };
        rows.push(Row {
            name,
            work: format!("group of {MEMBERS}, {store}, 16 outstanding"),
            load: Load::Group {
                members: MEMBERS,
                outstanding: 16,
            },
            baseline: setup(Kind::Mock),
            imd: setup(Kind::Imd),
            lines: vec![line("deliveries/s", Goal::AtLeast(0.8))],
        });
    }
    rows.push(Row {
        name: "many",
        work: format!("gateway, {MANY} connections at once"),
        load: Load::Crowd { connections: MANY },
        baseline: setup(Kind::Echo),
        imd: setup(Kind::Imd),
        lines: vec![line("p99 ms", Goal::AtMost(1.5))],
    });
    rows
}

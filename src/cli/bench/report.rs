//! Builds the report of a run of `imd bench`, as text and as JSON.
//!
//! Serves [`measure`](super::measure), which ends in a report. The field names are those of the JSON that `--json` prints, so
//! they are part of the contract of the command line.

use std::fmt::Write as _;
use std::thread::available_parallelism;

use imd::load::{Pattern, Percentiles, Until, grouped};
use serde::Serialize;

use super::args::{Kind, Pace, Plan};
use super::check::Check;
use super::generator::{Generator, ThreadUsage};
use super::tally::Tally;
use super::user::DeliveryRecord;

/// The report of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    kind: Kind,
    /// Address of the gateway; absent when the stack is a private one.
    addr: Option<String>,
    /// Folder of the private imd; absent when it keeps its messages in memory.
    store: Option<String>,
    users: usize,
    outstanding: Option<usize>,
    rate: Option<f64>,
    /// Who gets the messages of a p2p run.
    pattern: Option<Pattern>,
    /// When a message of a p2p run made room for the next one.
    until: Option<Until>,
    /// Whether the users gave ids to their messages, in runs with messages.
    gives_ids: Option<bool>,
    size: usize,
    secs: f64,
    sent: u64,
    acknowledged: u64,
    delivered: u64,
    sent_per_sec: f64,
    acknowledged_per_sec: f64,
    delivered_per_sec: f64,
    acknowledgement_us: Option<Percentiles>,
    delivery_us: Option<Percentiles>,
    /// How much later than scheduled the requests were made.
    late_us: Option<Percentiles>,
    check: Check,
    generator: Generator,
    /// Resources that the private imd used, where the system reports them.
    server: Option<Server>,
}

/// Resources that the private imd used.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Server {
    /// Whether it had one core, and the load generator the others.
    pub has_own_core: bool,
    /// Number of cores in use on average during the run.
    pub cores: Option<f64>,
    /// Resident memory in bytes, before the users connected.
    pub resident_before: Option<u64>,
    /// Resident memory in bytes, with all users connected.
    pub resident_connected: Option<u64>,
    /// Resident memory in bytes, at the end of the run.
    pub resident_after: Option<u64>,
    /// Increase of the resident memory per connection, in bytes.
    pub bytes_per_connection: Option<f64>,
}

/// The measurements that a report is built from.
pub struct Measurements {
    /// Address of the gateway, unless the stack is a private one.
    pub addr: Option<String>,
    /// Folder of the private imd, if it has one.
    pub store: Option<String>,
    /// The sum of the tallies of all threads.
    pub tally: Tally,
    /// The records of all users, in any order.
    pub records: Vec<DeliveryRecord>,
    /// Resources that each thread of the load generator used.
    pub usages: Vec<ThreadUsage>,
    /// Resources that the private imd used.
    pub server: Option<Server>,
}

impl Report {
    /// Builds the report, and checks that every acknowledged message arrived exactly once.
    pub fn new(plan: &Plan, findings: Measurements) -> Report {
        let Measurements {
            addr,
            store,
            tally,
            records,
            usages,
            server,
        } = findings;
        let counts = &tally.counts;
        let late = tally.lateness.percentiles();
        let acknowledgement = tally.acknowledgement.percentiles();
        let is_open = matches!(plan.pace, Pace::Open(_));
        Report {
            kind: plan.kind,
            addr,
            store,
            users: plan.users,
            outstanding: match plan.pace {
                Pace::Closed(outstanding) => Some(outstanding),
                Pace::Open(_) => None,
            },
            rate: match plan.pace {
                Pace::Closed(_) => None,
                Pace::Open(rate) => Some(rate),
            },
            pattern: (plan.kind == Kind::P2p).then_some(plan.pattern),
            until: plan.until(),
            gives_ids: matches!(plan.kind, Kind::P2p | Kind::Group).then_some(plan.gives_ids),
            size: plan.size,
            secs: secs(counts.last_answer.max(counts.last_delivery)),
            sent: counts.sent,
            acknowledged: counts.acknowledged(),
            delivered: counts.delivered,
            sent_per_sec: rate(counts.sent, counts.last_request),
            acknowledged_per_sec: rate(counts.acknowledged(), counts.last_answer),
            delivered_per_sec: rate(counts.delivered, counts.last_delivery),
            acknowledgement_us: acknowledgement,
            delivery_us: tally.delivery.percentiles(),
            late_us: late.filter(|_| is_open),
            check: Check::new(&tally, records),
            generator: if is_open {
                Generator::open(usages.len(), late.zip(acknowledgement))
            } else {
                Generator::closed(&usages, cores())
            },
            server,
        }
    }

    /// Returns a description of what went wrong, if anything did.
    pub fn wrong(&self) -> Option<String> {
        let wrong = self.check.wrong();
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }

    /// Returns the report as text for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = self.write(&mut text);
        text
    }

    /// Appends the report as text.
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let pace = match (self.rate, self.outstanding) {
            (Some(rate), _) => format!("{} per second on schedule", grouped(rate)),
            (None, outstanding) => format!("{} outstanding", outstanding.unwrap_or_default()),
        };
        let place = match (&self.addr, &self.store) {
            (Some(addr), _) => format!("the stack at {addr}"),
            (None, Some(store)) => format!("a private imd, store {store}"),
            (None, None) => "a private imd, store in memory".into(),
        };
        let kind = kind(self.kind);
        let size = match self.kind {
            Kind::P2p | Kind::Group | Kind::Sync => format!(", {} bytes", self.size),
            Kind::Gateway | Kind::Connect | Kind::Idle => String::new(),
        };
        let users = self.users;
        writeln!(text, "{kind}: {users} users, {pace}{size}, {place}")?;
        if let Some(messages) = self.messages() {
            writeln!(text, "{messages}")?;
        }
        writeln!(text, "\n{:<16}{:>14}{:>14}", "", "in all", "per second")?;
        let deliveries = (self.delivered > 0).then_some(("delivered", self.delivered));
        let rows = [
            Some(("sent", self.sent)).zip(Some(self.sent_per_sec)),
            Some(("acknowledged", self.acknowledged)).zip(Some(self.acknowledged_per_sec)),
            deliveries.zip(Some(self.delivered_per_sec)),
        ];
        for ((name, count), rate) in rows.into_iter().flatten() {
            let (count, rate) = (grouped(count as f64), grouped(rate));
            writeln!(text, "{name:<16}{count:>14}{rate:>14}")?;
        }
        writeln!(
            text,
            "\n{:<16}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "latency, us", "p50", "p90", "p99", "p99.9", "max"
        )?;
        let rows = [
            ("acknowledgement", self.acknowledgement_us),
            ("delivery", self.delivery_us),
            ("sent late", self.late_us),
        ];
        for (name, latency) in rows {
            if let Some(Percentiles {
                p50,
                p90,
                p99,
                p999,
                max,
            }) = latency
            {
                writeln!(
                    text,
                    "{name:<16}{p50:>12.1}{p90:>12.1}{p99:>12.1}{p999:>12.1}{max:>12.1}"
                )?;
            }
        }
        writeln!(text)?;
        if let Some(server) = &self.server {
            server.write(text)?;
        }
        let taken = self.server.and_then(|server| server.bytes_per_connection);
        match (self.kind, taken) {
            (Kind::Idle, Some(bytes)) => {
                writeln!(
                    text,
                    "A connection took {} bytes of memory.",
                    grouped(bytes)
                )?;
            }
            (Kind::Idle, None) => {
                writeln!(
                    text,
                    "What a connection takes of memory is known of a private imd on Linux."
                )?;
            }
            _ => {}
        }
        if let Some(generator) = self.generator.text() {
            writeln!(text, "{generator}")?;
        }
        if self.check.ok {
            let what = match self.kind {
                Kind::P2p => "Every acknowledged message arrived exactly once.",
                Kind::Group => "Every acknowledged message arrived exactly once, at every member.",
                Kind::Sync => "Every page went on where the one before it ended.",
                Kind::Gateway | Kind::Connect | Kind::Idle => "Every request was answered once.",
            };
            writeln!(text, "{what}")?;
        }
        Ok(())
    }
}

impl Report {
    /// Returns a sentence on who got the messages of a p2p run, and when a user sent the next one.
    fn messages(&self) -> Option<String> {
        let receivers = match self.pattern? {
            Pattern::Random => "Each message goes to a random other user",
            Pattern::Ring => "Each user writes to the next one",
            Pattern::Zipf => "Each message goes to a random other user, the first ones most often",
            Pattern::Pairs => "Users write to each other by twos",
        };
        let until = match self.until {
            Some(Until::Delivered) => ", outstanding until delivered and acknowledged",
            Some(Until::Acknowledged) => ", outstanding until acknowledged",
            None => "",
        };
        let ids = match self.gives_ids {
            Some(false) => "; the server gives the ids",
            _ => "",
        };
        Some(format!("{receivers}{until}{ids}."))
    }
}

impl Server {
    /// Appends sentences on the used resources, if they are known.
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Some(cores) = self.cores else {
            return Ok(());
        };
        write!(text, "imd used {cores:.3} cores")?;
        if let Some(resident) = self.resident_after {
            write!(text, " and takes {} MiB of memory", resident >> 20)?;
        }
        writeln!(text, ".")?;
        let cores = match self.has_own_core {
            true => "It had one core, and the load generator the others.",
            false => "It shared all cores with the load generator.",
        };
        writeln!(text, "{cores}")
    }
}

/// Returns how many cores the load generator may use. They are those of this thread.
fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Returns the name of a kind of run, as on the command line.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Gateway => "gateway",
        Kind::Connect => "connect",
        Kind::P2p => "p2p",
        Kind::Group => "group",
        Kind::Idle => "idle",
        Kind::Sync => "sync",
    }
}

/// Converts nanoseconds to seconds, rounded to milliseconds.
fn secs(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 1e6).round() / 1e3
}

/// Returns the count per second, rounded to a tenth.
fn rate(count: u64, nanoseconds: u64) -> f64 {
    if nanoseconds == 0 {
        return 0.0;
    }
    (count as f64 * 1e10 / nanoseconds as f64).round() / 10.0
}

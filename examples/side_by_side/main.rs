//! Measures `imd` beside the least that could do the same work, an echo and a mock of the path of a message, and beside brokers
//! where they are installed.
//!
//! It serves whoever changes the path of a message, and whoever asks how fast `imd` is: the table in docs/performance.md is what
//! it prints. `cargo run --release --example side_by_side -- --rows p2p,gateway`.
//!
//! What makes its figures comparable:
//!
//! - A row measures its neighbour and `imd` in turn, in one run, with the same load from the same code.
//! - The server is a process of its own. Where the system allows it, it has one core to itself, and the load another.
//! - The server answers nothing that it has not done, and the load checks it: every message must be acknowledged once and arrive
//!   once, or there is no figure.
//!
//! | modules | what they do |
//! |---|---|
//! | `rows`, `table` | what is measured, and how it is printed |
//! | `server`, `serve`, `kind`, `peers`, `affinity` | the processes that are measured |
//! | `echo`, `mock`, `hub`, `log` | the bare servers |
//! | `load`, `in_turn`, `memory`, `wire` | what all loads share |
//! | `messages` with `imd_peer`, `nats`, `mqtt`, `redis` | messages between users: one loop for all servers |
//! | `carried` | requests over TLS and over WebSockets |
//! | `latency`, `cores`, `fair`, `growth`, `idle`, `requests`, `connects` | the other loads |
//! | `budget`, `lockstep` | what one message costs |

mod affinity;
mod budget;
mod carried;
mod connects;
mod cores;
mod echo;
mod fair;
mod growth;
mod hub;
mod idle;
mod imd_peer;
mod in_turn;
mod kind;
mod latency;
mod load;
mod lockstep;
mod log;
mod memory;
mod messages;
mod mock;
mod mqtt;
mod nats;
mod peers;
mod redis;
mod requests;
mod rows;
mod serve;
mod server;
mod table;
mod wire;

use std::error::Error;
use std::thread::available_parallelism;

use clap::{Parser, Subcommand};
use imd::load::{Pattern, Until, pin};
use tokio::runtime::Builder;

use idle::Clients;
use rows::{Options, Row};
use serve::Serve;
use table::Table;

/// The allocator of the program `imd`, for both sides.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fault = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only these rows: gateway, connect, p2p, p2p-durable, ids, ring, latency,
    /// latency-durable, hot, hot-durable, cores, cores-durable, group,
    /// group-durable, fair, fair-durable, idle, many, kept, growth,
    /// growth-durable, ws, tls, lab, nats, mosquitto, jetstream, jetstream-sync, redis,
    /// redis-sync
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// How often each side of a row is measured; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each measurement takes; latencies take longer, heartbeats as
    /// long as they are apart
    #[arg(long, default_value_t = 2.0)]
    secs: f64,
    /// Who gets the messages, in all rows but `ring` and those of groups
    #[arg(long, value_enum, default_value_t)]
    pattern: Pattern,
    /// When a message makes room for the next one
    #[arg(long, value_enum, default_value_t)]
    until: Until,
    /// 18,000 idle connections in place of 2,000, with a heartbeat every 10 s,
    /// and ten million stored messages in place of a million
    #[arg(long)]
    full: bool,
    /// Prints the table as it stands in docs/performance.md
    #[arg(long)]
    markdown: bool,
}

#[derive(Subcommand)]
enum Command {
    /// One server, for the load in another process
    Serve(Serve),
    /// The clients of an idle server, for the load in another process
    Hearts(Clients),
    /// Takes memory and gives it back
    TakeMemory,
    /// Counts what one message costs, with strace and valgrind where they are installed
    Budget,
}

fn main() -> Result<(), Fault> {
    let args = Args::parse();
    match &args.command {
        Some(Command::Serve(serve)) => return serve::run(serve),
        Some(Command::TakeMemory) => {
            memory::take();
            return Ok(());
        }
        _ => {}
    }
    // Before this process has only one of them.
    let cores = available_parallelism().map_or(1, usize::from);
    let is_pinned = pin(affinity::LOAD);
    imd::listener::raise_file_limit();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.command {
            Some(Command::Budget) => budget::print().await,
            Some(Command::Hearts(clients)) => idle::serve(&clients).await,
            _ => {
                if !is_pinned {
                    eprintln!("server and load share all cores: the figures are no single core's");
                }
                measure(&args, cores).await
            }
        }
    })
}

async fn measure(args: &Args, cores: usize) -> Result<(), Fault> {
    let mut table = Table::begin(args.markdown);
    let options = Options {
        is_full: args.full,
        pattern: args.pattern,
        until: args.until,
        cores,
    };
    for row in rows::all(options) {
        if !args.rows.is_empty() && !args.rows.iter().any(|name| name == row.name) {
            continue;
        }
        if let Some(why) = obstacle(&row, cores)? {
            table.missing(&row, why);
            continue;
        }
        let (mut neighbour, mut imd) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            let [base, ours] = row.round(args.secs).await?;
            neighbour.push(base);
            imd.push(ours);
        }
        table.row(&row, &neighbour, &imd);
    }
    table.end();
    Ok(())
}

/// Returns why a row can't be measured on a machine with this number of cores, if so.
fn obstacle(row: &Row, cores: usize) -> Result<Option<&'static str>, Fault> {
    if row.imd.cores.len() > cores {
        return Ok(Some("too few cores"));
    }
    if !server::executable(row.neighbour.kind)?.is_file() {
        return Ok(Some("not built: docs/performance.md"));
    }
    peers::obstacle(row.neighbour)
}

//! Measures `imd` beside the least that could do the same work: an echo, a mock of the path of a message, and brokers
//! where they are installed. One run measures each row in turn, alternating between the baseline and `imd`.
//!
//! `cargo run --release --example side_by_side -- --rows p2p,gateway`. Where the system allows it, the server has one
//! core to itself and the load another.

mod affinity;
mod budget;
mod connects;
mod echo;
mod fair;
mod growth;
mod hub;
mod idle;
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
mod requests;
mod rows;
mod serve;
mod server;
mod table;
mod wire;

use std::error::Error;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use idle::Clients;
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
    /// Only these rows: gateway, connect, p2p, p2p-durable, latency,
    /// latency-durable, group, group-durable, fair, fair-durable, idle, many,
    /// growth, growth-durable, lab, nats, mosquitto
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// How often each side of a row is measured; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each measurement takes; latencies take longer, heartbeats as
    /// long as they are apart
    #[arg(long, default_value_t = 2.0)]
    secs: f64,
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
    let is_pinned = affinity::pin(affinity::LOAD);
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
                measure(&args).await
            }
        }
    })
}

async fn measure(args: &Args) -> Result<(), Fault> {
    let table = Table {
        is_markdown: args.markdown,
    };
    table.head();
    for row in rows::all(args.full) {
        if !args.rows.is_empty() && !args.rows.iter().any(|name| name == row.name) {
            continue;
        }
        if let Some(program) = row.baseline.kind.broker()
            && !peers::is_installed(program)
        {
            table.missing(&row, "not installed");
            continue;
        }
        if !server::executable(row.baseline.kind)?.is_file() {
            table.missing(&row, "not built: docs/performance.md");
            continue;
        }
        let (mut baseline, mut imd) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            let [base, ours] = row.round(args.secs).await?;
            baseline.push(base);
            imd.push(ours);
        }
        table.row(&row, &baseline, &imd);
    }
    Ok(())
}

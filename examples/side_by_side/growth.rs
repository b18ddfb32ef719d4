//! What a message costs `imd` when it holds little, and when it holds much; and how much memory a stored message takes.
//!
//! Serves the rows `growth`, `growth-durable` and `kept`. Nothing is measured before the server is at rest: what it does with the
//! messages that were stored before is no cost of those that come.

use std::time::{Duration, Instant};

use imd::load::LatencyHistogram;

use crate::Fault;
use crate::load::{Sample, log_in};
use crate::messages::{Traffic, Users};
use crate::server::{Server, Setup};

/// The first of the idle users, beyond the users who write to one another.
const IDLE: i64 = 1_000_000;

/// The processor time that a server at rest takes in [`MOMENT`] is less than this.
const AT_REST: Duration = Duration::from_millis(5);
const MOMENT: Duration = Duration::from_millis(300);

/// How long a server may take to come to rest: its engine may have to merge what was stored.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until the server takes hardly any processor time, which is measured over real time.
async fn settled(server: &Server) -> Result<(), Fault> {
    let begun = Instant::now();
    loop {
        let before = server.cpu();
        tokio::time::sleep(MOMENT).await;
        if server.cpu() - before < AT_REST {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err("the server does not come to rest".into());
        }
    }
}

/// Measures the processor time of each delivery, in microseconds, with as many idle connections as the setup has.
pub async fn run(server: &Server, traffic: Traffic, secs: f64) -> Result<Sample, Fault> {
    settled(server).await?;
    let mut idle = Vec::new();
    for uid in (IDLE..).take(server.setup.idle) {
        idle.push(log_in(&server.access, uid).await?);
    }
    let users = Users::connect(server.setup.kind, &server.access, traffic).await?;
    Ok(users.rate(server, secs).await?.cost())
}

/// Measures the memory that each stored message takes: the resident memory of the server, less that of one without messages.
pub fn kept(server: &Server) -> Result<Sample, Fault> {
    let empty = Server::start(Setup {
        stored: 0,
        ..server.setup
    })?;
    let kept = server.resident()?.saturating_sub(empty.resident()?);
    Ok(Sample {
        values: vec![kept as f64 / server.setup.stored as f64],
        cpu: f64::NAN,
        busy: [f64::NAN; 2],
        latency: LatencyHistogram::default(),
    })
}

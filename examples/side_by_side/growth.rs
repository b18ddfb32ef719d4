//! What a message costs an `imd` that has little to hold, and one that has much.

use std::time::{Duration, Instant};

use crate::Fault;
use crate::load::{Sample, log_in};
use crate::messages;
use crate::server::Server;

/// Beyond the users who write to one another.
const IDLE: i64 = 1_000_000;

/// A server at rest takes less than this in a moment.
const AT_REST: Duration = Duration::from_millis(5);
const MOMENT: Duration = Duration::from_millis(300);

/// An engine that was filled may have to merge for so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until the server is at rest.
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

/// Tells the processor time for each delivery in microseconds, beside as many idle connections as the server is to have.
pub async fn run(
    server: &Server,
    users: i64,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    settled(server).await?;
    let mut idle = Vec::new();
    for uid in (IDLE..).take(server.setup.idle) {
        idle.push(log_in(&server.access, uid).await?);
    }
    let mut sample = messages::p2p(server, users, outstanding, secs).await?;
    sample.values = vec![sample.cpu];
    Ok(sample)
}

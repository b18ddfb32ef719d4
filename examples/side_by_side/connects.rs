//! Connect, ask, close, over and over: what it costs a server to get to know somebody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Fault;
use crate::load::{Crowd, Sample, ask, connect};
use crate::requests::{check, request};
use crate::server::Server;

/// So many do it at the same time.
const WORKERS: usize = 32;

/// Tells connections per second.
pub async fn run(server: &Server, secs: f64) -> Result<Sample, Fault> {
    let made = Arc::new(AtomicU64::new(0));
    let mut crowd = Crowd::default();
    for _ in 0..WORKERS {
        let (addr, made) = (server.gateway, Arc::clone(&made));
        crowd.add_task(async move {
            loop {
                if let Err(fault) = once(addr).await {
                    return fault;
                }
                made.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    Sample::rate(server, &mut crowd, secs, || made.load(Ordering::Relaxed)).await
}

async fn once(addr: SocketAddr) -> Result<(), Fault> {
    let mut stream = connect(addr).await?;
    check(&ask(&mut stream, &request()).await?)
}

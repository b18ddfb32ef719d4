//! What a new connection costs a server: connect, ask, close, again and again.
//!
//! Serves the row `connect`. A fixed number of clients do it at the same time, each as fast as the server answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imd::load::Connection;

use crate::Fault;
use crate::load::{Crowd, Sample};
use crate::requests::{check, request};
use crate::server::Server;

/// How many connections are open at the same time.
const WORKERS: usize = 32;

/// Connects, asks and closes. The figure is connections per second.
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
    let mut connection: Connection = Connection::connect(addr).await?;
    check(&connection.ask(&request()).await?)
}

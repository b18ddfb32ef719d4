//! Requests for the address of an access server, each answered by one frame of the gateway or of the echo.
//!
//! Serves the rows `gateway`, `many` and `connect`. Requests are as long as answers, so that both servers move the same bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::Instant;

use bytes::BytesMut;
use imd::codec;
use imd::load::{Connection, Driver, FieldTable, LatencyHistogram, LengthPrefixed};
use imd::proto::{Cmd, ReqAccessServer};
use parking_lot::Mutex;

use crate::Fault;
use crate::load::{Crowd, Sample};
use crate::server::Server;
use crate::wire;

/// Returns a request that is as long as the gateway's answer, so that the echo moves the same number of bytes.
pub fn request() -> BytesMut {
    let addr = "127.0.0.1:65535";
    wire::frame(&ReqAccessServer {
        cmd: Cmd::ReqAccessServer.number(),
        // The answer has an address and "ok", each with the two bytes of its field.
        cmd_str: "x".repeat(addr.len() + 4),
    })
}

/// Checks that a request was answered with an address, or sent back.
pub fn check(answer: &[u8]) -> Result<(), Fault> {
    let answer = FieldTable::read(answer);
    if answer.cmd() != Some(Cmd::ReqAccessServer) || answer.number(3) != 0 {
        return Err("a request was refused".into());
    }
    Ok(())
}

struct Asker {
    request: BytesMut,
    outstanding: usize,
    asked: Option<Instant>,
    answered: Arc<AtomicU64>,
    latencies: Arc<Mutex<LatencyHistogram>>,
}

impl Driver for Asker {
    type Scanner = LengthPrefixed;
    type Error = Fault;

    fn react(&mut self, _: &Context<'_>, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        let mut answers = 0;
        for (message, _) in codec::frames(frames) {
            check(message)?;
            answers += 1;
        }
        match self.asked {
            None => answers = self.outstanding,
            Some(asked) if self.outstanding == 1 && answers > 0 => {
                self.latencies.lock().record_duration(asked.elapsed());
            }
            Some(_) => {}
        }
        if answers > 0 {
            self.asked = Some(Instant::now());
            self.answered.fetch_add(answers as u64, Ordering::Relaxed);
            for _ in 0..answers {
                out.extend_from_slice(&self.request);
            }
        }
        Ok(())
    }
}

/// Keeps `outstanding` requests of each connection unanswered. The figure is requests per second. Latencies are measured with
/// one outstanding only: to measure each of millions would be a good part of the load's work.
pub async fn closed_loop(
    server: &Server,
    connections: usize,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let answered = Arc::new(AtomicU64::new(0));
    let latencies = Arc::<Mutex<LatencyHistogram>>::default();
    let mut connected = Vec::new();
    for _ in 0..connections {
        connected.push(Connection::connect(server.gateway).await?);
    }
    let mut crowd = Crowd::default();
    for connection in connected {
        let asker = Asker {
            request: request(),
            outstanding,
            asked: None,
            answered: Arc::clone(&answered),
            latencies: Arc::clone(&latencies),
        };
        crowd.add(connection, asker);
    }
    let count = || answered.load(Ordering::Relaxed);
    let mut sample = Sample::rate(server, &mut crowd, secs, count).await?;
    sample.latency = latencies.lock().clone();
    Ok(sample)
}

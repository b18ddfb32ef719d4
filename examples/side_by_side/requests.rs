//! Requests for an address, each answered by one frame: gateway and echo.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::BytesMut;
use imd::proto::{Cmd, ReqAccessServer};
use parking_lot::Mutex;

use crate::Fault;
use crate::link::{Prefixed, messages};
use crate::load::{Client, Crowd, Sample, connect};
use crate::server::Server;
use crate::table::at_share;
use crate::wire::{self, Flat};

/// A request that is as long as the gateway's answer to it, so that the echo moves the same bytes.
pub fn request() -> BytesMut {
    let addr = "127.0.0.1:65535";
    wire::frame(&ReqAccessServer {
        cmd: Cmd::ReqAccessServer.number(),
        // The answer has an address and "ok", each in a field.
        cmd_str: "x".repeat(addr.len() + 4),
    })
}

/// Whether a request was answered well, or sent back.
pub fn check(answer: &[u8]) -> Result<(), Fault> {
    let answer = Flat::read(answer);
    if !answer.is(Cmd::ReqAccessServer) || answer.number(3) != 0 {
        return Err("a request was refused".into());
    }
    Ok(())
}

struct Asker {
    request: BytesMut,
    outstanding: usize,
    asked: Option<Instant>,
    answered: Arc<AtomicU64>,
    latencies: Arc<Mutex<Vec<u32>>>,
}

impl Client for Asker {
    type Framing = Prefixed;

    fn turn(&mut self, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        let mut answers = 0;
        for message in messages(frames) {
            check(message)?;
            answers += 1;
        }
        match self.asked {
            None => answers = self.outstanding,
            Some(asked) if self.outstanding == 1 && answers > 0 => {
                let micros = asked.elapsed().as_micros();
                self.latencies.lock().push(micros as u32);
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

/// Each connection keeps so many requests under way. Tells the rate, and with one outstanding the slowest percent in
/// milliseconds.
pub async fn closed_loop(
    server: &Server,
    connections: usize,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let answered = Arc::new(AtomicU64::new(0));
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(server.gateway).await?);
    }
    let mut crowd = Crowd::default();
    for stream in streams {
        let asker = Asker {
            request: request(),
            outstanding,
            asked: None,
            answered: Arc::clone(&answered),
            latencies: Arc::clone(&latencies),
        };
        crowd.add(stream, asker);
    }
    let count = || answered.load(Ordering::Relaxed);
    let mut sample = Sample::rate(server, &mut crowd, secs, count).await?;
    let millis = latencies
        .lock()
        .iter()
        .map(|&micros| f64::from(micros) / 1e3)
        .collect::<Vec<_>>();
    if !millis.is_empty() {
        sample.values.push(at_share(millis, 0.99));
    }
    Ok(sample)
}

//! Many who are logged in and say nothing but that they are still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::Fault;
use crate::latency::paced;
use crate::link::{Prefixed, messages};
use crate::load::{Client, Crowd, Cue, Sample, Stopwatch, log_in};
use crate::server::Server;
use crate::wire;

/// For memory to be given back, and timers to settle.
const REST: Duration = Duration::from_millis(500);

struct Heart {
    uid: i64,
    beat: Arc<Cue>,
    /// By all hearts.
    answered: Arc<AtomicUsize>,
}

impl Client for Heart {
    type Framing = Prefixed;

    fn begin(&mut self, task: &Waker) {
        self.beat.wakes(task);
    }

    fn turn(&mut self, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        for _ in 0..self.beat.take() {
            wire::put_ping(self.uid, out);
        }
        let answers = messages(frames).count();
        self.answered.fetch_add(answers, Ordering::Relaxed);
        Ok(())
    }
}

/// Tells the server's memory for each connection in bytes, and its processor time for each heartbeat in microseconds,
/// where each connection gives one in `every`.
pub async fn run(server: &Server, connections: usize, every: Duration) -> Result<Sample, Fault> {
    let before = server.resident()?;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut crowd = Crowd::default();
    let mut beats = Vec::new();
    for uid in 1..=connections as i64 {
        let stream = log_in(server, uid).await?;
        let beat = Arc::new(Cue::default());
        beats.push(Arc::clone(&beat));
        let answered = Arc::clone(&answered);
        crowd.add(
            stream,
            Heart {
                uid,
                beat,
                answered,
            },
        );
    }
    crowd.for_(REST).await?;
    let memory = server.resident()?.saturating_sub(before);

    let watch = Stopwatch::start(server);
    let beat = |n: usize| beats[n].give(1);
    let pace = every / connections as u32;
    crowd
        .until(paced(Instant::now(), pace, connections, beat))
        .await?;
    let mut sample = watch.stop(server, connections as f64);
    crowd.for_(REST).await?;
    if answered.load(Ordering::Relaxed) != connections {
        return Err("not every heartbeat was answered once".into());
    }
    sample.values = vec![memory as f64 / connections as f64, sample.cpu];
    Ok(sample)
}

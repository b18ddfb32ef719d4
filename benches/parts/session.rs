//! Benchmarks of queueing notifies for a session of `imd::session`.
//!
//! No task writes to a socket here, so nothing empties the queue: each run queues many notifies, which merge into one.
//! However many there are, they must take the memory of one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use imd::clock::RealClock;
use imd::id::Version;
use imd::session::{Deadlines, Session, SessionIds, SessionManager};

/// How many notifies a run queues.
const MANY: usize = 1_000;

/// Opens a session that no task serves.
fn session() -> Arc<Session> {
    let minute = Duration::from_secs(60);
    let deadlines = Deadlines {
        login: None,
        idle: minute,
        half_frame: minute,
        write: minute,
    };
    let clock = Arc::new(RealClock::default());
    let manager = SessionManager::new(SessionIds::default(), clock, deadlines, usize::MAX);
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    manager.open(addr, addr)
}

/// Measures a call that queues something for a session, [`MANY`] times in a run.
fn queue(bencher: Bencher, queue: impl Fn(&Session) + Sync) {
    bencher
        .counter(ItemsCount::new(MANY))
        .with_inputs(session)
        .bench_refs(|session| {
            for _ in 0..MANY {
                queue(session);
            }
        });
}

/// Queues notifies, which merge into one.
#[divan::bench]
fn queue_notifies(bencher: Bencher) {
    queue(bencher, |session| {
        let _ = session.notify(Version(1), Version(2));
    });
}

//! Tests the checker itself: whole stacks in this process run over a simulated store that crashes and may have a bug.
//!
//! A checker that finds nothing proves nothing unless it finds what is wrong. So every planted bug must lead to a breach, and
//! the store without a bug to none. A new promise of the checker needs a new [`Bug`] here.

mod bug;
mod state;
mod store;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use imd::{Config, Imd};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::{Builder, Runtime};

use crate::torture::breach::{Breach, BreachKind};
use crate::torture::checker::Checker;
use crate::torture::load::{Load, ServerAddrs, register};
use crate::torture::read_back::read_back;
use bug::Bug;
use store::SimStore;

/// Runs stacks over one simulated store, one after the other. Each run ends with a crash under load.
struct Simulation {
    store: Arc<SimStore>,
    checker: Checker,
    rng: StdRng,
    /// How many runs there were.
    runs: u64,
    /// The runtime of all clients.
    clients: Runtime,
}

impl Simulation {
    fn new(bug: Option<Bug>, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Simulation {
            store: Arc::new(SimStore::new(bug, StdRng::from_rng(&mut rng))),
            checker: Checker::default(),
            rng,
            runs: 0,
            clients: Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// Starts a stack, reads everything back and compares it, and puts the stack under load until the store crashes. Returns
    /// the broken promises.
    fn run(&mut self) -> Vec<Breach> {
        self.runs += 1;
        // The stack has a runtime of its own. When that is dropped, every task stops where it is, as in a crash.
        let server = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut config = Config::ephemeral();
        // The notify of a login tells the read mark, which the checker needs before the first page.
        config.session.first_notify = Duration::ZERO;
        let store = Arc::clone(&self.store);
        let imd = server
            .block_on(Imd::start_with_store(config, store))
            .unwrap();
        let addrs = ServerAddrs::try_from(&imd.addresses()).unwrap();
        let Simulation {
            store,
            checker,
            rng,
            runs,
            clients,
        } = self;
        let read = clients.block_on(read_back(&addrs, checker, rng));
        let mut breaches = checker.compare(&read.inboxes.unwrap_or_default());
        breaches.extend(checker.take(read.events));
        if !breaches.is_empty() {
            server.shutdown_background();
            return breaches;
        }
        let registered = clients.block_on(register(&addrs, checker));
        breaches.extend(checker.take(registered));
        let commits = rng.random_range(20..100);
        store.crash_after(commits);
        let events = clients.block_on(async {
            let end = Load::start(&addrs, checker, *runs, rng).finish();
            tokio::pin!(end);
            tokio::select! {
                // Some bugs make every client stop before the crash.
                events = &mut end => events,
                () = store.crashed() => {
                    server.shutdown_background();
                    end.await
                }
            }
        });
        // Dropped after the runtime: otherwise the stack would tell its clients that it shuts down, which a crash does not.
        drop(imd);
        store.recover();
        breaches.extend(checker.take(events));
        breaches
    }
}

#[test]
fn a_store_without_a_bug_breaks_no_promise() {
    let mut simulation = Simulation::new(None, 1);
    for run in 0..12 {
        let breaches = simulation.run();
        assert!(breaches.is_empty(), "in run {run}: {breaches:#?}");
    }
    // The runs must have had something to lose.
    assert!(simulation.checker.acknowledged() > 1_000);
    assert!(simulation.checker.groups().len() > 2);
    assert!(simulation.checker.token(1).is_some());
}

/// Returns the kinds of the breaches in the first run in which a bug is found.
fn breaches_by(bug: Bug) -> Vec<BreachKind> {
    let mut simulation = Simulation::new(Some(bug), 2);
    for _ in 0..20 {
        let breaches = simulation.run();
        if !breaches.is_empty() {
            return breaches.iter().map(|breach| breach.kind).collect();
        }
    }
    panic!("{bug:?} was not found");
}

#[test]
fn every_planted_bug_is_found() {
    for (bug, expected) in Bug::ALL {
        let found: HashSet<BreachKind> = breaches_by(bug).into_iter().collect();
        let is_expected = expected.iter().any(|kind| found.contains(kind));
        assert!(is_expected, "{bug:?} was found as {found:?}");
    }
}

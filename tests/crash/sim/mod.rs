//! Tests the checker itself: whole stacks in this process run over a simulated store that crashes and may have a bug.

mod bug;
mod state;
mod store;

use std::collections::HashSet;
use std::sync::Arc;

use imd::{Config, Imd};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::{Builder, Runtime};

use crate::torture::breach::{Breach, Charge};
use crate::torture::checker::Checker;
use crate::torture::load::{Load, Places, register};
use crate::torture::read_back::read_back;
use bug::Bug;
use store::SimStore;

/// Runs stacks over one store, one after the other. Each is ended by a crash under load.
struct Lives {
    store: Arc<SimStore>,
    checker: Checker,
    rng: StdRng,
    count: u64,
    clients: Runtime,
}

impl Lives {
    fn new(bug: Option<Bug>, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Lives {
            store: Arc::new(SimStore::new(bug, StdRng::from_rng(&mut rng))),
            checker: Checker::default(),
            rng,
            count: 0,
            clients: Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// One life: start, read back, compare, load, crash.
    fn live(&mut self) -> Vec<Breach> {
        self.count += 1;
        // In a runtime of its own: when that is dropped, everything stops where it is, as in a crash.
        let server = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let config = Config::ephemeral();
        let store = Arc::clone(&self.store);
        let imd = server
            .block_on(Imd::start_with_store(config, store))
            .unwrap();
        let places = Places::try_from(&imd.addresses()).unwrap();
        let Lives {
            store,
            checker,
            rng,
            count,
            clients,
        } = self;
        let read = clients.block_on(read_back(&places, checker, rng));
        let mut breaches = checker.compare(&read.inboxes.unwrap_or_default());
        breaches.extend(checker.take(read.events));
        if !breaches.is_empty() {
            server.shutdown_background();
            return breaches;
        }
        let registered = clients.block_on(register(&places, checker));
        breaches.extend(checker.take(registered));
        let commits = rng.random_range(20..100);
        store.crash_after(commits);
        let events = clients.block_on(async {
            let end = Load::start(&places, checker, *count, rng).end();
            tokio::pin!(end);
            tokio::select! {
                // Nobody gets on any more, of a bug.
                events = &mut end => events,
                () = store.crashed() => {
                    server.shutdown_background();
                    end.await
                }
            }
        });
        // Dropped after the runtime: otherwise it would tell its clients that it ends.
        drop(imd);
        store.recover();
        breaches.extend(checker.take(events));
        breaches
    }
}

#[test]
fn a_store_without_a_bug_breaks_no_promise() {
    let mut lives = Lives::new(None, 1);
    for life in 0..12 {
        let breaches = lives.live();
        assert!(breaches.is_empty(), "in life {life}: {breaches:#?}");
    }
    // That was no empty exercise.
    assert!(lives.checker.acknowledged() > 1_000);
    assert!(lives.checker.groups().len() > 2);
    assert!(lives.checker.token(1).is_some());
}

/// Returns the charges of the first breaches that a bug leads to.
fn charges(bug: Bug) -> Vec<Charge> {
    let mut lives = Lives::new(Some(bug), 2);
    for _ in 0..20 {
        let breaches = lives.live();
        if !breaches.is_empty() {
            return breaches.iter().map(|breach| breach.charge).collect();
        }
    }
    panic!("{bug:?} was not found");
}

#[test]
fn every_planted_bug_is_found() {
    for (bug, expected) in Bug::ALL {
        let charges = charges(bug);
        let is_right = expected.iter().any(|charge| charges.contains(charge));
        let charges: HashSet<Charge> = charges.into_iter().collect();
        assert!(is_right, "{bug:?} was found as {charges:?}");
    }
}

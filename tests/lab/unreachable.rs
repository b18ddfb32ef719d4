//! A registry that can't be reached: the gateway goes on with its last list, and access servers keep their leases.
//!
//! The registry of these tests fails every call for as long as a test wants it to. Proves `access/registration` and
//! `gateway`.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imd::clock::{Clock, RealClock};
use imd::config::Strategy;
use imd::registry::{Lease, MemoryRegistry, Record, Registry, RenewError, Unreachable};
use imd::{Config, Imd};
use tracing::field::{Field, Visit};
use tracing::span;

use crate::servers::{addrs, handed_out, registered, server, user_at};
use crate::support::{Wire, ephemeral, gateway, start};

const SECOND: Duration = Duration::from_secs(1);
const ALL: [&str; 3] = ["access-1", "access-2", "access-3"];

fn config() -> Config {
    let mut config = ephemeral().manual_clock();
    config.gateway.strategy = Strategy::RoundRobin;
    config
}

/// A registry whose leases never run out, and which fails when the test asks for it.
#[derive(Debug)]
struct Failing {
    memory: MemoryRegistry,
    fails: AtomicBool,
    registrations: AtomicUsize,
    /// How many renewals were asked for, including those that failed.
    renewals: AtomicUsize,
}

impl Failing {
    fn new() -> Arc<Failing> {
        let clock: Arc<dyn Clock> = Arc::new(RealClock::default());
        Arc::new(Failing {
            memory: MemoryRegistry::new(clock),
            fails: AtomicBool::new(false),
            registrations: AtomicUsize::new(0),
            renewals: AtomicUsize::new(0),
        })
    }

    fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    fn reached(&self) -> Result<&MemoryRegistry, Unreachable> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Unreachable::new("no route to host"));
        }
        Ok(&self.memory)
    }

    fn registrations(&self) -> usize {
        self.registrations.load(Ordering::SeqCst)
    }

    fn renewals(&self) -> usize {
        self.renewals.load(Ordering::SeqCst)
    }
}

const FOREVER: Duration = Duration::from_secs(1 << 30);

#[async_trait::async_trait]
impl Registry for Failing {
    async fn register(&self, record: Record, _: Duration) -> Result<Lease, Unreachable> {
        self.registrations.fetch_add(1, Ordering::SeqCst);
        self.reached()?.register(record, FOREVER).await
    }

    async fn renew(&self, lease: &Lease, record: Record, _: Duration) -> Result<(), RenewError> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.reached()?.renew(lease, record, FOREVER).await
    }

    async fn revoke(&self, lease: &Lease) -> Result<(), Unreachable> {
        self.reached()?.revoke(lease).await
    }

    async fn list(&self) -> Result<Vec<Record>, Unreachable> {
        self.reached()?.list().await
    }
}

/// Collects the warnings of this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Collects warnings for as long as the guard is held.
    fn kept(&self) -> (tracing::Dispatch, tracing::subscriber::DefaultGuard) {
        // While there is only one subscriber, tracing caches for all threads whether it wants a message, and the first
        // thread to log it decides. Tests on other threads have no subscriber, so their answer would be no. With a
        // second subscriber, every subscriber is asked.
        let other = tracing::Dispatch::new(Warnings::default());
        let kept = tracing::subscriber::set_default(self.clone());
        tracing::callsite::rebuild_interest_cache();
        (other, kept)
    }

    fn with(&self, part: &str) -> usize {
        let warnings = self.0.lock().unwrap();
        warnings.iter().filter(|line| line.contains(part)).count()
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(message.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn the_gateway_keeps_its_last_list_and_warns_once() {
    let warnings = Warnings::default();
    let _kept = warnings.kept();
    let registry = Failing::new();
    let imd = Imd::start_with_registry(config(), registry.clone()).await;
    let imd = imd.unwrap();
    for outage in 1..=2 {
        registry.fail(true);
        imd.clock().advance(60 * SECOND).await;
        assert_eq!(handed_out(&imd).await, addrs(&imd, &ALL));
        assert_eq!(warnings.with("the gateway keeps its list"), outage);
        assert_eq!(warnings.with("not registered"), 3 * outage);
        registry.fail(false);
        imd.clock().advance(5 * SECOND).await;
    }
    server(&imd, "access-1").stop().await;
    imd.clock().advance(5 * SECOND).await;
    let rest = addrs(&imd, &["access-2", "access-3"]);
    assert_eq!(handed_out(&imd).await, rest);
}

#[tokio::test]
async fn a_failed_heartbeat_is_tried_again_and_registers_no_second_lease() {
    let registry = Failing::new();
    let imd = Imd::start_with_registry(config(), registry.clone()).await;
    let imd = imd.unwrap();
    assert_eq!((registry.registrations(), registry.renewals()), (3, 0));
    registry.fail(true);
    imd.clock().advance(30 * SECOND).await;
    assert_eq!((registry.registrations(), registry.renewals()), (3, 3 * 6));
    registry.fail(false);
    imd.clock().advance(5 * SECOND).await;
    assert_eq!((registry.registrations(), registry.renewals()), (3, 3 * 7));
}

#[tokio::test]
async fn servers_start_without_a_registry_and_register_when_it_is_reachable() {
    let registry = Failing::new();
    registry.fail(true);
    let imd = Imd::start_with_registry(config(), registry.clone()).await;
    let imd = imd.unwrap();
    user_at(&imd, "access-2", 1).await.ping().await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    assert_eq!(wire.ask().await.err_code, 92001);
    registry.fail(false);
    imd.clock().advance(5 * SECOND).await;
    assert_eq!(registered(&imd).await, ALL);
    imd.clock().advance(5 * SECOND).await;
    assert_eq!(handed_out(&imd).await, addrs(&imd, &ALL));
}

#[tokio::test]
async fn a_server_that_can_not_deregister_stops_in_time() {
    let registry = Failing::new();
    let imd = Imd::start_with_registry(config(), registry.clone()).await;
    let imd = imd.unwrap();
    registry.fail(true);
    server(&imd, "access-1").stop().await;
    registry.fail(false);
    assert_eq!(registered(&imd).await, ALL, "its lease has to run out");
    assert_eq!(imd.shutdown().await.unfinished, 0);
}

#[tokio::test]
async fn leases_that_run_out_while_the_registry_is_disconnected_are_registered_again() {
    let imd = start(config()).await;
    imd.registry().disconnect();
    imd.registry().disconnect();
    imd.clock().advance(60 * SECOND).await;
    assert_eq!(registered(&imd).await, [] as [&str; 0]);
    assert_eq!(handed_out(&imd).await, addrs(&imd, &ALL));
    imd.registry().reconnect();
    assert_eq!(registered(&imd).await, [] as [&str; 0]);
    imd.clock().advance(5 * SECOND).await;
    assert_eq!(registered(&imd).await, ALL);
}

#[tokio::test]
async fn a_reset_ends_the_outage() {
    let imd = start(config()).await;
    imd.registry().disconnect();
    imd.clock().advance(60 * SECOND).await;
    imd.reset().await.unwrap();
    assert_eq!(registered(&imd).await, ALL);
    assert_eq!(handed_out(&imd).await, addrs(&imd, &ALL));
}

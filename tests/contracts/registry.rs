//! The contract of `imd::registry`: access servers under leases, for every implementation.
//!
//! `suite` runs on the memory registry and on a truthful `FaultyRegistry`. Below it is what the faulty one does to
//! leases and lists, which the tests of the lab use.

use std::sync::Arc;
use std::time::Duration;

use imd::clock::{ClockControl, ManualClock};
use imd::registry::{
    FaultyRegistry, Lease, MemoryRegistry, Record, Registry, RenewError, Unreachable,
};

const TTL: Duration = Duration::from_secs(10);

fn record(name: &str, sessions: usize) -> Record {
    Record {
        name: name.into(),
        addr: "127.0.0.1:11000".into(),
        cpu: 2,
        sessions,
        renewals: 0,
    }
}

async fn list(registry: &dyn Registry) -> Vec<Record> {
    registry.list().await.unwrap()
}

async fn names(registry: &dyn Registry) -> Vec<String> {
    let records = list(registry).await.into_iter();
    records.map(|record| record.name).collect()
}

async fn register(registry: &dyn Registry, record: Record) -> Lease {
    registry.register(record, TTL).await.unwrap()
}

/// Renews a lease, and returns whether it was held.
async fn renew(registry: &dyn Registry, lease: &Lease, record: Record) -> bool {
    match registry.renew(lease, record, TTL).await {
        Ok(()) => true,
        Err(RenewError::LeaseLost) => false,
        Err(RenewError::Unreachable(error)) => panic!("{error}"),
    }
}

/// Runs the suite on registries that `make` creates: empty ones, which go by the clock.
async fn suite<R: Registry>(make: impl Fn(Arc<ManualClock>) -> R) {
    let fresh = || {
        let clock = Arc::new(ManualClock::default());
        (make(Arc::clone(&clock)), clock)
    };

    // Records are listed by name.
    let (registry, _) = fresh();
    assert_eq!(list(&registry).await, []);
    register(&registry, record("b", 1)).await;
    register(&registry, record("a", 2)).await;
    assert_eq!(list(&registry).await, [record("a", 2), record("b", 1)]);

    // A record is listed until its lease has run out, and no longer.
    let (registry, clock) = fresh();
    let lease = register(&registry, record("a", 0)).await;
    clock.advance(TTL - Duration::from_millis(1)).await;
    assert_eq!(names(&registry).await, ["a"]);
    clock.advance(Duration::from_millis(1)).await;
    assert_eq!(list(&registry).await, []);
    assert!(!renew(&registry, &lease, record("a", 0)).await);
    assert_eq!(
        list(&registry).await,
        [],
        "a lost lease brings nothing back"
    );

    // A renewal counts from the moment in which it is made, and replaces the record.
    let (registry, clock) = fresh();
    let lease = register(&registry, record("a", 0)).await;
    clock.advance(Duration::from_secs(9)).await;
    assert!(renew(&registry, &lease, record("a", 7)).await);
    clock.advance(Duration::from_secs(9)).await;
    assert_eq!(list(&registry).await, [record("a", 7)]);

    // A revoke takes the record off the list at once. A second one changes nothing.
    let (registry, _) = fresh();
    let lease = register(&registry, record("a", 0)).await;
    registry.revoke(&lease).await.unwrap();
    registry.revoke(&lease).await.unwrap();
    assert_eq!(list(&registry).await, []);

    // A name that is registered again belongs to the newer lease.
    let (registry, _) = fresh();
    let old = register(&registry, record("a", 1)).await;
    let new = register(&registry, record("a", 2)).await;
    assert!(!renew(&registry, &old, record("a", 9)).await);
    registry.revoke(&old).await.unwrap();
    assert_eq!(list(&registry).await, [record("a", 2)]);
    assert!(renew(&registry, &new, record("a", 3)).await);
}

#[tokio::test]
async fn the_memory_registry_keeps_the_contract() {
    suite(|clock| MemoryRegistry::new(clock)).await;
}

/// Returns a registry in memory behind a `FaultyRegistry` that tells the truth.
fn faulty(clock: Arc<ManualClock>) -> FaultyRegistry {
    let memory = Arc::new(MemoryRegistry::new(clock.clone()));
    FaultyRegistry::new(memory, clock)
}

#[tokio::test]
async fn the_faulty_registry_keeps_the_contract_while_it_tells_the_truth() {
    suite(faulty).await;
}

#[tokio::test]
async fn a_lease_is_not_lost_because_the_registry_is_unreachable() {
    let registry = faulty(Arc::default());
    let lease = register(&registry, record("a", 0)).await;
    registry.disconnect();
    assert!(Registry::list(&registry).await.is_err());
    let error = registry.register(record("b", 0), TTL).await.unwrap_err();
    assert!(error.to_string().contains("can't be reached"), "{error}");
    assert!(registry.revoke(&lease).await.is_err());
    let renewed = registry.renew(&lease, record("a", 1), TTL).await;
    assert!(matches!(renewed, Err(RenewError::Unreachable(_))));
    registry.reconnect();
    assert!(renew(&registry, &lease, record("a", 2)).await);
    assert_eq!(list(&registry).await, [record("a", 2)]);
}

/// A registry in another process, which answers later; `None` if it can never be reached.
#[derive(Debug)]
struct Remote(Option<MemoryRegistry>);

impl Remote {
    async fn reached(&self) -> Result<&MemoryRegistry, Unreachable> {
        tokio::task::yield_now().await;
        self.0.as_ref().ok_or(Unreachable::new("no route to host"))
    }
}

#[async_trait::async_trait]
impl Registry for Remote {
    async fn register(&self, record: Record, ttl: Duration) -> Result<Lease, Unreachable> {
        self.reached().await?.register(record, ttl).await
    }

    async fn renew(&self, lease: &Lease, record: Record, ttl: Duration) -> Result<(), RenewError> {
        self.reached().await?.renew(lease, record, ttl).await
    }

    async fn revoke(&self, lease: &Lease) -> Result<(), Unreachable> {
        self.reached().await?.revoke(lease).await
    }

    async fn list(&self) -> Result<Vec<Record>, Unreachable> {
        self.reached().await?.list().await
    }
}

#[tokio::test]
async fn a_faulty_registry_over_a_remote_one_freezes_the_last_list_and_loses_leases_locally() {
    let clock = Arc::new(ManualClock::default());
    let remote = Remote(Some(MemoryRegistry::new(clock.clone())));
    let registry = FaultyRegistry::new(Arc::new(remote), clock);
    let lease = register(&registry, record("a", 0)).await;
    let listed = list(&registry).await;
    register(&registry, record("b", 0)).await;
    registry.freeze();
    assert_eq!(list(&registry).await, listed);
    registry.thaw();
    assert!(registry.expire("a"));
    assert_eq!(names(&registry).await, ["b"]);
    assert!(!renew(&registry, &lease, record("a", 0)).await);
    register(&registry, record("a", 0)).await;
    assert_eq!(names(&registry).await, ["a", "b"]);
}

#[tokio::test]
async fn an_unreachable_registry_behind_a_truthful_one_is_unreachable() {
    let registry = FaultyRegistry::new(Arc::new(Remote(None)), Arc::new(ManualClock::default()));
    assert!(registry.register(record("a", 0), TTL).await.is_err());
    let error = Registry::list(&registry).await.unwrap_err();
    assert!(error.to_string().ends_with("no route to host"), "{error}");
    registry.freeze();
    assert_eq!(list(&registry).await, []);
}

#[test]
fn a_record_has_the_json_form_of_the_original_stack() {
    assert_eq!(
        record("access-1", 0).key(),
        "/server/access_server_gateway/access-1"
    );
    let json = serde_json::to_value(record("access-1", 4)).unwrap();
    let form = serde_json::json!({"Name": "access-1", "IP": "127.0.0.1:11000", "CPU": 2, "Sessions": 4, "Renewals": 0});
    assert_eq!(json, form);
    let of_the_stack = r#"{"Name": "access-1", "IP": "127.0.0.1:11000", "CPU": 2}"#;
    assert_eq!(
        serde_json::from_str::<Record>(of_the_stack).unwrap(),
        record("access-1", 0)
    );
}

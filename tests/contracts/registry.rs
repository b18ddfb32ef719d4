use std::sync::Arc;
use std::time::Duration;

use imd::clock::{Clock, ManualClock};
use imd::registry::{LeaseLost, MemoryRegistry, Record, Registry};

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

async fn names(registry: &dyn Registry) -> Vec<String> {
    registry
        .list()
        .await
        .into_iter()
        .map(|record| record.name)
        .collect()
}

/// `make` gives an empty registry that goes by the clock.
async fn suite<R: Registry>(make: impl Fn(Arc<ManualClock>) -> R) {
    let fresh = || {
        let clock = Arc::new(ManualClock::default());
        (make(Arc::clone(&clock)), clock)
    };

    // Records are listed by name.
    let (registry, _) = fresh();
    assert_eq!(registry.list().await, []);
    registry.register(record("b", 1), TTL).await;
    registry.register(record("a", 2), TTL).await;
    assert_eq!(registry.list().await, [record("a", 2), record("b", 1)]);

    // A record is listed until its lease has run out, and not longer.
    let (registry, clock) = fresh();
    let lease = registry.register(record("a", 0), TTL).await;
    clock.advance(TTL - Duration::from_millis(1)).await;
    assert_eq!(names(&registry).await, ["a"]);
    clock.advance(Duration::from_millis(1)).await;
    assert_eq!(registry.list().await, []);
    assert_eq!(
        registry.renew(&lease, record("a", 0), TTL).await,
        Err(LeaseLost)
    );
    assert_eq!(
        registry.list().await,
        [],
        "a lost lease brings nothing back"
    );

    // Renewing counts from now, and replaces the record.
    let (registry, clock) = fresh();
    let lease = registry.register(record("a", 0), TTL).await;
    clock.advance(Duration::from_secs(9)).await;
    assert_eq!(registry.renew(&lease, record("a", 7), TTL).await, Ok(()));
    clock.advance(Duration::from_secs(9)).await;
    assert_eq!(registry.list().await, [record("a", 7)]);

    // Revoking takes it off at once; doing it again is nothing.
    let (registry, _) = fresh();
    let lease = registry.register(record("a", 0), TTL).await;
    registry.revoke(&lease).await;
    registry.revoke(&lease).await;
    assert_eq!(registry.list().await, []);

    // A name that is registered again belongs to the newer lease.
    let (registry, _) = fresh();
    let old = registry.register(record("a", 1), TTL).await;
    let new = registry.register(record("a", 2), TTL).await;
    assert_eq!(
        registry.renew(&old, record("a", 9), TTL).await,
        Err(LeaseLost)
    );
    registry.revoke(&old).await;
    assert_eq!(registry.list().await, [record("a", 2)]);
    assert_eq!(registry.renew(&new, record("a", 3), TTL).await, Ok(()));
}

#[tokio::test]
async fn the_memory_registry_keeps_the_contract() {
    suite(|clock| MemoryRegistry::new(clock)).await;
}

#[test]
fn a_record_has_the_stacks_form() {
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

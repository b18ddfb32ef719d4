//! The registry of the lab: it is frozen, ends a lease, or lists another address than the server's own.
//!
//! Proves what `FaultyRegistry` means for the gateway and its clients. Its contract is tested in `contracts/registry`.

use std::time::Duration;

use imd::Imd;
use imd::config::Strategy;

use crate::admin::call;
use crate::servers::{addrs, handed_out, registered, server, user_at};
use crate::support::{ephemeral, start};

const SECOND: Duration = Duration::from_secs(1);
const ALL: [&str; 3] = ["access-1", "access-2", "access-3"];

/// Starts a stack whose gateway hands out all the addresses that it knows in turn, and reads the list once in
/// `refresh`.
async fn reading_every(refresh: Duration) -> Imd {
    let mut config = ephemeral().manual_clock();
    config.gateway.strategy = Strategy::RoundRobin;
    config.gateway.refresh = refresh;
    start(config).await
}

#[tokio::test]
async fn while_the_registry_is_frozen_the_gateway_keeps_its_list() {
    let imd = reading_every(SECOND * 5).await;
    imd.registry().freeze();
    server(&imd, "access-1").kill().await;
    server(&imd, "access-2").stop().await;
    imd.add_access("access-4").await.unwrap();
    imd.clock().advance(SECOND * 60).await;
    assert_eq!(handed_out(&imd).await, addrs(&imd, &ALL));
    assert_eq!(registered(&imd).await, ALL);
    imd.registry().thaw();
    assert_eq!(handed_out(&imd).await, addrs(&imd, &ALL));
    imd.clock().advance(SECOND * 5).await;
    // Meanwhile the living servers have renewed their leases.
    assert_eq!(registered(&imd).await, ["access-3", "access-4"]);
    assert_eq!(
        handed_out(&imd).await,
        addrs(&imd, &["access-3", "access-4"])
    );
}

#[tokio::test]
async fn a_second_freeze_keeps_the_first_list_and_a_second_thaw_changes_nothing() {
    let imd = reading_every(SECOND * 5).await;
    imd.registry().thaw();
    imd.registry().freeze();
    server(&imd, "access-1").stop().await;
    imd.registry().freeze();
    assert_eq!(registered(&imd).await, ALL);
    imd.registry().thaw();
    imd.registry().thaw();
    assert_eq!(registered(&imd).await, ["access-2", "access-3"]);
}

#[tokio::test]
async fn an_expired_lease_is_gone_until_the_next_heartbeat() {
    let imd = reading_every(SECOND).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    assert!(imd.registry().expire("access-1"));
    assert!(!imd.registry().expire("access-1"), "it is gone already");
    assert!(!imd.registry().expire("nobody"));
    assert_eq!(registered(&imd).await, ["access-2", "access-3"]);
    assert_eq!(handed_out(&imd).await, addrs(&imd, &ALL));
    imd.clock().advance(SECOND).await;
    let rest = addrs(&imd, &["access-2", "access-3"]);
    assert_eq!(handed_out(&imd).await, rest);
    // The server goes on serving.
    ann.ping().await;
    imd.clock().advance(SECOND * 3).await;
    assert_eq!(handed_out(&imd).await, rest);
    imd.clock().advance(SECOND).await;
    assert_eq!(registered(&imd).await, ALL);
    assert_eq!(handed_out(&imd).await, addrs(&imd, &ALL));
}

#[tokio::test]
async fn a_lease_that_expires_under_a_frozen_registry_stays_listed() {
    let imd = reading_every(SECOND * 5).await;
    server(&imd, "access-1").kill().await;
    imd.registry().freeze();
    assert!(imd.registry().expire("access-1"));
    imd.clock().advance(SECOND * 30).await;
    assert_eq!(handed_out(&imd).await, addrs(&imd, &ALL));
    imd.registry().thaw();
    assert_eq!(registered(&imd).await, ["access-2", "access-3"]);
}

#[tokio::test]
async fn a_false_address_is_listed_until_it_is_taken_back() {
    let imd = reading_every(SECOND * 5).await;
    let own = server(&imd, "access-2").addr().to_string();
    let rest = addrs(&imd, &["access-1", "access-3"]);
    imd.registry()
        .advertise("access-2", "198.51.100.7:11000")
        .unwrap();
    imd.clock().advance(SECOND * 5).await;
    let is_listed = async |addr: &str| {
        let addresses = handed_out(&imd).await;
        assert!(
            rest.iter().all(|other| addresses.contains(other)),
            "{addresses:?}"
        );
        assert_eq!(addresses.len(), 3, "{addresses:?}");
        addresses.iter().any(|addresses| addresses == addr)
    };
    assert!(is_listed("198.51.100.7:11000").await);
    // Neither renewals nor a restart with a new lease end the lie.
    imd.clock().advance(SECOND * 60).await;
    assert!(is_listed("198.51.100.7:11000").await);
    server(&imd, "access-2").restart().await.unwrap();
    imd.registry().expire("access-2");
    imd.clock().advance(SECOND * 10).await;
    assert!(is_listed("198.51.100.7:11000").await);
    let another = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    imd.registry().advertise("access-2", another).unwrap();
    imd.clock().advance(SECOND * 5).await;
    assert!(is_listed("127.0.0.1:1").await);

    imd.registry().advertise_itself("access-2");
    imd.registry().advertise_itself("access-2");
    imd.clock().advance(SECOND * 5).await;
    assert!(is_listed(&own).await);
}

#[tokio::test]
async fn a_false_address_may_be_set_before_its_server_exists() {
    let imd = reading_every(SECOND * 5).await;
    imd.registry()
        .advertise("access-4", "198.51.100.7:11000")
        .unwrap();
    imd.clock().advance(SECOND * 5).await;
    assert_eq!(handed_out(&imd).await.len(), 3, "it is not registered");
    imd.add_access("access-4").await.unwrap();
    imd.clock().advance(SECOND * 5).await;
    let addresses = handed_out(&imd).await;
    assert!(
        addresses.contains(&"198.51.100.7:11000".to_owned()),
        "{addresses:?}"
    );
}

#[tokio::test]
async fn a_skew_moves_the_times_of_messages_and_no_lease() {
    let imd = reading_every(SECOND * 5).await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    ann.p2p(1, "a", "x").await;
    assert_eq!(ann.notified().await, (0, 1));
    imd.clock().skew(-3_600_000).unwrap();
    ann.p2p(1, "b", "x").await;
    assert_eq!(ann.notified().await, (0, 2));
    let page = ann.sync(0, 0).await;
    let times: Vec<_> = page.msgs.iter().map(|entry| entry.send_time).collect();
    assert_eq!(times[0] - times[1], 3_600_000);
    imd.clock().skew(7_200_000).unwrap();
    imd.clock().advance(SECOND * 15).await;
    assert_eq!(registered(&imd).await, ALL);
}

#[tokio::test]
async fn only_an_address_that_can_be_dialled_may_be_set() {
    let imd = reading_every(SECOND * 5).await;
    let before = handed_out(&imd).await;
    let long = "x".repeat(70_000);
    for bad in [
        "",
        "a b:1",
        "a",
        "a:0",
        "a:65536",
        "0.0.0.0:1",
        "[::]:1",
        "[fe80::1]:1",
        "http://a:1",
        "a:1\n",
        &long,
    ] {
        let error = imd.registry().advertise("access-2", bad).unwrap_err();
        assert!(error.to_string().len() < 300);
        let body = serde_json::json!({ "addr": bad });
        let path = "/v1/registry/access-2/advertise";
        let (status, why) = call(&imd, "POST", path, body).await;
        // A host without a port gets the port of the server.
        assert_eq!(status, if bad == "a" { 200 } else { 400 }, "{bad}: {why}");
        imd.registry().advertise_itself("access-2");
    }
    imd.clock().advance(SECOND * 5).await;
    assert_eq!(handed_out(&imd).await, before);
    for good in ["im.example.org:443", "[::1]:9", "[fe80::1%eth0]:9"] {
        imd.registry().advertise("access-2", good).unwrap();
        imd.clock().advance(SECOND * 5).await;
        assert!(handed_out(&imd).await.contains(&good.to_owned()), "{good}");
    }
}

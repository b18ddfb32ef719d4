//! Advances of the manual clock by months and years, and the bounds within which a clock can be moved.
//!
//! A leap skips nothing that a client could see: leases, deadlines and heartbeats have run as if the time had passed.

use std::time::Duration;

use imd::lab::{Fault, Site};
use imd::proto::{Cmd, ResSendP2pMsg};
use serde_json::json;

use crate::admin::{call, get, post};
use crate::servers::{addrs, handed_out, registered, server, user_at};
use crate::support::{Http, advance, ephemeral, p2p, ping, soon, start, start_manual, texts, user};
use crate::wait_for_hit;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

#[tokio::test]
async fn after_ten_years_servers_are_listed_and_idle_sessions_are_closed() {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    server(&imd, "access-3").kill().await;
    advance(&imd, 10 * YEAR).await;
    assert_eq!(registered(&imd).await, ["access-1", "access-2"]);
    assert_eq!(
        handed_out(&imd).await,
        addrs(&imd, &["access-1", "access-2"])
    );
    ann.end().await;
    assert!(!imd.is_online(1));
    // After the leap, leases have their usual length, and heartbeats renew them.
    server(&imd, "access-2").kill().await;
    advance(&imd, 20 * SECOND).await;
    assert_eq!(registered(&imd).await, ["access-1"]);
    let ann = user(&imd, 1).await;
    advance(&imd, 14 * SECOND).await;
    assert!(imd.is_online(1));
    advance(&imd, SECOND).await;
    assert!(!imd.is_online(1));
    drop(ann);
}

#[tokio::test]
async fn a_lease_that_is_longer_than_the_steps_ends_within_a_leap() {
    let mut config = ephemeral().manual_clock();
    config.registry.lease = 30 * DAY;
    let imd = start(config).await;
    server(&imd, "access-3").kill().await;
    server(&imd, "access-2").pause().await;
    advance(&imd, 29 * DAY).await;
    assert_eq!(registered(&imd).await.len(), 3);
    advance(&imd, 2 * DAY).await;
    assert_eq!(registered(&imd).await, ["access-1"]);
    assert_eq!(handed_out(&imd).await, addrs(&imd, &["access-1"]));
    server(&imd, "access-2").resume().await;
    advance(&imd, 300 * DAY).await;
    assert_eq!(registered(&imd).await, ["access-1", "access-2"]);
}

#[tokio::test]
async fn a_server_whose_renewals_are_lost_falls_off_the_list_in_a_leap_too() {
    let imd = start_manual().await;
    let lease = Fault::at(Site::RegistryLease).access("access-2");
    let fault = imd.fault(lease.clone().drop_it());
    advance(&imd, YEAR).await;
    assert_eq!(registered(&imd).await, ["access-1", "access-3"]);
    drop(fault);
    let fault = imd.fault(lease.delay(3 * SECOND));
    advance(&imd, YEAR).await;
    wait_for_hit(&imd, &fault).await;
    assert_eq!(registered(&imd).await.len(), 3);
}

#[tokio::test]
async fn an_advance_returns_while_every_heartbeat_is_late() {
    let imd = start_manual().await;
    let lease = Fault::at(Site::RegistryLease).access("access-2");
    // Each delay is longer than the interval of heartbeats, so there is always one that is late.
    for late in [9 * SECOND, HOUR, 60 * DAY] {
        let fault = imd.fault(lease.clone().delay(late));
        advance(&imd, YEAR).await;
        // The number of heartbeats shows that most were skipped, whatever the speed of the machine: a year has
        // 6,307,200 of them.
        assert!(fault.hits() < 10_000, "{}", fault.hits());
        assert_eq!(registered(&imd).await.len(), 3, "late by {late:?}");
    }
}

#[tokio::test]
async fn a_reply_that_is_late_by_months_is_written_in_its_turn() {
    let mut config = ephemeral().manual_clock();
    config.store.keep = Some(100 * DAY);
    let imd = start(config).await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    assert_eq!(bob.p2p(1, "old", "old").await.err_code, 0);
    let write = imd.fault(Fault::at(Site::StoreWrite).uid(1).delay(300 * DAY));
    let reply = Fault::at(Site::AccessReply).cmd(Cmd::Ping).uid(2);
    let reply = imd.fault(reply.delay(50 * DAY));
    ann.send(&p2p(2, "late", "late")).await;
    bob.send(&ping()).await;
    wait_for_hit(&imd, &write).await;
    wait_for_hit(&imd, &reply).await;
    // The idle deadline is long over, but it does not run while a request is being answered.
    advance(&imd, YEAR).await;
    bob.error(Cmd::Ping, 0).await;
    bob.end().await;
    let stored: ResSendP2pMsg = ann.answer(Cmd::SendP2PMsg).await;
    assert_eq!(stored.err_code, 0);
    ann.end().await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    assert_eq!(texts(&ann.sync(0, 0).await.msgs), [] as [&str; 0]);
    assert_eq!(bob.sync(0, 0).await.msgs.len(), 0);
    assert_eq!((imd.report().stored, imd.report().pending), (2, 0));
}

#[tokio::test]
async fn an_advance_returns_while_a_throttled_client_does_not_read() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let fault = imd.fault(Fault::at(Site::AccessReply).cmd(Cmd::Ping).throttle(10));
    ann.send(&ping()).await;
    wait_for_hit(&imd, &fault).await;
    server(&imd, "access-1").pause().await;
    advance(&imd, 10 * YEAR).await;
    assert!(ann.is_silent());
    server(&imd, "access-1").resume().await;
    advance(&imd, 5 * SECOND).await;
    ann.error(Cmd::Ping, 0).await;
}

#[tokio::test]
async fn an_advance_is_completed_although_its_caller_has_gone() {
    let imd = start_manual().await;
    let addr = imd.admin_addr().unwrap();
    let mut ticks = imd.clock().ticks(HOUR);
    let body = r#"{"by": "31d"}"#;
    let request = format!(
        "POST /v1/clock/advance HTTP/1.1\r\nhost: {addr}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let stream = Http::sent(addr, request).await;
    soon(ticks.tick()).await;
    // The advance has begun, and waits for the tick to be worked off.
    drop(stream);
    get(&imd, "/v1/clock").await;
    let end = imd.clock().now() - HOUR + 31 * DAY;
    for _ in 1..31 * 24 {
        soon(ticks.tick()).await;
    }
    drop(ticks);
    // The next advance waits until the one before it has ended.
    advance(&imd, Duration::ZERO).await;
    assert_eq!(imd.clock().now(), end);
}

#[tokio::test]
async fn a_clock_is_not_moved_beyond_its_bounds_and_the_bounds_are_named() {
    let imd = start_manual().await;
    let before = get(&imd, "/v1/clock").await;
    let asked = [
        ("skew", json!({ "ms": i64::MAX })),
        ("skew", json!({ "ms": i64::MIN })),
        ("skew", json!({ "ms": 20 * 365 * 24 * 3_600_000_i64 })),
        ("skew", json!({ "ms": -51 * 365 * 24 * 3_600_000_i64 })),
        ("advance", json!({ "by": "20years" })),
        ("advance", json!({ "by": "500000000000years" })),
        ("advance", json!({ "by": "18446744073709551615s" })),
    ];
    for (how, body) in asked {
        let (status, why) = call(&imd, "POST", &format!("/v1/clock/{how}"), body.clone()).await;
        assert_eq!(status, 400, "{body}");
        let why = why["error"].as_str().unwrap();
        let is_named = why.contains("from 1970-01-01T00:00:00Z to 2038-01-01T00:00:00Z");
        assert!(is_named || why.contains("no duration"), "{body}: {why}");
        assert_eq!(get(&imd, "/v1/clock").await, before);
    }
}

/// Whatever the wall clock shows, each message and each group gets a new id.
#[tokio::test]
async fn ids_are_new_at_either_end_of_time() {
    let imd = start_manual().await;
    let mut ann = user(&imd, 1).await;
    let mut last = 0;
    let mut sent = 0;
    let now = get(&imd, "/v1/clock").await["unix_ms"].as_i64().unwrap();
    let end = imd::clock::LATEST_MS;
    for skew in [-now, end, -end, now, 0] {
        post(&imd, "/v1/clock/skew", json!({ "ms": skew })).await;
        for _ in 0..100 {
            let batch: Vec<_> = (0..50).map(|_| p2p(2, "", "text")).collect();
            ann.send_all(&batch).await;
            for _ in &batch {
                let reply: ResSendP2pMsg = ann.answer(Cmd::SendP2PMsg).await;
                let id: i64 = reply.msg_id.parse().unwrap();
                assert!(reply.err_code == 0 && id > last, "{id} follows {last}");
                last = id;
                sent += 1;
            }
        }
        let made = post(&imd, "/v1/groups", json!({ "owner": 1 })).await;
        let gid = made["gid"].as_i64().unwrap();
        assert!(gid > last, "{gid} follows {last}");
        last = gid;
    }
    assert_eq!(imd.report().stored, sent);
}

#[tokio::test]
async fn ids_continue_behind_those_of_an_earlier_run_whatever_its_clock_said() {
    let folder = tempfile::tempdir().unwrap();
    let config = || {
        let mut config = ephemeral().manual_clock();
        config.store.path = Some(folder.path().join("data"));
        config
    };
    let mut last = 0;
    let year = i64::try_from(YEAR.as_millis()).unwrap();
    for skew in [
        10 * year,
        0,
        -40 * year,
        imd::clock::LATEST_MS - 1_577_836_800_000,
        0,
    ] {
        let imd = start(config()).await;
        imd.clock().skew(skew).unwrap();
        let mut ann = user(&imd, 1).await;
        for _ in 0..20 {
            let reply = ann.p2p(2, "", "text").await;
            let id: i64 = reply.msg_id.parse().unwrap();
            assert!(reply.err_code == 0 && id > last, "{id} follows {last}");
            last = id;
        }
        let made = post(&imd, "/v1/groups", json!({ "owner": 1 })).await;
        last = made["gid"].as_i64().unwrap();
        assert_eq!(imd.report().stored, 20);
        imd.shutdown().await;
    }
}

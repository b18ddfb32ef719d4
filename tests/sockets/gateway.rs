//! Command 10001: which address the gateway hands out, by each strategy of `gateway.strategy`.
//!
//! The gateway knows only what the registry lists, so leases, advertised addresses and dead servers are here too. A
//! registry that lies or is unreachable is tested in `lab/registry` and `lab/unreachable`, and addresses that depend on the
//! client in `client_hosts`.

use std::collections::HashMap;
use std::time::Duration;

use imd::Config;
use imd::config::Strategy;
use imd::registry::{Record, Registry};

use crate::support::{
    Wire, addr_in, addr_of, ephemeral, for_this_run, gateway, start, start_manual, user,
};

const SECOND: Duration = Duration::from_secs(1);

/// Asks several times, and counts how often each address is handed out.
async fn ask(wire: &mut Wire, times: usize) -> HashMap<String, usize> {
    let mut count = HashMap::new();
    for _ in 0..times {
        let reply = wire.ask().await;
        assert_eq!((reply.err_code, reply.err_str.as_str()), (0, "ok"));
        *count.entry(reply.addr).or_insert(0) += 1;
    }
    count
}

fn record(name: &str, addr: &str) -> Record {
    Record {
        name: name.into(),
        addr: addr.into(),
        cpu: 1,
        sessions: 0,
        renewals: 0,
    }
}

fn with(strategy: Strategy) -> Config {
    let mut config = ephemeral().manual_clock();
    config.gateway.strategy = strategy;
    config
}

#[tokio::test]
async fn a_new_gateway_knows_every_access_server() {
    let imd = start_manual().await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    let count = ask(&mut wire, 200).await;
    let expected: Vec<String> = imd
        .access_servers()
        .iter()
        .map(|s| s.addr().to_string())
        .collect();
    assert_eq!(count.len(), 3);
    assert!(
        expected.iter().all(|addr| count.contains_key(addr)),
        "{count:?}"
    );
}

#[tokio::test]
async fn round_robin_takes_each_in_turn() {
    let imd = start(with(Strategy::RoundRobin)).await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    let count = ask(&mut wire, 9).await;
    assert!(count.values().all(|&n| n == 3), "{count:?}");
}

#[tokio::test]
async fn least_sessions_prefers_servers_with_fewer_sessions() {
    let imd = start(with(Strategy::LeastSessions)).await;
    let mut held = Vec::new();
    for (server, sessions) in [(0, 4), (1, 1)] {
        for n in 0..sessions {
            let addr = addr_of(&imd.access_servers()[server]);
            let mut wire = Wire::connect(addr).await;
            wire.login(&imd, (server as i64 + 1) * 100 + n).await;
            held.push(wire);
        }
    }
    // The next heartbeat tells the registry the number of sessions, and the next refresh tells the gateway.
    imd.clock().advance(SECOND * 10).await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    let count = ask(&mut wire, 7).await;
    let handed = |server: usize| {
        count
            .get(&imd.access_servers()[server].addr().to_string())
            .copied()
            .unwrap_or(0)
    };
    assert_eq!(
        (handed(0), handed(1), handed(2)),
        (0, 3, 4),
        "5 + 7 sessions make 4 each"
    );
}

#[tokio::test]
async fn a_dead_access_server_is_addr_in_until_its_lease_has_expired_and_the_list_was_read() {
    let imd = start_manual().await;
    let dead = record("dead", "127.0.0.1:1");
    imd.registry().register(dead, SECOND * 10).await.unwrap();
    let mut wire = Wire::connect(gateway(&imd)).await;
    let is_listed = async |wire: &mut Wire| ask(wire, 200).await.contains_key("127.0.0.1:1");
    assert!(
        !is_listed(&mut wire).await,
        "the gateway has not read it yet"
    );
    imd.clock().advance(SECOND * 5).await;
    assert!(is_listed(&mut wire).await);
    imd.clock().advance(SECOND * 4).await;
    assert!(is_listed(&mut wire).await);
    imd.clock().advance(SECOND * 6).await;
    let count = ask(&mut wire, 200).await;
    assert_eq!(
        count.len(),
        3,
        "the living ones have renewed their leases: {count:?}"
    );
    assert!(!count.contains_key("127.0.0.1:1"));
}

#[tokio::test]
async fn leases_of_living_servers_outlast_hours() {
    let imd = start_manual().await;
    imd.clock().advance(SECOND * 1_800).await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    assert_eq!(ask(&mut wire, 200).await.len(), 3);
}

#[tokio::test]
async fn an_empty_list_is_answered_92001() {
    let imd = start_manual().await;
    for server in imd.access_servers() {
        server.stop().await;
    }
    assert_eq!(
        imd.registry().list().await,
        [],
        "a clean stop deregisters at once"
    );
    imd.clock().advance(SECOND * 5).await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    let reply = wire.ask().await;
    assert_eq!(
        (reply.err_code, reply.err_str.as_str()),
        (92001, "no accessServer")
    );
    assert_eq!(reply.addr, "");
}

#[tokio::test]
async fn clients_get_the_advertised_address_or_the_host_that_they_connected_to() {
    let mut config = Config::ephemeral();
    config.access.resize(2);
    config.gateway.strategy = Strategy::RoundRobin;
    config.gateway.listen = "0.0.0.0:0".parse().unwrap();
    config.access.0[0].listen = "0.0.0.0:0".parse().unwrap();
    config.access.0[1].advertise = Some("im.example.org".into());
    let imd = start(for_this_run(config)).await;
    let port = |server: usize| imd.access_servers()[server].addr().port();
    assert_eq!(
        imd.access_servers()[0].advertised(),
        format!("0.0.0.0:{}", port(0))
    );
    let gateway = std::net::SocketAddr::from(([127, 0, 0, 1], gateway(&imd).port()));
    let mut wire = Wire::connect(gateway).await;
    assert_eq!(wire.ask().await.addr, format!("127.0.0.1:{}", port(0)));
    assert_eq!(wire.ask().await.addr, format!("im.example.org:{}", port(1)));
}

#[tokio::test]
async fn a_client_goes_from_the_gateway_to_an_access_server() {
    let imd = start(ephemeral()).await;
    let mut gateway = Wire::connect(gateway(&imd)).await;
    let addr = addr_in(&gateway.ask().await);
    let mut wire = Wire::connect(addr).await;
    wire.login(&imd, 1).await;
    let mut other = user(&imd, 2).await;
    assert_eq!(other.p2p(1, "m", "x").await.err_code, 0);
    assert_eq!(wire.notified().await, (0, 1));
    // The connection to the gateway stays usable meanwhile.
    assert_eq!(gateway.ask().await.err_code, 0);
}

#[tokio::test]
async fn least_sessions_counts_its_own_answers_until_the_records_include_them() {
    let mut config = with(Strategy::LeastSessions);
    config.gateway.refresh = SECOND;
    let imd = start(config).await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    let mut count = HashMap::new();
    for _ in 0..4 {
        for (addr, n) in ask(&mut wire, 3).await {
            *count.entry(addr).or_insert(0) += n;
        }
        // The gateway reads the list again and finds the same records.
        imd.clock().advance(SECOND).await;
    }
    assert!(count.values().all(|&n| n == 4), "{count:?}");
}

#[tokio::test]
async fn an_access_server_that_lost_its_lease_registers_again() {
    let imd = start_manual().await;
    let ours = imd.access_servers()[0].addr().to_string();
    imd.registry()
        .register(record("access-1", "127.0.0.1:1"), SECOND * 100)
        .await
        .unwrap();
    let listed = async || {
        imd.registry()
            .list()
            .await
            .into_iter()
            .map(|r| r.addr)
            .collect::<Vec<_>>()
    };
    assert!(!listed().await.contains(&ours));
    imd.clock().advance(SECOND * 5).await;
    let now = listed().await;
    assert!(now.contains(&ours) && now.len() == 3, "{now:?}");
}

#[tokio::test]
async fn an_address_too_long_for_a_frame_is_answered_with_the_error_of_the_command() {
    let mut config = with(Strategy::RoundRobin);
    config.access.resize(1);
    let imd = start(config).await;
    imd.registry()
        .register(record("long", &"x".repeat(70_000)), SECOND * 100)
        .await
        .unwrap();
    imd.clock().advance(SECOND * 5).await;
    let mut wire = Wire::connect(gateway(&imd)).await;
    let mut codes = vec![wire.ask().await.err_code, wire.ask().await.err_code];
    codes.sort_unstable();
    assert_eq!(codes, [0, 90001]);
}

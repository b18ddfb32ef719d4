//! Command 10001: the host that a client is told, where it depends on the network from which the client comes, or on the
//! address by which it came.
//!
//! These tests need Linux, where every address in 127.0.0.0/8 is one of this machine, so that clients can come from any of
//! them.

use std::net::{SocketAddr, SocketAddrV6};

use imd::Config;
use imd::config::{AdvertiseTo, ListenHost};
use tokio::net::TcpSocket;

use crate::support::{Wire, access, addr_in, for_this_run, gateway, start};

#[tokio::test]
async fn clients_of_a_network_are_told_the_host_of_advertise_to() {
    let from = |from: &str, host: &str| AdvertiseTo {
        from: from.parse().unwrap(),
        host: host.into(),
    };
    let rules = [
        from("127.0.0.0/29", "lan.example"),
        from("127.0.0.3", "host.docker.internal"),
        from("127.0.0.4", "im.example:443"),
    ];
    let ask = async |source: &str, gateway: SocketAddr| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        let mut wire = Wire::over(socket.connect(gateway).await.unwrap()).await;
        let told = wire.ask().await;
        (told.addr, told.ws_addr)
    };
    let listen = ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"];
    let count = if has_ipv6() { 3 } else { 2 };
    for listen in &listen[..count] {
        let mut config = Config::ephemeral();
        config.access.resize(1);
        config.gateway.listen = listen.parse().unwrap();
        config.access.0[0].listen = listen.parse().unwrap();
        config.access.0[0].ws_listen = Some(listen.parse().unwrap());
        config.gateway.advertise_to = rules.to_vec();
        let imd = start(for_this_run(config)).await;
        let port = imd.access_servers()[0].addr().port();
        let ws_port = imd.access_servers()[0].ws_addr().unwrap().port();
        let gateway = SocketAddr::from(([127, 0, 0, 1], gateway(&imd).port()));
        for (source, host) in [
            ("127.0.0.2", "lan.example"),
            ("127.0.0.3", "host.docker.internal"),
            // This client is in no network, and is told the address by which it came.
            ("127.0.0.9", "127.0.0.1"),
        ] {
            let expected = (format!("{host}:{port}"), format!("ws://{host}:{ws_port}"));
            assert_eq!(ask(source, gateway).await, expected, "{listen}");
        }
        // The port is that of a proxy for clients that send a length before each frame.
        let expected = (
            "im.example:443".into(),
            format!("ws://im.example:{ws_port}"),
        );
        assert_eq!(ask("127.0.0.4", gateway).await, expected);
    }
}

/// A machine that has no IPv6 has no link-local address either, so there is nothing to test on it.
#[tokio::test]
async fn a_client_that_came_by_a_link_local_address_is_told_it_with_its_zone() {
    let mut config = Config::ephemeral();
    config.access.resize(1);
    let Some(mut local) = link_local() else {
        return;
    };
    config.gateway.listen = "[::]:0".parse().unwrap();
    config.access.0[0].listen = "[::]:0".parse().unwrap();
    let imd = start(for_this_run(config)).await;
    local.set_port(gateway(&imd).port());
    let mut wire = Wire::connect(local.into()).await;
    let told = addr_in(&wire.ask().await);
    local.set_port(access(&imd).port());
    assert_eq!(told, local.into());
    Wire::connect(told).await.login(&imd, 1).await;
}

/// Returns whether this machine has the loopback address of IPv6.
fn has_ipv6() -> bool {
    ListenHost::any().at(0).is_ipv6()
}

/// Returns a link-local address of this machine with its zone.
fn link_local() -> Option<SocketAddrV6> {
    // Each line has an address in base16, the number of its interface, and more.
    let list = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let line = list.lines().find(|line| line.starts_with("fe80"))?;
    let mut words = line.split_whitespace();
    let ip = u128::from_str_radix(words.next()?, 16).ok()?;
    let zone = u32::from_str_radix(words.next()?, 16).ok()?;
    Some(SocketAddrV6::new(ip.into(), 0, 0, zone))
}

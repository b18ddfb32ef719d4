//! The address of an access server that one client can dial, made from the one that the server has registered.
//!
//! Serves the gateway. Most clients are told the registered address. Another one is told to clients of the networks of
//! `[[gateway.advertise_to]]`, and where the registered host is unspecified, such as 0.0.0.0.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::config::{AdvertiseTo, Host, Network};
use crate::session::Session;

/// The two ends of a client's connection to the gateway.
#[derive(Debug, Clone, Copy)]
pub struct ClientEnds {
    /// The address by which the client has reached the gateway.
    pub local: SocketAddr,
    /// The address from which the client comes.
    pub peer: SocketAddr,
}

impl From<&Session> for ClientEnds {
    fn from(session: &Session) -> Self {
        ClientEnds {
            local: session.local(),
            peer: session.peer(),
        }
    }
}

/// The error of an access server that a client can't dial: the server listens on IPv4 alone, and the client came by IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDialable;

/// The hosts that clients of certain networks are told in place of those that the access servers have registered.
#[derive(Debug, Default)]
pub struct ClientHosts {
    /// The networks and their hosts. A network within another one stands before it, so the first one that contains a
    /// client counts.
    rules: Vec<(Network, Host)>,
}

impl ClientHosts {
    /// Creates the rules that a config describes. A host that can't be dialled is left out: the config was validated.
    pub fn new(config: &[AdvertiseTo]) -> Self {
        let rules = config.iter().filter_map(|rule| {
            let host = Host::dialable(&rule.host).ok()?;
            Some((rule.from, host))
        });
        let mut rules: Vec<_> = rules.collect();
        rules.sort_by_key(|(network, _)| Reverse(network.prefix_len()));
        ClientHosts { rules }
    }

    /// Returns whether a client is in one of the networks.
    pub fn has_host_for(&self, client: ClientEnds) -> bool {
        self.host_of(client).is_some()
    }

    /// Returns the address, as host:port, at which a client can dial an access server that has registered `registered`.
    /// A host of `advertise_to` counts more than any registered one; the port is the registered one unless that host has
    /// a port too.
    ///
    /// # Errors
    ///
    /// [`NotDialable`], when the client can't reach the server.
    pub fn address(&self, registered: &str, client: ClientEnds) -> Result<String, NotDialable> {
        address(registered, self.host_of(client).cloned(), client)
    }

    /// Returns the address, as host:port, at which a WebSocket client can dial an access server whose WebSocket address is
    /// `registered`. The port is always the registered one: that of `advertise_to` is the port for other clients.
    ///
    /// # Errors
    ///
    /// [`NotDialable`], when the client can't reach the server.
    pub fn websocket_address(
        &self,
        registered: &str,
        client: ClientEnds,
    ) -> Result<String, NotDialable> {
        let host = self.host_of(client).cloned().map(Host::without_port);
        address(registered, host, client)
    }

    /// Returns the host of the smallest network that contains the client, if one does.
    fn host_of(&self, client: ClientEnds) -> Option<&Host> {
        let ip = client.peer.ip();
        let mut rules = self.rules.iter();
        rules
            .find(|(network, _)| network.contains(ip))
            .map(|(_, host)| host)
    }
}

/// Returns the registered address with `host` in place of its own, or the address that the client can dial if there is no
/// such host.
fn address(
    registered: &str,
    host: Option<Host>,
    client: ClientEnds,
) -> Result<String, NotDialable> {
    let port = Host::parse(registered).ok().and_then(|host| host.port());
    if let (Some(host), Some(port)) = (host, port) {
        return Ok(host.at(port));
    }
    match with_unspecified_host(registered) {
        None => Ok(registered.to_owned()),
        Some(listening) => dialable(listening, client.local)
            .map(|addr| addr.to_string())
            .ok_or(NotDialable),
    }
}

/// Returns the registered address if its host is unspecified, such as 0.0.0.0: no client can dial it, and each client is
/// told a host of its own.
pub fn with_unspecified_host(registered: &str) -> Option<SocketAddr> {
    let addr = registered.parse::<SocketAddr>().ok();
    addr.filter(|addr| addr.ip().is_unspecified())
}

/// Returns the address to dial for a server that listens on `listening`. If its host is unspecified, the server has every
/// address of this machine, so the client is told the host of `local`, the address by which it has reached the gateway.
/// None if the client came by IPv6 and the server listens on IPv4 alone.
fn dialable(listening: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
    let port = listening.port();
    match (listening, local) {
        (listening, _) if !listening.ip().is_unspecified() => Some(listening),
        (SocketAddr::V4(_), SocketAddr::V6(local)) => {
            let ip = match local.ip().to_canonical() {
                IpAddr::V4(ip) => ip,
                // A client on this machine can use the loopback address of IPv4 too.
                IpAddr::V6(Ipv6Addr::LOCALHOST) => Ipv4Addr::LOCALHOST,
                IpAddr::V6(_) => return None,
            };
            Some(SocketAddr::from((ip, port)))
        }
        (_, SocketAddr::V6(local)) => Some(match local.ip().to_canonical() {
            // The zone is kept, since a link-local address can't be dialled without it.
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, local.scope_id()).into(),
            ip => SocketAddr::new(ip, port),
        }),
        (_, SocketAddr::V4(local)) => Some(SocketAddr::new((*local.ip()).into(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_host_becomes_the_one_by_which_the_client_came() {
        let dialable = |listening: &str, local: SocketAddr| {
            let addr = dialable(listening.parse().unwrap(), local);
            addr.map_or_else(|| "none".to_owned(), |addr| addr.to_string())
        };
        let local = "192.168.1.9:10000".parse().unwrap();
        assert_eq!(dialable("0.0.0.0:11000", local), "192.168.1.9:11000");
        assert_eq!(dialable("[::]:11000", local), "192.168.1.9:11000");
        assert_eq!(dialable("127.0.0.1:11000", local), "127.0.0.1:11000");
        let mapped = "[::ffff:10.0.0.2]:10000".parse().unwrap();
        assert_eq!(dialable("0.0.0.0:11000", mapped), "10.0.0.2:11000");
        assert_eq!(
            dialable("0.0.0.0:11000", "[::1]:10000".parse().unwrap()),
            "127.0.0.1:11000"
        );
        assert_eq!(dialable("[::]:11000", mapped), "10.0.0.2:11000");
        let v6 = "[fd00::1]:10000".parse().unwrap();
        assert_eq!(dialable("[::]:11000", v6), "[fd00::1]:11000");
        assert_eq!(dialable("0.0.0.0:11000", v6), "none");
        assert_eq!(dialable("[fd00::2]:11000", v6), "[fd00::2]:11000");
    }

    #[test]
    fn a_link_local_address_is_told_with_its_zone() {
        let local: SocketAddr = "[fe80::1%3]:10000".parse().unwrap();
        let told = dialable("[::]:11000".parse().unwrap(), local).unwrap();
        assert_eq!(told.to_string(), "[fe80::1%3]:11000");
        let listening: SocketAddr = "[fe80::2%4]:11000".parse().unwrap();
        assert_eq!(dialable(listening, local), Some(listening));
    }

    #[test]
    fn the_smallest_network_counts_and_its_host_keeps_the_port_of_the_server() {
        let rule = |from: &str, host: &str| AdvertiseTo {
            from: from.parse().unwrap(),
            host: host.into(),
        };
        let hosts = ClientHosts::new(&[
            rule("10.0.0.0/8", "lan.example"),
            rule("10.1.2.0/24", "docker:99"),
            rule("10.1.2.3", "fd00::9"),
        ]);
        let told = |registered: &str, peer: &str| {
            let client = ClientEnds {
                local: "192.168.1.9:10000".parse().unwrap(),
                peer: peer.parse().unwrap(),
            };
            let address = hosts.address(registered, client).unwrap();
            let is_registered = registered == address;
            assert_eq!(
                hosts.has_host_for(client),
                !is_registered && !address.starts_with("192.")
            );
            address
        };
        let own = "127.0.0.1:11000";
        assert_eq!(told(own, "10.9.9.9:1"), "lan.example:11000");
        assert_eq!(told(own, "[::ffff:10.9.9.9]:1"), "lan.example:11000");
        assert_eq!(told(own, "10.1.2.4:1"), "docker:99");
        assert_eq!(told(own, "10.1.2.3:1"), "[fd00::9]:11000");
        assert_eq!(told(own, "11.0.0.1:1"), own);
        assert_eq!(told("0.0.0.0:11000", "10.9.9.9:1"), "lan.example:11000");
        assert_eq!(told("0.0.0.0:11000", "11.0.0.1:1"), "192.168.1.9:11000");
        assert_eq!(told("im.example:7", "10.9.9.9:1"), "lan.example:7");
        assert_eq!(told("[fe80::1%3]:7", "10.9.9.9:1"), "lan.example:7");
        let client = ClientEnds {
            local: "192.168.1.9:10000".parse().unwrap(),
            peer: "10.1.2.4:1".parse().unwrap(),
        };
        let websocket = hosts.websocket_address("127.0.0.1:11100", client);
        assert_eq!(websocket.as_deref(), Ok("docker:11100"));
    }
}

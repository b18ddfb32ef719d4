//! The addresses by which other machines on the network reach a listener of this one.
//!
//! Serves the banner, which shows them to whoever has to type one into a phone.

use std::net::{IpAddr, SocketAddr};

/// Returns the addresses of this machine on its networks, those of IPv4 first. Addresses that only this machine reaches are
/// left out, and link-local ones, which other machines would have to dial with a zone of their own.
#[cfg(unix)]
pub fn addresses() -> Vec<IpAddr> {
    use nix::ifaddrs::getifaddrs;
    use nix::net::if_::InterfaceFlags;

    let is_up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let mut found = Vec::new();
    // If the system does not tell them, the banner goes without.
    for interface in getifaddrs().into_iter().flatten() {
        let Some(address) = interface
            .address
            .filter(|_| interface.flags.contains(is_up))
        else {
            continue;
        };
        let v4 = address.as_sockaddr_in().map(|addr| addr.ip().into());
        let v6 = address.as_sockaddr_in6().map(|addr| addr.ip().into());
        found.extend(v4.or(v6).filter(is_on_network));
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

/// Returns none: there is no such list that could be read without unsafe code.
#[cfg(not(unix))]
pub fn addresses() -> Vec<IpAddr> {
    Vec::new()
}

/// Returns whether other machines on a network can dial an address without a zone.
#[cfg(unix)]
fn is_on_network(ip: &IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(is_link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// Returns the addresses by which other machines reach a listener, on a machine with the addresses `lan`. They are none for a
/// listener on loopback, and only those of IPv4 for one on 0.0.0.0.
pub fn reached_by(listen: SocketAddr, lan: &[IpAddr]) -> Vec<SocketAddr> {
    let ip = listen.ip();
    if ip.is_loopback() {
        return Vec::new();
    }
    if !ip.is_unspecified() {
        return vec![listen];
    }
    let is_served = |ip: &&IpAddr| ip.is_ipv4() || listen.is_ipv6();
    let at_port = |ip: &IpAddr| SocketAddr::new(*ip, listen.port());
    lan.iter().filter(is_served).map(at_port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_reached_by_the_addresses_that_it_serves() {
        let lan = ["192.168.1.9".parse().unwrap(), "fd00::2".parse().unwrap()];
        let reached = |listen: &str| {
            let found = reached_by(listen.parse().unwrap(), &lan);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(reached("0.0.0.0:1"), ["192.168.1.9:1"]);
        assert_eq!(reached("[::]:1"), ["192.168.1.9:1", "[fd00::2]:1"]);
        assert_eq!(reached("192.168.7.7:1"), ["192.168.7.7:1"]);
        assert_eq!(reached("127.0.0.1:1"), [""; 0]);
        assert_eq!(reached("[::1]:1"), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn an_address_of_one_link_or_one_machine_is_not_on_a_network() {
        for (ip, expected) in [
            ("192.168.1.9", true),
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("2001:db8::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_on_network(&ip.parse().unwrap()), expected, "{ip}");
        }
    }
}

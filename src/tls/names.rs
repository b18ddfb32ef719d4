//! The names and addresses by which clients reach this machine.
//!
//! Serves the upkeep, which has a certificate issued for them.

use std::net::IpAddr;
#[cfg(any(not(unix), test))]
use std::net::{Ipv4Addr, Ipv6Addr};

/// What clients on this machine, in a container on it and in Android's emulator on it call it.
const FIXED: [&str; 5] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "host.docker.internal",
    "10.0.2.2",
];

/// How many addresses a certificate has at most: a machine with many containers has hundreds.
const MAX_ADDRESSES: usize = 64;

/// Returns the names and addresses by which servers that listen on `listens` can be reached: those of the machine itself, its
/// host name, also as mDNS has it, and either its own addresses, if one of the servers listens on all of them, or those in
/// `listens`. Each stands there once.
pub fn names_of_this_machine(listens: &[IpAddr]) -> Vec<String> {
    let mut names: Vec<String> = FIXED.map(str::to_owned).into();
    if let Some(host) = host_name() {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if !host.contains('.') {
            names.push(format!("{host}.local"));
        }
        names.push(host);
    }
    let own = match listens.iter().any(IpAddr::is_unspecified) {
        true => addresses(),
        false => Vec::new(),
    };
    let addresses = listens.iter().copied().chain(own);
    let addresses = addresses.filter(|ip| !ip.is_unspecified());
    names.extend(addresses.take(MAX_ADDRESSES).map(|ip| ip.to_string()));
    names.sort();
    names.dedup();
    names
}

#[cfg(unix)]
fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

#[cfg(not(unix))]
fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// Returns the addresses of the interfaces of this machine.
#[cfg(unix)]
fn addresses() -> Vec<IpAddr> {
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let interfaces = nix::ifaddrs::getifaddrs();
    interfaces.map_or(Vec::new(), |all| all.filter_map(address).collect())
}

/// Returns the addresses by which this machine would reach others. Connecting a UDP socket sends nothing.
#[cfg(not(unix))]
fn addresses() -> Vec<IpAddr> {
    use std::net::UdpSocket;
    let source = |from: IpAddr, to: IpAddr| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip())
    };
    let v4 = source(
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::new(192, 0, 2, 1).into(),
    );
    let v6 = source(
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    );
    v4.into_iter().chain(v6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_adds_those_of_the_machine() {
        let here = names_of_this_machine(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert!(here.iter().any(|name| name == "localhost"));
        let one = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
        let named = names_of_this_machine(&[one]);
        assert!(named.contains(&"192.0.2.7".to_owned()), "{named:?}");
        let every = names_of_this_machine(&[IpAddr::V6(Ipv6Addr::UNSPECIFIED)]);
        assert!(every.len() >= here.len() && !every.contains(&"::".to_owned()));
    }
}

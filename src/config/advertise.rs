//! `[[gateway.advertise_to]]`: the hosts that clients of certain networks are told in place of the access servers' own.
//!
//! Serves the gateway. Which of two networks that contain the same client counts is decided there.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{Invalid, ensure};
use super::{Gateway, Host};

/// A table `[[gateway.advertise_to]]`: the host that clients of one network are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdvertiseTo {
    /// The network from which the clients come, by the address from which they connect to the gateway.
    pub from: Network,
    /// The host that they are told, as host or host:port. Without a port, each access server's own port is told.
    ///
    /// WebSocket clients are told the host with the port of `ws_listen` in any case. A `ws_advertise` is told unchanged: it
    /// is a whole URL, whose host its certificate may name.
    pub host: String,
}

/// A network, written as `172.17.0.0/16`, or one address, written as `10.0.2.15`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

/// The error of a text that is no network. It says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no network such as \"172.17.0.0/16\" or \"fd00::/8\", and no IP address: {why}"
)]
pub struct BadNetwork {
    text: String,
    why: String,
}

impl Network {
    /// Returns whether an address is in the network. An IPv4 address that is mapped to IPv6, as a listener on `::` sees
    /// it, counts as the IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }

    /// Returns the number of leading bits that all addresses of the network share. Of two networks that contain the same
    /// address, the one with more bits lies within the other.
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let bad = |why: String| BadNetwork {
            text: text.to_owned(),
            why,
        };
        let net = match text.contains('/') {
            true => text.parse::<IpNet>().ok(),
            false => text.parse::<IpAddr>().ok().map(IpNet::from),
        };
        let net =
            net.ok_or_else(|| bad("write an address, and '/' with the number of its bits".into()))?;
        let first = net.trunc();
        if net != first {
            return Err(bad(format!(
                "bits after the first {} are set: write {first} for the network, or {} for the one address",
                net.prefix_len(),
                net.addr()
            )));
        }
        // Such a network would contain nobody: mapped addresses count as those of IPv4.
        if net.addr().to_canonical().is_ipv4() != net.addr().is_ipv4() {
            return Err(bad(
                "it is a mapped IPv4 network: write it in the form of IPv4".into(),
            ));
        }
        Ok(Network(net))
    }
}

/// Writes a network of one address without its prefix, as users write it.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => write!(f, "{}", self.0.addr()),
            false => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Gateway {
    /// Checks that each host of `advertise_to` can be dialled, and that no network is named twice.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong: its key, and a message that says what to write instead.
    pub(super) fn check_advertise_to(&self) -> Result<(), Invalid> {
        let mut networks = HashSet::new();
        for (index, AdvertiseTo { from, host }) in self.advertise_to.iter().enumerate() {
            let key = format!("gateway.advertise_to.{index}");
            ensure(networks.insert(from), &format!("{key}.from"), || {
                format!("{from} is there twice: a client can be told one host only")
            })?;
            let bad = Host::dialable(host).err();
            ensure(bad.is_none(), &format!("{key}.host"), || {
                bad.map_or_else(String::new, |bad| bad.to_string())
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_and_those_that_are_mapped_to_them() {
        for (network, ip, expected) in [
            ("172.17.0.0/16", "172.17.255.1", true),
            ("172.17.0.0/16", "::ffff:172.17.0.2", true),
            ("172.17.0.0/16", "172.18.0.1", false),
            ("10.0.2.15", "10.0.2.15", true),
            ("10.0.2.15", "10.0.2.16", false),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "127.0.0.1", false),
            ("::/0", "fe80::1", true),
            ("fd00::/8", "fd12::3", true),
            ("::1", "::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(
                network.contains(ip.parse().unwrap()),
                expected,
                "{network} {ip}"
            );
        }
    }

    #[test]
    fn a_network_is_written_as_it_was_read() {
        for text in ["172.17.0.0/16", "10.0.2.15", "fd00::/8", "::1", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        let one: Network = "10.0.2.15/32".parse().unwrap();
        assert_eq!(one.to_string(), "10.0.2.15");
    }

    #[test]
    fn a_wrong_network_is_reported_with_what_to_write() {
        for (text, why) in [
            ("", "write an address"),
            ("docker0", "write an address"),
            ("172.17", "write an address"),
            ("172.17.0.0/33", "write an address"),
            ("172.17.0.0/", "write an address"),
            ("fe80::1%eth0", "write an address"),
            (
                "172.17.0.1/16",
                "write 172.17.0.0/16 for the network, or 172.17.0.1 for the one",
            ),
            ("::ffff:10.0.0.0/104", "in the form of IPv4"),
            ("::ffff:10.0.0.1", "in the form of IPv4"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

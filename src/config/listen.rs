//! Parses the addresses of listeners, and finds the address of this machine that a host name stands for.
//!
//! Serves the keys `listen` of the config and the flag `--host`. A name is resolved once, when the config is read: the
//! stack itself knows only socket addresses.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use super::Host;
use super::host::Quoted;

/// How many addresses of a name an error lists.
const MAX_SHOWN: usize = 4;

/// The error of a text that is no address for a listener. It quotes the beginning of the text, and says what to write
/// instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadListen {
    /// The text is neither an address with a port, nor a name with one, nor a port alone.
    #[error(
        "{} is no address such as \"127.0.0.1:10000\", \"localhost:10000\" or \":10000\": {why}",
        Quoted(text)
    )]
    Address {
        /// The text as it was written.
        text: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// The text is no host, or none of this machine.
    #[error(
        "{} is no host to listen on, such as \"0.0.0.0\", \"::\" or \"localhost\": {why}",
        Quoted(text)
    )]
    Host {
        /// The text as it was written.
        text: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
}

/// Parses the address of a listener: `127.0.0.1:10000`, `localhost:10000`, or `:10000` for all addresses of this
/// machine. Port 0 is any free port.
///
/// # Errors
///
/// [`BadListen::Address`], when the text has another form, or its name does not stand for an address of this machine.
pub fn parse(text: &str) -> Result<SocketAddr, BadListen> {
    // Whether an IP address belongs to this machine is found out when it is bound. A config is also checked on machines
    // other than the one for which it was written.
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let bad = |why| BadListen::Address {
        text: text.to_owned(),
        why,
    };
    let (host, port) = split(text).map_err(bad)?;
    let host = match host {
        "" => ListenHost::any(),
        host => ListenHost::find(host).map_err(bad)?,
    };
    Ok(host.at(port))
}

/// Splits an address into its host and its port.
///
/// # Errors
///
/// A message for the user, when the text has no port, or its host is not separated from the port.
fn split(text: &str) -> Result<(&str, u16), String> {
    let missing = || "its port is missing (port 0 is any free port)".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(missing)?;
    // The last colon of a text that ends with a bracket is part of an IPv6 address.
    if text.ends_with(']') {
        return Err(missing());
    }
    if host.contains(':') && !host.starts_with('[') && !host.contains('/') {
        return Err("an IPv6 address needs brackets, as in [::1]:10000".to_owned());
    }
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number);
    let port = port.ok_or("a port is a number from 0 to 65535 (0 is any free port)")?;
    Ok((host, port))
}

/// The host of a listener's address: an IP address, with its zone if it is link-local.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenHost(SocketAddr);

impl ListenHost {
    /// Parses an IP address, or finds the address of this machine that a name stands for. The brackets around an IPv6
    /// address may be left out.
    ///
    /// # Errors
    ///
    /// [`BadListen::Host`], when the text is neither, or the address is none of this machine.
    pub fn parse(text: &str) -> Result<ListenHost, BadListen> {
        ListenHost::find(text).map_err(|why| BadListen::Host {
            text: text.to_owned(),
            why,
        })
    }

    /// Returns the host that stands for all addresses of this machine: `::`, on which clients are served by IPv6 and
    /// IPv4, or 0.0.0.0 if this machine has no IPv6.
    pub fn any() -> ListenHost {
        // Containers often have IPv6 turned off, although the system knows it. `::` could be bound there, but clients
        // would be told addresses such as [::1]:10000, at which they reach nobody.
        let has_v6 = is_local((Ipv6Addr::LOCALHOST, 0).into());
        ListenHost(match has_v6 {
            true => (Ipv6Addr::UNSPECIFIED, 0).into(),
            false => (Ipv4Addr::UNSPECIFIED, 0).into(),
        })
    }

    /// Returns the address of a listener on this host.
    #[must_use]
    pub fn at(self, port: u16) -> SocketAddr {
        let mut addr = self.0;
        addr.set_port(port);
        addr
    }

    /// Finds the address of this machine that a host stands for.
    ///
    /// # Errors
    ///
    /// A message for the user that says what is wrong with the host, and what to write instead.
    fn find(text: &str) -> Result<ListenHost, String> {
        if text == "*" {
            return Err(
                "all addresses are written as 0.0.0.0, as [::], or as a port alone".to_owned(),
            );
        }
        let host = Host::parse(text).map_err(|bad| bad.why().to_owned())?;
        if host.port().is_some() {
            return Err("give it without a port: each listener keeps its own".to_owned());
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let found = (bare, 0).to_socket_addrs();
        let found = found.map_err(|error| format!("the host can't be resolved: {error}"))?;
        choose(found.collect(), is_local).map(ListenHost)
    }
}

/// Chooses the address to listen on from those of a host: the first one of IPv4 that is of this machine, or else the first
/// one of IPv6. A name such as `localhost` has one of each, and clients that are told only an address expect IPv4.
///
/// # Errors
///
/// A message for the user, when no address is of this machine.
fn choose(
    mut addresses: Vec<SocketAddr>,
    is_local: impl Fn(SocketAddr) -> bool,
) -> Result<SocketAddr, String> {
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    if let Some(local) = addresses.iter().find(|addr| is_local(**addr)) {
        return Ok(*local);
    }
    let ips = addresses.iter().map(|addr| addr.ip().to_string());
    let shown: Vec<_> = ips.take(MAX_SHOWN).collect();
    Err(match shown.is_empty() {
        true => "the host has no address".to_owned(),
        false => format!(
            "this machine has no address {}: take one that it has, or 0.0.0.0 or :: for all of them",
            shown.join(", ")
        ),
    })
}

/// Returns whether an address belongs to this machine, or is unspecified. The system knows: it lets nobody bind another
/// one.
fn is_local(addr: SocketAddr) -> bool {
    UdpSocket::bind(addr).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_and_a_host_of_this_machine_or_none() {
        let parsed = |text| parse(text).map(|addr| addr.to_string());
        for same in [
            "127.0.0.1:10000",
            "0.0.0.0:0",
            "[::]:1",
            "[fe80::1%2]:9",
            "192.0.2.77:1",
        ] {
            assert_eq!(parsed(same).as_deref(), Ok(same));
        }
        assert_eq!(parsed("localhost:10000").as_deref(), Ok("127.0.0.1:10000"));
        assert_eq!(parsed("LOCALHOST:0").as_deref(), Ok("127.0.0.1:0"));
        let any = parse(":10000").unwrap();
        assert!(any.ip().is_unspecified() && any.port() == 10000);
        assert_eq!(any, ListenHost::any().at(10000));
    }

    #[test]
    fn a_wrong_address_is_reported_with_the_form_that_is_meant() {
        for (text, why) in [
            ("localhost", "its port is missing"),
            ("10000", "its port is missing"),
            ("[::1]", "its port is missing"),
            ("", "its port is missing"),
            ("localhost:", "from 0 to 65535"),
            (":65536", "from 0 to 65535"),
            (":+1", "from 0 to 65535"),
            ("::1", "needs brackets"),
            ("::1:10000", "needs brackets"),
            ("*:10000", "as a port alone"),
            ("http://localhost:10000", "leave the scheme"),
            ("a b:1", "a blank"),
            ("256.0.0.1:1", "four of them"),
            ("localhost:9:9", "needs brackets"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            let begin = format!("{text:?} is no address such as \"127.0.0.1:10000\"");
            assert!(error.starts_with(&begin) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_host_stands_alone() {
        let host = |text| ListenHost::parse(text).map(|host| host.at(7).to_string());
        assert_eq!(host("0.0.0.0").as_deref(), Ok("0.0.0.0:7"));
        assert_eq!(host("127.0.0.1").as_deref(), Ok("127.0.0.1:7"));
        assert_eq!(host("localhost").as_deref(), Ok("127.0.0.1:7"));
        for text in ["", "*", "0.0.0.0:10000", "http://localhost", "a b"] {
            let error = host(text).unwrap_err();
            let begin = format!("{text:?} is no host to listen on");
            assert!(error.to_string().starts_with(&begin), "{error}");
        }
    }

    #[test]
    fn a_name_stands_for_an_address_of_this_machine_and_first_for_one_of_ipv4() {
        let addrs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let chosen = |texts: &[&str], local: &[&str]| {
            let local: Vec<SocketAddr> = addrs(local);
            choose(addrs(texts), |addr| local.contains(&addr)).map(|addr| addr.to_string())
        };
        let (v4, v6, other) = ("127.0.0.1:0", "[::1]:0", "192.0.2.9:0");
        assert_eq!(chosen(&[v6, v4], &[v4, v6]).as_deref(), Ok(v4));
        assert_eq!(chosen(&[other, v6], &[v4, v6]).as_deref(), Ok(v6));
        let error = chosen(&[v6, other], &[v4]).unwrap_err();
        assert!(
            error.starts_with("this machine has no address 192.0.2.9, ::1: take"),
            "{error}"
        );
        assert_eq!(chosen(&[], &[v4]).unwrap_err(), "the host has no address");
    }
}

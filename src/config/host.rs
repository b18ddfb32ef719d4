//! A host as people write it: where clients are sent to (`advertise`), and by what name a request may come
//! (`admin.hosts`, the `Host` header). One reader for all of them, so that each place takes and refuses the same.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The longest name that DNS knows, in bytes.
const LONGEST_NAME: usize = 253;

/// The longest part of a name between two dots, in bytes.
const LONGEST_LABEL: usize = 63;

/// How much of a text that is no host is repeated in an error, in characters.
const SHOWN: usize = 60;

/// A host, and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As it stands in front of a port: an IPv6 address in brackets.
    host: String,
    /// None where a name was given.
    ip: Option<IpAddr>,
    /// Whether an address was given with a zone, as in `fe80::1%eth0`.
    has_zone: bool,
    /// None when only the host was given.
    port: Option<u16>,
}

/// A text that is no host, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is no host or host:port: {why}", Shown(text))]
pub struct BadHost {
    text: String,
    why: &'static str,
}

/// The beginning of a text, in quotes.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => {
                let begin = self.0.get(..end).unwrap_or_default();
                write!(f, "{begin:?}.. ({} bytes)", self.0.len())
            }
        }
    }
}

impl Host {
    /// Reads a host or host:port. An IPv6 address may stand with brackets or without; in front of a port it needs them.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Host, BadHost> {
        let bad = |why| BadHost {
            text: text.to_owned(),
            why,
        };
        if let Some(why) = no_host_at_all(text) {
            return Err(bad(why));
        }
        let (host, port) = split_port(text).map_err(bad)?;
        let (ip, zone) = match address(host) {
            Some(found) => found.map_err(bad)?,
            None => {
                check_name(host).map_err(bad)?;
                return Ok(Host {
                    host: host.to_owned(),
                    ip: None,
                    has_zone: false,
                    port,
                });
            }
        };
        let host = match (ip, zone) {
            (IpAddr::V4(ip), _) => ip.to_string(),
            (IpAddr::V6(ip), None) => format!("[{ip}]"),
            (IpAddr::V6(ip), Some(zone)) => format!("[{ip}%{zone}]"),
        };
        Ok(Host {
            host,
            ip: Some(ip),
            has_zone: zone.is_some(),
            port,
        })
    }

    /// Reads a host or host:port to which clients can be sent.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), and for an address that nobody can dial: an unspecified one, or a link-local one
    /// without its zone.
    pub fn dialable(text: &str) -> Result<Host, BadHost> {
        let host = Host::parse(text)?;
        let why = match host.ip {
            Some(ip) if ip.to_canonical().is_unspecified() => {
                "it means every address of a machine, and none to dial"
            }
            Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() && !host.has_zone => {
                "a link-local address is dialled with its zone, as in fe80::1%eth0"
            }
            _ => return Ok(host),
        };
        let text = text.to_owned();
        Err(BadHost { text, why })
    }

    /// Reads a host:port to which clients can be sent.
    ///
    /// # Errors
    ///
    /// As [`dialable`](Self::dialable), and where the port is left out.
    pub fn address(text: &str) -> Result<Host, BadHost> {
        let host = Host::dialable(text)?;
        let why = "its port is missing";
        let text = text.to_owned();
        host.port
            .is_some()
            .then_some(host)
            .ok_or(BadHost { text, why })
    }

    /// host:port, with this port where none was given.
    pub fn at(&self, port: u16) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(port))
    }

    /// The port, where one was given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The host alone.
    #[must_use]
    pub fn without_port(self) -> Host {
        Host { port: None, ..self }
    }

    /// The host in the one form in which hosts can be compared: a name in small letters without a dot at its end, an
    /// address without brackets and zone.
    pub fn name(&self) -> String {
        match self.ip {
            Some(ip) => ip.to_canonical().to_string(),
            None => self.host.trim_end_matches('.').to_ascii_lowercase(),
        }
    }

    /// Whether it may be a name of the public DNS, which its owner can make point anywhere: not an IP address, and not a
    /// name without a dot.
    pub fn is_public_name(&self) -> bool {
        self.ip.is_none() && self.name().contains('.')
    }

    /// Whether it is this machine, for everybody on this machine and for nobody else: a loopback address, `localhost`, or
    /// a name under `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self.ip {
            Some(ip) => ip.to_canonical().is_loopback(),
            None => {
                let name = self.name();
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }
}

/// Why a text is something else than a host, where that can be said at a glance.
fn no_host_at_all(text: &str) -> Option<&'static str> {
    let has = |what: fn(char) -> bool| text.contains(what);
    if text.is_empty() {
        Some("it is empty")
    } else if has(|c| c.is_whitespace() || c.is_control()) {
        Some("it has a blank or a control character")
    } else if text.contains("://") {
        Some("leave the scheme and the path out")
    } else if has(|c| "/?#".contains(c)) {
        Some("leave out what begins with '/': one host, no path and no network")
    } else if has(|c| c == '*') {
        Some("there are no wildcards: give each host by itself")
    } else {
        None
    }
}

/// The host and the port of host:port.
fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let is_bare_v6 = text.matches(':').nth(1).is_some() && !text.starts_with('[');
    match text.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 && !text.ends_with(']') => {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|&port| port > 0 && is_number);
            Ok((
                host,
                Some(port.ok_or("a port is a number from 1 to 65535")?),
            ))
        }
        _ => Ok((text, None)),
    }
}

type Address<'a> = (IpAddr, Option<&'a str>);

/// An address and its zone; none where a host is a name.
fn address(host: &str) -> Option<Result<Address<'_>, &'static str>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(Ok((ip, None)));
    }
    if !host.contains(['[', ']', ':', '%']) {
        return None;
    }
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').unwrap_or_default(),
        None => host,
    };
    let (ip, zone) = match bare.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (bare, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_zone = |zone: &str| (1..=LONGEST_LABEL).contains(&zone.len()) && zone.chars().all(plain);
    Some(match ip.parse::<Ipv6Addr>() {
        Ok(ip) if zone.is_none_or(is_zone) => Ok((ip.into(), zone)),
        _ => Err("an address is written as in 10.0.0.1, ::1, [::1]:443 or fe80::1%eth0"),
    })
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.chars().all(plain) {
        return Err("a name has letters of ASCII, digits, '-', '_' and '.' only");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > LONGEST_NAME {
        return Err("a name has 253 bytes at most");
    }
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(is_label) {
        return Err("each part of a name has 1 to 63 bytes, and no '-' at its ends");
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("an address of numbers has four of them, each from 0 to 255");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_can_dial() {
        for good in [
            "h",
            "im.example.org",
            "im.example.org.",
            "im_1.example",
            "im:99",
            "IM:65535",
            "10.0.0.1",
            "10.0.0.1:9",
            "::1",
            "[::1]",
            "[::1]:9",
            "fe80::1%eth0",
            "[fe80::1%2]:9",
            "::ffff:10.0.0.1",
        ] {
            assert!(Host::dialable(good).is_ok(), "{good}");
        }
        let (long, longer) = ("a".repeat(64), "a.".repeat(127) + "a");
        for bad in [
            "",
            " ",
            "a b",
            " a",
            "a\n",
            "a\u{7f}",
            "a\u{a0}b:1",
            ":9",
            "h:",
            "h:0",
            "h:x",
            "h:+9",
            "h:65536",
            "h:9:9",
            "0.0.0.0",
            "0.0.0.0:9",
            "[::]",
            "::",
            "http://x",
            "x/",
            "10.0.0.0/8",
            "*.example.org",
            "user@x",
            "[h]",
            "[10.0.0.1]",
            "[::1",
            "::1]",
            "[::1]9",
            "[]:9",
            "fe80::1",
            "[fe80::1]:9",
            "fe80::1%",
            "[fe80::1%a b]:9",
            "h%eth0",
            "256.0.0.1",
            "10.0.1",
            "1",
            ".",
            "a..b",
            ".a",
            "-a",
            "a-",
            "bücher.example",
            &long,
            &longer,
        ] {
            assert!(Host::dialable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_says_what_is_wrong_and_never_repeats_a_long_text() {
        let why = |text: &str| Host::dialable(text).unwrap_err().to_string();
        assert_eq!(
            why("h:0"),
            "\"h:0\" is no host or host:port: a port is a number from 1 to 65535"
        );
        assert!(why("http://h").contains("leave the scheme"));
        let long = why(&"x".repeat(70_000));
        assert!(long.len() < 200 && long.contains("70000 bytes"), "{long}");
    }

    #[test]
    fn a_host_without_a_port_gets_one() {
        let at = |text| Host::dialable(text).unwrap().at(11000);
        assert_eq!(at("im.example.org"), "im.example.org:11000");
        assert_eq!(at("im.example.org:443"), "im.example.org:443");
        assert_eq!(at("10.0.0.1"), "10.0.0.1:11000");
        assert_eq!(at("::1"), "[::1]:11000");
        assert_eq!(at("[::1]"), "[::1]:11000");
        assert_eq!(at("[::1]:99"), "[::1]:99");
        assert_eq!(at("fe80::1%eth0"), "[fe80::1%eth0]:11000");
    }

    #[test]
    fn loopback_has_many_names() {
        let is_loopback = |text| Host::parse(text).unwrap().is_loopback();
        for name in [
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "imd.localhost",
            "a.b.localhost.:80",
            "127.0.0.1:9",
            "127.255.0.3",
            "::1",
            "[::1]:9",
            "[::ffff:127.0.0.1]:9",
        ] {
            assert!(is_loopback(name), "{name}");
        }
        for name in [
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "10.0.0.1",
            "[::2]",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}

//! Parses hosts: names and IP addresses, with or without a port.
//!
//! Serves every place where a host is written: `advertise`, `admin.hosts` and `http.hosts` in the config, the faults of
//! the registry, and the headers `Host` and `Origin` of requests. With one parser for all of them, each accepts and
//! refuses the same texts.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The longest host name in DNS, in bytes, without a dot at its end.
const MAX_NAME: usize = 253;

/// The longest label of a host name in DNS, which is the part between two dots, in bytes.
const MAX_LABEL: usize = 63;

/// How much of a text that is not a host an error repeats, in characters.
const MAX_SHOWN: usize = 60;

/// A host with an optional port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The host as it is written before a port: an IPv6 address is in brackets.
    host: String,
    /// The IP address. None if the host is a name.
    ip: Option<IpAddr>,
    /// Whether the address has a zone, as in `fe80::1%eth0`.
    has_zone: bool,
    /// The port, from 1. None if the text has none.
    port: Option<u16>,
}

/// The error of a text that is not a host. It quotes the beginning of the text, and says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is no host or host:port: {why}", Quoted(text))]
pub struct BadHost {
    text: String,
    why: &'static str,
}

impl BadHost {
    /// Returns what is wrong with the text, in words for the user.
    pub(super) fn why(&self) -> &'static str {
        self.why
    }
}

/// Displays the beginning of a text in quotes.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_SHOWN) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => {
                let begin = self.0.get(..end).unwrap_or_default();
                write!(f, "{begin:?}.. ({} bytes)", self.0.len())
            }
        }
    }
}

impl Host {
    /// Parses `host` or `host:port`. The brackets around an IPv6 address may be left out if no port follows.
    ///
    /// # Errors
    ///
    /// [`BadHost`], when the text is neither; its message says what to write instead.
    pub fn parse(text: &str) -> Result<Host, BadHost> {
        let bad = |why| BadHost {
            text: text.to_owned(),
            why,
        };
        if let Some(why) = obvious_mistake(text) {
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

    /// Parses a `host` or `host:port` that a client can connect to.
    ///
    /// # Errors
    ///
    /// [`BadHost`], when [`parse`](Self::parse) fails, or when nobody can connect to the address: to an unspecified
    /// one, such as 0.0.0.0, or to a link-local one without its zone.
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

    /// Parses a `host:port` that a client can connect to.
    ///
    /// # Errors
    ///
    /// [`BadHost`], when [`dialable`](Self::dialable) fails, or when the text has no port.
    pub fn address(text: &str) -> Result<Host, BadHost> {
        let host = Host::dialable(text)?;
        let why = "its port is missing";
        let text = text.to_owned();
        host.port
            .is_some()
            .then_some(host)
            .ok_or(BadHost { text, why })
    }

    /// Returns `host:port`, with the given port if the host has none of its own.
    pub fn at(&self, port: u16) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(port))
    }

    /// Returns the host as it is written before a port: an IPv6 address is in brackets.
    pub fn as_written(&self) -> &str {
        &self.host
    }

    /// Returns the port, if the text had one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Removes the port.
    #[must_use]
    pub fn without_port(self) -> Host {
        Host { port: None, ..self }
    }

    /// Returns the host in a canonical form, for comparisons: a name in lower case and without a dot at its end, or an
    /// address without brackets and zone.
    pub fn name(&self) -> String {
        match self.ip {
            Some(ip) => ip.to_canonical().to_string(),
            None => self.host.trim_end_matches('.').to_ascii_lowercase(),
        }
    }

    /// Returns whether the host may be a name of the public DNS, which its owner can make resolve to any address. IP
    /// addresses and names without a dot are not.
    pub fn is_public_name(&self) -> bool {
        self.ip.is_none() && self.name().contains('.')
    }

    /// Returns whether the host means the machine of whoever uses it: a loopback address, `localhost`, or a name under
    /// `localhost`.
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

/// Returns what is wrong with a text that is obviously not a host, such as a URL. None if the text has to be parsed.
fn obvious_mistake(text: &str) -> Option<&'static str> {
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

/// Splits `host:port`. The port is None if the text has none.
///
/// # Errors
///
/// A message for the user, when the text after the colon is not a port.
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

/// An IP address, and its zone if it has one.
type Address<'a> = (IpAddr, Option<&'a str>);

/// Parses an IP address and its zone. None if the host is a name; an error if it is a malformed address.
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
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_zone =
        |zone: &str| (1..=MAX_LABEL).contains(&zone.len()) && zone.chars().all(is_allowed);
    Some(match ip.parse::<Ipv6Addr>() {
        Ok(ip) if zone.is_none_or(is_zone) => Ok((ip.into(), zone)),
        _ => Err("an address is written as in 10.0.0.1, ::1, [::1]:443 or fe80::1%eth0"),
    })
}

/// Checks that a host name is valid in DNS. An underscore is allowed, since names of containers have it.
///
/// # Errors
///
/// A message for the user that says what is wrong with the name.
fn check_name(name: &str) -> Result<(), &'static str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.chars().all(is_allowed) {
        return Err("a name has letters of ASCII, digits, '-', '_' and '.' only");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > MAX_NAME {
        return Err("a name has 253 bytes at most");
    }
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
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
    fn a_dialable_host_is_a_name_or_an_address_that_clients_can_connect_to() {
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
    fn an_error_says_what_is_wrong_and_does_not_repeat_a_long_text() {
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
    fn a_host_without_a_port_gets_the_default_port() {
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
    fn every_form_of_loopback_is_recognised() {
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

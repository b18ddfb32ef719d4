use std::net::{IpAddr, Ipv6Addr};

/// A host that clients can dial, and perhaps a port.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    /// As it stands in front of a port: an IPv6 address in brackets.
    pub host: String,
    /// None when only the host was given.
    pub port: Option<u16>,
}

impl Host {
    /// Reads a host or host:port. None when it is neither, or an unspecified address, which can't be dialled.
    pub fn parse(text: &str) -> Option<Host> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Host::of_ip(ip, None);
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => {
                (host, Some(port.parse().ok().filter(|&port| port > 0)?))
            }
            _ => (text, None),
        };
        if let Some(v6) = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            return Host::of_ip(v6.parse::<Ipv6Addr>().ok()?.into(), port);
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Host::of_ip(ip, port);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = !host.is_empty() && host.chars().all(plain);
        is_name.then(|| Host {
            host: host.to_owned(),
            port,
        })
    }

    fn of_ip(ip: IpAddr, port: Option<u16>) -> Option<Host> {
        let host = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        (!ip.is_unspecified()).then_some(Host { host, port })
    }

    /// host:port, with this port where none was given.
    pub fn at(&self, port: u16) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_can_dial() {
        for good in [
            "h",
            "im.example.org",
            "im:99",
            "10.0.0.1",
            "10.0.0.1:9",
            "::1",
            "[::1]",
            "[::1]:9",
        ] {
            assert!(Host::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            ":9",
            "h:",
            "h:0",
            "h:x",
            "0.0.0.0",
            "0.0.0.0:9",
            "[::]",
            "http://x",
            "a b",
            "[h]",
            "[10.0.0.1]",
        ] {
            assert!(Host::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_host_without_a_port_gets_one() {
        let at = |text| Host::parse(text).unwrap().at(11000);
        assert_eq!(at("im.example.org"), "im.example.org:11000");
        assert_eq!(at("im.example.org:443"), "im.example.org:443");
        assert_eq!(at("10.0.0.1"), "10.0.0.1:11000");
        assert_eq!(at("::1"), "[::1]:11000");
        assert_eq!(at("[::1]"), "[::1]:11000");
        assert_eq!(at("[::1]:99"), "[::1]:99");
    }
}

//! From which pages a request may come: the HTTP listeners are on this machine, and so is the browser that shows the
//! pages of anybody.
//!
//! A page of another site can send forms to any port of this machine, and one whose name was made to point here ("DNS
//! rebinding") reads the answers too. Both are recognised by what every browser sends: by which host it asks, and from
//! which page. The admin API, the user API and the group API all ask here.

use axum::http::{HeaderMap, Uri, header};

use crate::config::Host;

/// A header that has to be there once at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    /// It is not there.
    Absent,
    /// It is there once, as text.
    Is(&'a str),
    /// There are several, or it is no text.
    Unreadable,
}

impl Header<'_> {
    /// A header of a request.
    pub fn of(headers: &HeaderMap, name: impl header::AsHeaderName) -> Header<'_> {
        let mut values = headers.get_all(name).iter();
        match (values.next().map(|value| value.to_str()), values.next()) {
            (None, _) => Header::Absent,
            (Some(Ok(text)), None) => Header::Is(text),
            _ => Header::Unreadable,
        }
    }
}

/// By which hosts one listener may be asked, and from pages of which hosts.
#[derive(Debug)]
pub struct Guard {
    /// The key of the config that lists hosts, for errors.
    key: &'static str,
    /// The hosts that are listed there. Loopback needs no listing.
    hosts: Vec<Host>,
    /// Whether only names of the public DNS have to be listed.
    public_only: bool,
}

impl Guard {
    /// The guard of a listener that may be asked by loopback hosts, and by those that `key` of the config lists.
    pub fn new(key: &'static str, hosts: &[String]) -> Guard {
        let hosts = hosts.iter().map(|host| Host::parse(host));
        Guard {
            key,
            // The config was checked.
            hosts: hosts.filter_map(Result::ok).collect(),
            public_only: false,
        }
    }

    /// Also lets in what comes by an IP address, by a name without a dot (of a container, or of a machine of the same
    /// network), or without a host. No page of another site does: only a name of the public DNS can be made to point here,
    /// and a browser always says by which host it asks.
    #[must_use]
    pub fn for_public_names(mut self) -> Guard {
        self.public_only = true;
        self
    }

    /// Refuses a request by a host that is not this machine's.
    ///
    /// # Errors
    ///
    /// What is wrong with the host, and what to do.
    pub fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), String> {
        let key = self.key;
        match asked_host(headers, uri) {
            Ok(Some(host)) if self.is_known(&host) => Ok(()),
            Ok(None) if self.public_only => Ok(()),
            Ok(None) => Err(format!(
                "the request names no host: ask by a loopback address, or by a host of {key} in the config"
            )),
            Ok(Some(host)) => {
                let name = host.name();
                Err(format!(
                    "the host {name} is not known here: ask by a loopback address, or add {name:?} to {key} in the config"
                ))
            }
            Err(why) => Err(format!(
                "{why}: ask by a loopback address, or by a host of {key} in the config"
            )),
        }
    }

    fn is_known(&self, host: &Host) -> bool {
        host.is_loopback() || (self.public_only && !host.is_public_name()) || self.lists(host)
    }

    /// Whether the config lists a host. Where it lists one with a port, another port is another host; a proxy may have
    /// left the port out.
    fn lists(&self, asked: &Host) -> bool {
        let fits = |listed: &Host| {
            let same_port = match (listed.port(), asked.port()) {
                (Some(listed), Some(asked)) => listed == asked,
                _ => true,
            };
            same_port && listed.name() == asked.name()
        };
        self.hosts.iter().any(fits)
    }

    /// Refuses a page of another site, which a browser would let ask in its user's place.
    ///
    /// # Errors
    ///
    /// Whose page it is, and what to do.
    pub fn check_page(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), String> {
        let key = self.key;
        match Header::of(headers, "sec-fetch-site") {
            Header::Is("same-origin" | "none") => return Ok(()),
            Header::Absent => {}
            Header::Is(_) | Header::Unreadable => {
                return Err(format!(
                    "a page of another site may not ask this, whatever {key} lists: open a page of this address itself"
                ));
            }
        }
        let origin = match Header::of(headers, header::ORIGIN) {
            // No browser.
            Header::Absent => return Ok(()),
            Header::Is(origin) => Origin::parse(origin),
            Header::Unreadable => None,
        };
        let asked = asked_host(headers, uri).ok().flatten();
        match origin {
            Some(origin) if origin.is_of(asked.as_ref()) || self.lists(&origin.host) => Ok(()),
            Some(Origin { host, .. }) => {
                let name = host.name();
                Err(format!(
                    "a page of {name} may not ask this: if it comes through a proxy of yours, add {name:?} to {key} in the \
                     config"
                ))
            }
            None => Err(format!(
                "a page without a host may not ask this: open it by a loopback address or a host of {key}"
            )),
        }
    }
}

/// By what host a request comes: that of its target, where the target is a whole URL, else that of its `Host`, if it has
/// one.
fn asked_host(headers: &HeaderMap, uri: &Uri) -> Result<Option<Host>, String> {
    let text = match (uri.authority(), Header::of(headers, header::HOST)) {
        (_, Header::Unreadable) => return Err("the request has no single readable host".to_owned()),
        (Some(authority), _) => authority.as_str(),
        (None, Header::Is(host)) => host,
        (None, Header::Absent) => return Ok(None),
    };
    Host::parse(text).map(Some).map_err(|bad| bad.to_string())
}

/// What a browser says of the page that asks.
struct Origin {
    /// With its port, also where the scheme says it.
    host: Host,
    default_port: u16,
}

impl Origin {
    fn parse(text: &str) -> Option<Origin> {
        let (scheme, host) = text.split_once("://")?;
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = Host::parse(host).ok()?;
        let host = Host::parse(&host.at(default_port)).ok()?;
        Some(Origin { host, default_port })
    }

    /// Whether the page came from the host that it asks.
    fn is_of(&self, asked: Option<&Host>) -> bool {
        let is_same = |asked: &Host| {
            let port = asked.port().unwrap_or(self.default_port);
            self.host.port() == Some(port) && self.host.name() == asked.name()
        };
        asked.is_some_and(is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    /// Whether the guard of the user API lets a request in.
    fn passes(headers: &[(&'static str, &'static str)]) -> bool {
        let guard = Guard::new("http.hosts", &["im.example".to_owned()]).for_public_names();
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let uri = Uri::from_static("/x/user/register");
        guard.check_host(&map, &uri).is_ok() && guard.check_page(&map, &uri).is_ok()
    }

    #[test]
    fn a_client_may_come_by_address_and_a_page_by_a_listed_name_only() {
        for (host, lets_in) in [
            ("127.0.0.1:6001", true),
            ("localhost:6001", true),
            ("10.1.2.3:6001", true),
            ("[fd00::1]:6001", true),
            ("imd:6001", true),
            ("im.example", true),
            ("IM.example.:6001", true),
            ("evil.example:6001", false),
            ("evil.example@127.0.0.1", false),
            ("127.0.0.1:99999", false),
            ("10.1.2.3.evil.example", false),
            ("10.1.2", false),
            ("", false),
        ] {
            assert_eq!(passes(&[("host", host)]), lets_in, "{host}");
        }
        assert!(passes(&[]));
        assert!(!passes(&[("host", "127.0.0.1"), ("host", "127.0.0.1")]));
    }

    #[test]
    fn a_page_of_another_site_may_not_ask_whatever_host_it_asks_by() {
        let host = ("host", "127.0.0.1:6001");
        for (header, lets_in) in [
            (("origin", "http://127.0.0.1:6001"), true),
            (("origin", "https://im.example"), true),
            (("origin", "http://evil.example"), false),
            (("origin", "http://127.0.0.1:3000"), false),
            (("origin", "null"), false),
            (("sec-fetch-site", "same-origin"), true),
            (("sec-fetch-site", "cross-site"), false),
        ] {
            assert_eq!(passes(&[host, header]), lets_in, "{header:?}");
        }
    }
}

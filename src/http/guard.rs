//! Refuses requests that a page of another web site makes a browser send.
//!
//! The HTTP listeners are usually on the machine of a developer, whose browser shows pages of any site. Such a page can
//! send forms to any port of the machine, and a page whose host name was made to resolve to this machine ("DNS
//! rebinding") can also read the responses. Both are recognised by headers that every browser sends and no page can
//! change: `Host` says which host the page asked, and `Origin` and `Sec-Fetch-Site` say where the page came from.
//!
//! Serves the user API, the group API and the admin API, each of which has a [`Guard`] of its own.

use axum::http::{HeaderMap, Uri, header};

use crate::config::Host;

/// The value of a header that may occur once at most in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    /// The request does not have the header.
    Absent,
    /// The request has the header once, and its value is visible ASCII.
    Is(&'a str),
    /// The request has the header several times, or its value is not visible ASCII.
    Unreadable,
}

impl Header<'_> {
    /// Reads a header of a request.
    pub fn of(headers: &HeaderMap, name: impl header::AsHeaderName) -> Header<'_> {
        let mut values = headers.get_all(name).iter();
        match (values.next().map(|value| value.to_str()), values.next()) {
            (None, _) => Header::Absent,
            (Some(Ok(text)), None) => Header::Is(text),
            _ => Header::Unreadable,
        }
    }
}

/// The host names by which one listener may be asked, which are also the hosts whose pages may ask it.
#[derive(Debug)]
pub struct Guard {
    /// The key of the config that lists `hosts`: errors tell the client to add a host there.
    key: &'static str,
    /// The hosts that the config lists. Loopback hosts are allowed without being listed.
    hosts: Vec<Host>,
    /// Whether only names of the public DNS have to be listed: see [`for_public_names`](Self::for_public_names).
    public_only: bool,
}

impl Guard {
    /// Creates the guard of a listener that may be asked by loopback hosts, and by the `hosts` that the config lists
    /// under `key`. A listed text that is not a host is ignored.
    pub fn new(key: &'static str, hosts: &[String]) -> Guard {
        let hosts = hosts.iter().map(|host| Host::parse(host));
        Guard {
            key,
            // The config was validated, so there is no error to report here.
            hosts: hosts.filter_map(Result::ok).collect(),
            public_only: false,
        }
    }

    /// Also allows requests to an IP address, to a name without a dot (of a container, or of a machine in the same
    /// network), and requests without a `Host`.
    ///
    /// None of these can come from a page of another site: only a name of the public DNS can be made to resolve to this
    /// machine, and a browser always sends a `Host`.
    #[must_use]
    pub fn for_public_names(mut self) -> Guard {
        self.public_only = true;
        self
    }

    /// Checks that a request names a host that this listener may be asked by.
    ///
    /// # Errors
    ///
    /// If the host is not allowed, is missing or can't be read: a text for the client that says which, and what to add
    /// to the config. The caller answers with 403.
    pub fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), String> {
        let key = self.key;
        match requested_host(headers, uri) {
            Ok(Some(host)) if self.is_allowed(&host) => Ok(()),
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

    /// Returns whether requests may name this host.
    fn is_allowed(&self, host: &Host) -> bool {
        host.is_loopback() || (self.public_only && !host.is_public_name()) || self.is_listed(host)
    }

    /// Returns whether the config lists a host. A host that is listed with a port does not match the host with another
    /// port, but matches the host without a port, since a proxy may have removed it.
    fn is_listed(&self, requested: &Host) -> bool {
        let matches_listed = |listed: &Host| {
            let same_port = match (listed.port(), requested.port()) {
                (Some(listed), Some(requested)) => listed == requested,
                _ => true,
            };
            same_port && listed.name() == requested.name()
        };
        self.hosts.iter().any(matches_listed)
    }

    /// Checks that a request does not come from a page of another site, which would act with the rights of the
    /// browser's user. A client that is no browser passes, since it sends none of these headers.
    ///
    /// # Errors
    ///
    /// If the page is from another site or from no host: a text for the client that names the page's host, and says
    /// what to add to the config. The caller answers with 403.
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
            // Only browsers send an origin, so this client shows no pages.
            Header::Absent => return Ok(()),
            Header::Is(origin) => Origin::parse(origin),
            Header::Unreadable => None,
        };
        let requested = requested_host(headers, uri).ok().flatten();
        match origin {
            Some(origin)
                if origin.is_same_origin(requested.as_ref()) || self.is_listed(&origin.host) =>
            {
                Ok(())
            }
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

/// Returns the host that a request names: in its target, if that is an absolute URL, or else in its `Host` header. None
/// if it names no host.
///
/// # Errors
///
/// A text for the client, when the host can't be read.
fn requested_host(headers: &HeaderMap, uri: &Uri) -> Result<Option<Host>, String> {
    let text = match (uri.authority(), Header::of(headers, header::HOST)) {
        (_, Header::Unreadable) => return Err("the request has no single readable host".to_owned()),
        (Some(authority), _) => authority.as_str(),
        (None, Header::Is(host)) => host,
        (None, Header::Absent) => return Ok(None),
    };
    Host::parse(text).map(Some).map_err(|bad| bad.to_string())
}

/// The origin of the page that sent a request, as in the header `Origin`.
struct Origin {
    /// The host of the page. Its port is always set, if need be to that of the scheme.
    host: Host,
    /// The port of the origin's scheme, which a `Host` header leaves out.
    default_port: u16,
}

impl Origin {
    /// Parses the value of an `Origin` header. None if it is `null`, or if its scheme is neither http nor https.
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

    /// Returns whether the page was loaded from the host that it asks.
    fn is_same_origin(&self, requested: Option<&Host>) -> bool {
        let is_same = |requested: &Host| {
            let port = requested.port().unwrap_or(self.default_port);
            self.host.port() == Some(port) && self.host.name() == requested.name()
        };
        requested.is_some_and(is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    /// Returns whether the guard of the user API allows a request with these headers.
    fn is_let_in(headers: &[(&'static str, &'static str)]) -> bool {
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
    fn an_address_is_allowed_and_a_public_name_only_if_it_is_listed() {
        for (host, expected) in [
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
            assert_eq!(is_let_in(&[("host", host)]), expected, "{host}");
        }
        assert!(is_let_in(&[]));
        assert!(!is_let_in(&[("host", "127.0.0.1"), ("host", "127.0.0.1")]));
    }

    #[test]
    fn a_page_of_another_site_is_refused_even_if_it_asks_an_allowed_host() {
        let host = ("host", "127.0.0.1:6001");
        for (header, expected) in [
            (("origin", "http://127.0.0.1:6001"), true),
            (("origin", "https://im.example"), true),
            (("origin", "http://evil.example"), false),
            (("origin", "http://127.0.0.1:3000"), false),
            (("origin", "null"), false),
            (("sec-fetch-site", "same-origin"), true),
            (("sec-fetch-site", "cross-site"), false),
        ] {
            assert_eq!(is_let_in(&[host, header]), expected, "{header:?}");
        }
    }
}

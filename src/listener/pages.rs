//! Which web pages may open a WebSocket.
//!
//! Serves the handshake. A browser lets every page of every site open a WebSocket to this machine, and only tells by the header
//! `Origin` where the page is from; a client that is no browser sends none. The tokens of a stack with the published salt protect
//! nothing, so without this check any site could log in as anybody on a developer's machine.

use axum::http::{HeaderMap, Uri, header};

use crate::config::{Host, Http, Origins};

/// The pages that may open a WebSocket: those of this machine, those of the host that they ask, and those that the config
/// lists.
#[derive(Debug, Default)]
pub struct Pages {
    origins: Origins,
    /// `http.hosts`. A text that is no host was refused with the config.
    hosts: Vec<String>,
}

impl Pages {
    /// Creates the rule that the config sets.
    pub fn new(http: &Http) -> Self {
        let hosts = http.hosts.iter().filter_map(|host| Host::parse(host).ok());
        Pages {
            origins: Origins::new(&http.cors_origins),
            hosts: hosts.map(|host| host.name()).collect(),
        }
    }

    /// Checks that a request for a WebSocket comes from a page that may open one, or from no page.
    ///
    /// # Errors
    ///
    /// A text for the client, which names the key of the config that lets the page in.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(());
        };
        let origin = origin.to_str().unwrap_or_default();
        if self.origins.entry_for(origin).is_some() || self.is_near(origin, headers) {
            return Ok(());
        }
        let entry = Origins::missing_entry(origin);
        Err(format!(
            "a page of another site may not open a WebSocket: add {entry:?} to http.cors_origins in the config"
        ))
    }

    /// Returns whether a page is from this machine, or from the host that it asks. A name of the public DNS can be made to lead
    /// to this machine by whoever owns it, so it has to be listed.
    fn is_near(&self, origin: &str, headers: &HeaderMap) -> bool {
        let Some(page) = host_of(origin) else {
            return false;
        };
        let asked = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let asked = asked.and_then(|host| Host::parse(host).ok());
        let is_own = asked.is_some_and(|asked| asked.name() == page.name());
        page.is_loopback()
            || is_own && (!page.is_public_name() || self.hosts.contains(&page.name()))
    }
}

/// Returns the host of an origin, if it has one.
fn host_of(origin: &str) -> Option<Host> {
    let uri = origin.parse::<Uri>().ok()?;
    Host::parse(uri.authority()?.as_str()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ANY_ORIGIN;

    fn is_let_in(pages: &Pages, origin: &str, asked: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, asked.parse().unwrap());
        if !origin.is_empty() {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        pages.check(&headers).is_ok()
    }

    #[test]
    fn pages_of_this_machine_and_of_the_asked_host_may_and_those_of_other_sites_may_not() {
        let pages = Pages::default();
        for (origin, asked, expected) in [
            ("", "127.0.0.1:11100", true),
            ("http://localhost:5173", "127.0.0.1:11100", true),
            ("http://127.0.0.1:10090", "localhost:11100", true),
            ("capacitor://localhost", "192.168.1.9:11100", true),
            ("http://192.168.1.9:10090", "192.168.1.9:11100", true),
            ("http://laptop:10090", "laptop:11100", true),
            ("http://192.168.1.7", "192.168.1.9:11100", false),
            ("http://evil.example", "127.0.0.1:11100", false),
            ("http://evil.example:11100", "evil.example:11100", false),
            ("http://localhost.evil.example", "127.0.0.1:11100", false),
            ("null", "127.0.0.1:11100", false),
            ("", "evil.example:11100", true),
        ] {
            assert_eq!(
                is_let_in(&pages, origin, asked),
                expected,
                "{origin} at {asked}"
            );
        }
    }

    #[test]
    fn the_config_lets_further_pages_in() {
        let listed = Pages::new(&Http {
            cors_origins: vec!["https://chat.example".into()],
            hosts: vec!["im.example".into()],
            ..Http::default()
        });
        assert!(is_let_in(&listed, "https://chat.example", "im.example"));
        assert!(is_let_in(&listed, "https://im.example", "im.example:443"));
        assert!(!is_let_in(&listed, "https://chat.example:1", "im.example"));
        let all = Pages::new(&Http {
            cors_origins: vec![ANY_ORIGIN.into()],
            ..Http::default()
        });
        assert!(is_let_in(&all, "null", "im.example"));
    }
}

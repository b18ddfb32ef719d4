//! Decides which requests are allowed, by their host, their origin and their token.
//!
//! Serves the router: no handler sees a request that was not checked here. The checks are needed on loopback too: the admin
//! API can kill servers, and any page that a browser shows can send requests to a port of this machine.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::answer::Problem;
use crate::config;
use crate::http::{self, Header};

/// The path of the metrics. A scraper may ask by any host name, because they hold no secret; it needs the token if one is set.
const METRICS: &str = "/metrics";

/// The paths of health checks and of the metrics: they hold no secret, are answered at once, and read no body.
pub const PROBES: [&str; 3] = ["/healthz", "/readyz", METRICS];

/// The paths of the pages for people: the console and the demo.
const PAGES: [&str; 3] = ["/", "/demo", "/demo/"];

/// The rules of an admin API, from its config.
#[derive(Debug)]
pub struct Guard {
    hosts: http::Guard,
    token: Option<config::Secret>,
}

impl Guard {
    /// Creates the guard that a config describes.
    ///
    /// An API that other machines can reach may be asked by any address and by any name without a dot, as the HTTP API of
    /// the stack may: nobody could list the addresses of a machine that moves between networks. It has a token, which a
    /// page of another site does not know.
    pub fn new(config: &config::Admin) -> Guard {
        let hosts = http::Guard::new("admin.hosts", &config.hosts);
        Guard {
            hosts: match config.listen.ip().is_loopback() {
                true => hosts,
                false => hosts.for_public_names(),
            },
            token: config.token.clone(),
        }
    }

    fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        let path = uri.path();
        if PROBES.contains(&path) && path != METRICS {
            return Ok(());
        }
        if path != METRICS {
            self.hosts.check_host(headers, uri).map_err(forbidden)?;
        }
        // A link on any site may lead to a page: it holds no data by itself, and can't be shown in a frame.
        let navigates = matches!(
            Header::of(headers, "sec-fetch-mode"),
            Header::Is("navigate")
        );
        if !PAGES.contains(&path) || !navigates {
            self.hosts.check_page(headers, uri).map_err(forbidden)?;
        }
        self.check_token(headers, path)
    }

    fn check_token(&self, headers: &HeaderMap, path: &str) -> Result<(), Problem> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        if !path.starts_with("/v1/") && path != METRICS {
            return Ok(());
        }
        let given = match Header::of(headers, header::AUTHORIZATION) {
            Header::Is(text) => text.strip_prefix("Bearer ").unwrap_or_default(),
            Header::Absent | Header::Unreadable => "",
        };
        if bool::from(given.as_bytes().ct_eq(token.expose().as_bytes())) {
            return Ok(());
        }
        let why = "wrong or no token: send the header authorization: Bearer with admin.token";
        Err(Problem::new(StatusCode::UNAUTHORIZED, why))
    }
}

fn forbidden(why: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, why)
}

/// Passes the requests that the guard allows on to the handlers.
pub async fn guarded(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check(request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn asked(guard: &Guard, path: &str, headers: &[(&'static str, &'static str)]) -> u16 {
        let headers = headers.iter().map(|&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let headers: Vec<_> = headers.collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        let checked = guard.check(&map, &path.parse().unwrap());
        checked.map_or_else(|problem| problem.status().as_u16(), |()| 200)
    }

    fn guard(hosts: &[&str], token: Option<&str>) -> Guard {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        Guard {
            hosts: http::Guard::new("admin.hosts", &hosts),
            token: token.map(|token| token.to_owned().into()),
        }
    }

    #[test]
    fn the_host_must_be_this_machine_or_configured() {
        let guard = guard(&["imd.test", "Proxied.TEST:8080", "fd00::1"], None);
        for (host, status) in [
            ("127.0.0.1:10090", 200),
            ("127.9.9.9", 200),
            ("localhost:10090", 200),
            ("LOCALHOST", 200),
            ("localhost.", 200),
            ("imd.localhost:10090", 200),
            ("[::1]:10090", 200),
            ("[::ffff:127.0.0.1]:10090", 200),
            ("imd.test", 200),
            ("imd.test:10090", 200),
            ("IMD.Test.:1", 200),
            ("proxied.test:8080", 200),
            ("proxied.test", 200),
            ("proxied.test:8081", 403),
            ("[fd00::1]:10090", 200),
            ("[FD00:0::1]", 200),
            ("localhost@evil.example", 403),
            ("localhost, evil.example", 403),
            ("evil.example:10090", 403),
            ("evil.example@127.0.0.1:10090", 403),
            ("127.0.0.1:99999", 403),
            ("127.0.0.1:0", 403),
            ("127.0.0.1:", 403),
            ("127.0.0.1.evil.example", 403),
            ("192.168.1.9:10090", 403),
            ("", 403),
        ] {
            assert_eq!(
                asked(&guard, "/v1/state", &[("host", host)]),
                status,
                "{host}"
            );
        }
        assert_eq!(asked(&guard, "/v1/state", &[]), 403);
        for second in ["evil.example", "localhost"] {
            let two = [("host", "localhost"), ("host", second)];
            assert_eq!(asked(&guard, "/v1/state", &two), 403);
            assert_eq!(asked(&guard, "http://localhost/v1/state", &two), 403);
        }
    }

    #[test]
    fn the_host_of_a_whole_url_counts_before_the_header() {
        let guard = guard(&[], None);
        let evil = [("host", "evil.example")];
        let local = [("host", "localhost:1")];
        let asked = |url, headers| asked(&guard, url, headers);
        assert_eq!(asked("http://localhost:1/v1/state", &evil), 200);
        assert_eq!(asked("http://localhost/v1/state", &[]), 200);
        assert_eq!(asked("http://evil.example/v1/state", &local), 403);
    }

    #[test]
    fn probes_and_scrapers_may_come_by_any_host_or_by_none() {
        for guard in [guard(&[], None), guard(&["imd.test"], Some("secret"))] {
            for path in ["/healthz", "/readyz"] {
                assert_eq!(asked(&guard, path, &[]), 200);
                assert_eq!(asked(&guard, path, &[("host", "10.1.2.3:10090")]), 200);
                assert_eq!(asked(&guard, path, &[("host", "")]), 200);
            }
        }
        let open = guard(&[], None);
        assert_eq!(asked(&open, "/metrics", &[]), 200);
        let pod = ("host", "10.1.2.3:10090");
        assert_eq!(asked(&open, "/metrics", &[pod]), 200);
        let site = ("sec-fetch-site", "cross-site");
        assert_eq!(asked(&open, "/metrics", &[pod, site]), 403);
        let shut = guard(&[], Some("secret"));
        assert_eq!(asked(&shut, "/metrics", &[pod]), 401);
        let token = ("authorization", "Bearer secret");
        assert_eq!(asked(&shut, "/metrics", &[pod, token]), 200);
        for path in ["/", "/version", "/console/main.js", "/healthz/x"] {
            assert_eq!(asked(&open, path, &[pod]), 403, "{path}");
        }
    }

    #[test]
    fn a_page_of_a_listed_host_may_ask_through_a_proxy_that_keeps_no_host() {
        let guard = guard(&["imd.test", "other.test:8443"], None);
        for (origin, status) in [
            ("http://imd.test", 200),
            ("http://imd.test:8080", 200),
            ("https://IMD.test", 200),
            ("https://other.test:8443", 200),
            ("https://other.test", 403),
            ("http://evil.example", 403),
            ("http://imd.test.evil.example", 403),
            ("imd.test", 403),
            ("ftp://imd.test", 403),
            ("null", 403),
            ("", 403),
        ] {
            let headers = [("host", "127.0.0.1:10090"), ("origin", origin)];
            assert_eq!(asked(&guard, "/v1/reset", &headers), status, "{origin}");
        }
        let cross = [
            ("host", "127.0.0.1:10090"),
            ("origin", "http://imd.test"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(asked(&guard, "/v1/reset", &cross), 403);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let guard = guard(&[], None);
        let from = |name, value| {
            asked(
                &guard,
                "/v1/state",
                &[("host", "localhost:1"), (name, value)],
            )
        };
        assert_eq!(from("sec-fetch-site", "same-origin"), 200);
        assert_eq!(from("sec-fetch-site", "none"), 200);
        assert_eq!(from("sec-fetch-site", "same-site"), 403);
        assert_eq!(from("sec-fetch-site", "cross-site"), 403);
        assert_eq!(from("origin", "http://localhost:1"), 200);
        assert_eq!(from("origin", "http://localhost:2"), 403);
        assert_eq!(from("origin", "https://evil.example"), 403);
        assert_eq!(from("origin", "null"), 403);
        assert_eq!(from("origin", "HTTP://localhost:1"), 403);
        let plain = |origin| {
            asked(
                &guard,
                "/v1/state",
                &[("host", "localhost"), ("origin", origin)],
            )
        };
        assert_eq!(plain("http://localhost"), 200);
        assert_eq!(plain("http://localhost:80"), 200);
        assert_eq!(plain("https://localhost"), 200);
        assert_eq!(plain("http://localhost:81"), 403);
        let host = ("host", "localhost:1");
        let site = ("sec-fetch-site", "cross-site");
        let link = ("sec-fetch-mode", "navigate");
        for page in PAGES {
            assert_eq!(asked(&guard, page, &[host, site, link]), 200, "{page}");
            assert_eq!(asked(&guard, page, &[host, site]), 403, "{page}");
        }
        assert_eq!(asked(&guard, "/v1/state", &[host, site, link]), 403);
    }

    #[test]
    fn a_token_is_asked_for_where_one_is_set() {
        let guard = guard(&[], Some("secret"));
        let with = |value| {
            asked(
                &guard,
                "/v1/state",
                &[("host", "localhost"), ("authorization", value)],
            )
        };
        assert_eq!(with("Bearer secret"), 200);
        assert_eq!(with("Bearer secre"), 401);
        assert_eq!(with("Basic secret"), 401);
        assert_eq!(asked(&guard, "/v1/state", &[("host", "localhost")]), 401);
        assert_eq!(asked(&guard, "/metrics", &[("host", "localhost")]), 401);
        assert_eq!(asked(&guard, "/healthz", &[("host", "localhost")]), 200);
    }
}

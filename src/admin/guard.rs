//! Who may ask: the admin API can kill servers, and any page that a browser shows could reach a port of this machine.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::answer::Problem;
use crate::config;

/// The rules of one admin API.
#[derive(Debug)]
pub struct Guard {
    hosts: Vec<String>,
    token: Option<config::Secret>,
}

impl Guard {
    /// The rules that the config sets.
    pub fn new(config: &config::Admin) -> Guard {
        Guard {
            hosts: config.hosts.clone(),
            token: config.token.clone(),
        }
    }

    fn check(&self, headers: &HeaderMap, path: &str) -> Result<(), Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST.as_str());
        if !host.is_some_and(|host| self.knows(host)) {
            // Else a page of anybody could come by a name of its own that points here.
            let why = "this host is not known: ask by a loopback address, or add it to admin.hosts";
            return Err(Problem::new(StatusCode::FORBIDDEN, why));
        }
        let is_own = match (text("sec-fetch-site"), text(header::ORIGIN.as_str())) {
            (Some(site), _) => ["same-origin", "none"].contains(&site),
            (None, Some(origin)) => origin.split_once("://").map(|(_, rest)| rest) == host,
            // No browser.
            (None, None) => true,
        };
        // A link to the console: there is nothing in the page itself, and no frame shows it.
        let is_link = path == "/" && text("sec-fetch-mode") == Some("navigate");
        if !is_own && !is_link {
            let why = "a page of another site may not ask this";
            return Err(Problem::new(StatusCode::FORBIDDEN, why));
        }
        let given =
            text(header::AUTHORIZATION.as_str()).and_then(|text| text.strip_prefix("Bearer "));
        match &self.token {
            Some(token) if path.starts_with("/v1/") || path == "/metrics" => {
                let given = given.unwrap_or_default().as_bytes();
                if bool::from(given.ct_eq(token.expose().as_bytes())) {
                    Ok(())
                } else {
                    let why =
                        "wrong or no token: send the header authorization: Bearer with admin.token";
                    Err(Problem::new(StatusCode::UNAUTHORIZED, why))
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether a `Host` header names this machine's loopback, or a host of the config.
    fn knows(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let name = authority.host();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is_named = |known: &String| known.eq_ignore_ascii_case(name) || known == host;
        is_loopback || name.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(is_named)
    }
}

/// Lets pass what the guard allows.
pub async fn guarded(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check(request.headers(), request.uri().path()) {
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
        let checked = guard.check(&headers.collect(), path);
        checked.map_or_else(|problem| problem.status().as_u16(), |()| 200)
    }

    fn guard(hosts: &[&str], token: Option<&str>) -> Guard {
        Guard {
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            token: token.map(|token| token.to_owned().into()),
        }
    }

    #[test]
    fn the_host_must_be_this_machine_or_configured() {
        let guard = guard(&["imd.test"], None);
        for (host, status) in [
            ("127.0.0.1:10090", 200),
            ("127.9.9.9", 200),
            ("localhost:10090", 200),
            ("LOCALHOST", 200),
            ("[::1]:10090", 200),
            ("imd.test:10090", 200),
            ("evil.example:10090", 403),
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
        assert_eq!(asked(&guard, "/healthz", &[]), 403);
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
        let host = ("host", "localhost:1");
        let site = ("sec-fetch-site", "cross-site");
        let link = ("sec-fetch-mode", "navigate");
        assert_eq!(asked(&guard, "/", &[host, site, link]), 200);
        assert_eq!(asked(&guard, "/", &[host, site]), 403);
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

//! CORS: which pages of other sites may use the HTTP API of the stack, and the headers that tell their browser so.
//!
//! Serves the user API and the group API. A browser shows a page the answer to a request to another origin only if the
//! answer allows it, and asks first, by a preflight, if the request is not as simple as that of a form. The rules are those
//! of `http.cors_origins`; a page that they do not let in is left to the [`Guard`](super::Guard).
//!
//! tower-http's layer for CORS is not used. It answers every `OPTIONS` as a preflight, also one that no browser sent and that
//! is 405 here, and with 200 in place of 204; and the guard has to know whether an origin is let in, which it tells nobody.

use std::collections::HashSet;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

use super::Header;
use crate::config::Origins;

/// For how many seconds a browser may remember the answer to a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// How many refused origins are remembered, each of which is logged once. Further ones are not logged.
const MAX_REFUSED: usize = 64;

/// How much of a refused origin is logged, in bytes. Browsers write shorter ones.
const MAX_SHOWN: usize = 300;

/// The header by which a browser asks whether a page from the internet may send a request to a more private network, such
/// as this machine.
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
/// The header of the answer to [`REQUEST_PRIVATE_NETWORK`].
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// The origins whose pages may use an API, and those that were refused.
#[derive(Debug)]
pub struct Cors {
    /// Empty if CORS is off.
    origins: Origins,
    refused: Mutex<HashSet<String>>,
}

impl Cors {
    /// Creates the rules of `http.cors_origins`.
    pub fn new(origins: &[String]) -> Cors {
        Cors {
            origins: Origins::new(origins),
            refused: Mutex::default(),
        }
    }

    /// Returns the value of `Access-Control-Allow-Origin` for a request from a page that is let in. None if the request
    /// comes from another page or from none.
    pub fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let Header::Is(origin) = Header::of(headers, header::ORIGIN) else {
            return None;
        };
        HeaderValue::from_str(self.origins.entry_for(origin)?).ok()
    }

    /// Adds the headers that let a page read a response to its request. Every response is marked as depending on the
    /// origin, since a cache must not give that of one page to another.
    pub fn allow(&self, origin: Option<HeaderValue>, response: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        let vary = response.entry(header::VARY);
        vary.or_insert(HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }

    /// Logs that the origin of a request was refused, and what lets it in. Each origin is logged once.
    pub fn log_refusal(&self, headers: &HeaderMap) {
        let Header::Is(origin) = Header::of(headers, header::ORIGIN) else {
            return;
        };
        let origin: String = origin.chars().take(MAX_SHOWN).collect();
        {
            let mut refused = self.refused.lock();
            if refused.len() >= MAX_REFUSED || !refused.insert(origin.clone()) {
                return;
            }
        }
        let entry = Origins::missing_entry(&origin);
        tracing::warn!(
            origin,
            "a page of another origin was refused: to let it use the HTTP API, add {entry:?} to http.cors_origins in the config"
        );
    }
}

/// Returns whether a request is a preflight, by which a browser asks whether a page may send another request.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Creates the answer to a preflight of a page that is let in. It is the same for every path, so that the answer to the
/// request itself, such as 404, can be read by the page.
///
/// All headers that the page wants to send are allowed: the API reads none but `content-type`, and libraries add headers of
/// their own.
pub fn preflight(request: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let post = HeaderValue::from_static("POST");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, post);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.insert(
        header::VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Headers"),
    );
    if let Some(names) = requested_headers(request) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    if Header::of(request, REQUEST_PRIVATE_NETWORK) == Header::Is("true") {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    response
}

/// Returns the names of the headers that a page wants to send, without texts that are no names. None if there are none.
fn requested_headers(request: &HeaderMap) -> Option<HeaderValue> {
    let Header::Is(list) = Header::of(request, header::ACCESS_CONTROL_REQUEST_HEADERS) else {
        return None;
    };
    let names = list.split(',').map(str::trim);
    let names: Vec<_> = names
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
    HeaderValue::from_str(&names.join(", "))
        .ok()
        .filter(|_| !names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_refused_origins_is_remembered() {
        let cors = Cors::new(&[]);
        let mut headers = HeaderMap::new();
        for n in 0..1_000 {
            let origin = format!("http://{n}.example/{}", "x".repeat(1_000));
            headers.insert(header::ORIGIN, origin.try_into().unwrap());
            cors.log_refusal(&headers);
        }
        let refused = cors.refused.lock();
        assert_eq!(refused.len(), MAX_REFUSED);
        assert!(refused.iter().all(|origin| origin.len() <= MAX_SHOWN));
    }
}

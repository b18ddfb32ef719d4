//! The rule for the reserved connections of the admin API, which are there when clients hold all other ones.
//!
//! Serves the router. A reserved connection answers probes only, so that health checks and scrapers are served even while
//! streams take every other connection.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Problem;
use super::guard::PROBES;
use crate::http::Reserved;
use crate::listener::ADMIN_CONNECTIONS;

/// Refuses every request on a [`Reserved`] connection but those for [`PROBES`].
pub async fn probes_only(request: Request, next: Next) -> Response {
    let is_reserved = request.extensions().get::<Reserved>().is_some();
    if is_reserved && !PROBES.contains(&request.uri().path()) {
        let why = format!(
            "all {ADMIN_CONNECTIONS} connections of the admin API are in use: end one of them, or try again; until then \
             only {} are answered",
            PROBES.join(", ")
        );
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    next.run(request).await
}

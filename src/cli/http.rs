//! One HTTP request on a connection of its own, to whatever server is at an address.
//!
//! Serves [`api`](super::api), which knows what the stack's APIs answer, and [`peer`](super::peer), which finds out what kind
//! of server answers.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderValue};
use hyper::{Response, StatusCode, http};
use hyper_util::rt::TokioIo;
use imd::client::{Address, ClientError};

use super::trust::connector;

/// Why there is no complete answer: an error of the connection, of HTTP, or of the request.
pub type HttpError = Box<dyn std::error::Error + Send + Sync>;

/// Connects to a host:port, or with TLS to a `tls://host:port`, sends the request, and returns the head of the answer.
///
/// # Errors
///
/// [`HttpError`] when no answer begins. There is no time limit: the caller sets one.
pub async fn send(
    authority: &str,
    request: http::request::Builder,
    body: Bytes,
) -> Result<Response<Incoming>, HttpError> {
    let opened = connector().open(&authority.endpoint()).await;
    let (stream, _) = opened.map_err(|error| match error {
        // The caller explains errors of the system.
        ClientError::Io(error) => HttpError::from(error),
        error => error.into(),
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The task ends when the sender and the answer are dropped. Its errors are also reported by the request.
    tokio::spawn(connection);
    let request = request.header(
        HOST,
        HeaderValue::from_str(authority.trim_start_matches("tls://"))?,
    );
    Ok(sender.send_request(request.body(Full::new(body))?).await?)
}

/// Reads the body of an answer to its end.
///
/// # Errors
///
/// [`HttpError`] when the connection breaks, or the body is longer than `limit` bytes.
pub async fn read_body(
    response: Response<Incoming>,
    limit: usize,
) -> Result<(StatusCode, Bytes), HttpError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), limit);
    Ok((status, body.collect().await?.to_bytes()))
}

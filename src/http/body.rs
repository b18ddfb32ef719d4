//! Reads the body of a request, with bounds on its length and on the time that it takes.
//!
//! Serves the handlers of all HTTP APIs. The bound on the length is kept here; the bound on the time is kept by the
//! body itself (see the module `exchange`), which fails with [`TooSlow`].

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::sync::mpsc;

/// The error of a request body that was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is longer than the limit, in bytes, which this variant holds.
    #[error("the body has more than {0} bytes")]
    TooLong(usize),
    /// The client sent the body more slowly than the server waits for, or stopped sending.
    #[error("{0}")]
    TooSlow(TooSlow),
    /// The connection ended within the body, or the body's transfer encoding is malformed.
    #[error("{0}")]
    Broken(axum::BoxError),
}

impl BodyError {
    /// Returns the HTTP status with which the request is to be answered.
    pub fn status(&self) -> StatusCode {
        match self {
            BodyError::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// The error of a body that arrived more slowly than the slowest client that is served. It holds the time that each
/// portion of a body may take.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no whole body within {}, nor enough of one", humantime::format_duration(*.0))]
pub struct TooSlow(pub(super) Duration);

/// Reads the whole body of a request.
///
/// # Errors
///
/// - [`BodyError::TooLong`], when the body has more than `limit` bytes. If the head of the request declares such a
///   length, the error is returned before anything is read, so that the client is not told to send the body (`100
///   Continue`).
/// - [`BodyError::TooSlow`], when the client is too slow.
/// - [`BodyError::Broken`], when the body ends early or is malformed.
///
/// The caller answers with [`BodyError::status`]; the connection is closed after the answer.
pub async fn whole_body(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let body = limited(body, limit)?.collect().await;
    body.map(|body| body.to_bytes())
        .map_err(|error| classify(error, limit))
}

/// Sends the body of a request to a channel, chunk by chunk, so that it is never in memory as a whole.
///
/// Waits while the channel is full. If the receiver is dropped, the rest of the body is left unread, which is no error.
///
/// # Errors
///
/// The errors of [`whole_body`]. Chunks that were read before the error have been sent.
pub async fn pass_body(
    body: Body,
    limit: usize,
    chunks: mpsc::Sender<Bytes>,
) -> Result<(), BodyError> {
    let mut body = limited(body, limit)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| classify(error, limit))?;
        if let Ok(chunk) = frame.into_data()
            && chunks.send(chunk).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Limits a body to `limit` bytes, and refuses it at once if its declared length is more.
fn limited(body: Body, limit: usize) -> Result<Limited<Body>, BodyError> {
    let declared = usize::try_from(body.size_hint().lower());
    if declared.map_or(true, |length| length > limit) {
        return Err(BodyError::TooLong(limit));
    }
    Ok(Limited::new(body, limit))
}

/// Converts the error of reading a body into a [`BodyError`].
fn classify(error: axum::BoxError, limit: usize) -> BodyError {
    if error.is::<LengthLimitError>() {
        return BodyError::TooLong(limit);
    }
    match find_too_slow(&*error) {
        Some(too_slow) => BodyError::TooSlow(too_slow),
        None => BodyError::Broken(error),
    }
}

/// Finds a [`TooSlow`] in the chain of an error's sources, since axum and hyper wrap the errors of a body.
fn find_too_slow(error: &(dyn Error + 'static)) -> Option<TooSlow> {
    match error.downcast_ref() {
        Some(&too_slow) => Some(too_slow),
        None => find_too_slow(error.source()?),
    }
}

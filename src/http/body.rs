//! Reads the body of a request, with bounds on its length and on the time that it takes.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::sync::mpsc;

/// Why a request has no whole body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than are taken.
    #[error("the body has more than {0} bytes")]
    TooLong(usize),
    /// It stopped, or went on too slowly.
    #[error("{0}")]
    TooSlow(TooSlow),
    /// It broke off, or is malformed.
    #[error("{0}")]
    Broken(axum::BoxError),
}

impl BodyError {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            BodyError::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// A body did not come, or came more slowly than any client is waited for.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no whole body within {}, nor enough of one", humantime::format_duration(*.0))]
pub struct TooSlow(pub(super) Duration);

/// Reads the whole body of a request.
///
/// # Errors
///
/// When it has more than `limit` bytes: at once where its head says so, since such a body need not be waited for, and
/// its client should not be told to go on (`100 Continue`). When it comes too slowly, or not to its end.
pub async fn whole_body(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let body = limited(body, limit)?.collect().await;
    body.map(|body| body.to_bytes())
        .map_err(|error| failed(error, limit))
}

/// Passes the body of a request on piece by piece, so that it is never in memory as a whole. Ends without an error where
/// nobody takes the pieces any more.
///
/// # Errors
///
/// As [`whole_body`].
pub async fn pass_body(
    body: Body,
    limit: usize,
    pieces: mpsc::Sender<Bytes>,
) -> Result<(), BodyError> {
    let mut body = limited(body, limit)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(error, limit))?;
        if let Ok(piece) = frame.into_data()
            && pieces.send(piece).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

fn limited(body: Body, limit: usize) -> Result<Limited<Body>, BodyError> {
    let announced = usize::try_from(body.size_hint().lower());
    if announced.map_or(true, |length| length > limit) {
        return Err(BodyError::TooLong(limit));
    }
    Ok(Limited::new(body, limit))
}

fn failed(error: axum::BoxError, limit: usize) -> BodyError {
    if error.is::<LengthLimitError>() {
        return BodyError::TooLong(limit);
    }
    match too_slow(&*error) {
        Some(slow) => BodyError::TooSlow(slow),
        None => BodyError::Broken(error),
    }
}

/// Finds [`TooSlow`] among the causes of an error.
fn too_slow(error: &(dyn Error + 'static)) -> Option<TooSlow> {
    match error.downcast_ref() {
        Some(&slow) => Some(slow),
        None => too_slow(error.source()?),
    }
}

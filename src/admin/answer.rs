use std::io::{self, BufRead, Read};

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Buf;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;

use super::exact;
use crate::http;
use crate::proto::Code;
use crate::service::Refusal;
use crate::store::StoreFailed;

/// Why a request was not done; `{"error": "..."}` with a status.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    why: String,
}

impl Problem {
    /// With this status.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Problem {
        Problem {
            status,
            why: why.into(),
        }
    }

    /// The request is at fault.
    pub fn bad(why: impl ToString) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, why.to_string())
    }

    /// What it names is not there.
    pub fn missing(why: impl ToString) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, why.to_string())
    }

    /// What is there does not allow it.
    pub fn conflict(why: impl ToString) -> Problem {
        Problem::new(StatusCode::CONFLICT, why.to_string())
    }

    /// It should have worked.
    pub fn broken(why: impl ToString) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why.to_string())
    }

    /// Its status.
    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

/// An answer as JSON, with a text beside each id: see [`exact`].
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let answer = serde_json::to_value(self.0).map(|mut answer| {
            exact::spell(&mut answer);
            answer.to_string()
        });
        match answer {
            Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
            Err(error) => Problem::broken(error).into_response(),
        }
    }
}

/// Stands on an answer that is sent bit by bit, or that is large: no proxy keeps it back, and no cache keeps it.
pub const STREAMED: [(header::HeaderName, &str); 2] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::HeaderName::from_static("x-accel-buffering"), "no"),
];

/// What a client of the stack would be refused with.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            Code::NoSuchUser | Code::NoSuchGroup | Code::NoDataFound => StatusCode::NOT_FOUND,
            Code::UserExists | Code::NotAMember => StatusCode::CONFLICT,
            Code::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, refusal.text)
    }
}

impl From<StoreFailed> for Problem {
    fn from(failed: StoreFailed) -> Self {
        Problem::broken(failed)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.why }))).into_response()
    }
}

/// How long a body may be that is JSON, in bytes.
const JSON_LIMIT: usize = 2 << 20;

/// A request's body, as JSON, whatever its content type says.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = http::whole_body(request.into_body(), JSON_LIMIT).await?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Body).map_err(Problem::bad)
    }
}

impl From<http::BodyError> for Problem {
    fn from(error: http::BodyError) -> Self {
        Problem::new(error.status(), error.to_string())
    }
}

/// The pieces of a body, to be read by a thread that may wait for them.
pub struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    /// What is left of the piece that came last.
    current: Bytes,
}

impl Pieces {
    /// Returns the reader, and where to put the pieces. A few of them may wait to be read.
    pub fn channel() -> (mpsc::Sender<Bytes>, Pieces) {
        let (sender, pieces) = mpsc::channel(4);
        let current = Bytes::new();
        (sender, Pieces { pieces, current })
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            let Some(piece) = self.pieces.blocking_recv() else {
                break;
            };
            self.current = piece;
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount.min(self.current.len()));
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// What stands for the parameters of a request's path.
pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(InPath(value)),
            Err(error) => Err(Problem::new(error.status(), error.body_text())),
        }
    }
}

/// A request's query.
///
/// # Errors
///
/// When it can't be read as what is meant.
pub fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(error) => Err(Problem::bad(error.body_text())),
    }
}

//! The forms that the handlers share: answers and errors as JSON, and extractors whose rejections are [`Problem`]s.
//!
//! Serves all handlers of the admin API. With these forms, every error of the API has the body `{"error": "..."}`, and every
//! id is also given as a text.

use std::io::{self, BufRead, Read};

use axum::body::Bytes;
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
use crate::store::StoreError;

/// The answer to a request that was not done: a status, and `{"error": "..."}` as its body.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    why: String,
}

impl Problem {
    /// Creates a problem with a status of its own.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Problem {
        Problem {
            status,
            why: why.into(),
        }
    }

    /// 400: the request is wrong.
    pub fn bad(why: impl ToString) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, why.to_string())
    }

    /// 404: something that the request names does not exist.
    pub fn missing(why: impl ToString) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, why.to_string())
    }

    /// 409: the state of the stack does not allow the request.
    pub fn conflict(why: impl ToString) -> Problem {
        Problem::new(StatusCode::CONFLICT, why.to_string())
    }

    /// 500: the request was right, and `imd` failed.
    pub fn broken(why: impl ToString) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why.to_string())
    }

    /// Returns the HTTP status of the problem.
    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

/// An answer as JSON, with a text beside each id (see [`exact`]).
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let answer = serde_json::to_value(self.0).map(|mut answer| {
            exact::add_texts(&mut answer);
            answer.to_string()
        });
        match answer {
            Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
            Err(error) => Problem::broken(error).into_response(),
        }
    }
}

/// The headers of an answer that is streamed or large: they keep proxies from buffering it, and caches from storing it.
pub const STREAMED: [(header::HeaderName, &str); 2] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::HeaderName::from_static("x-accel-buffering"), "no"),
];

/// Maps the codes of the wire contract to HTTP statuses.
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

impl From<StoreError> for Problem {
    fn from(failed: StoreError) -> Self {
        Problem::broken(failed)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.why }))).into_response()
    }
}

/// The longest JSON body of a request, in bytes.
const MAX_JSON: usize = 2 << 20;

/// The body of a request as JSON, whatever its content type says. An empty body counts as `{}`.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = http::whole_body(request.into_body(), MAX_JSON).await?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text)
            .map(JsonBody)
            .map_err(Problem::bad)
    }
}

impl From<http::BodyError> for Problem {
    fn from(error: http::BodyError) -> Self {
        Problem::new(error.status(), error.to_string())
    }
}

/// A reader over the chunks of a body, for a blocking thread. The body ends when the sender of the chunks is dropped.
pub struct ChunkReader {
    chunks: mpsc::Receiver<Bytes>,
    /// The unread rest of the newest chunk.
    current: Bytes,
}

impl ChunkReader {
    /// Returns the reader, and the sender of its chunks. The sender waits while four chunks are unread.
    pub fn channel() -> (mpsc::Sender<Bytes>, ChunkReader) {
        let (sender, chunks) = mpsc::channel(4);
        let current = Bytes::new();
        (sender, ChunkReader { chunks, current })
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            let Some(chunk) = self.chunks.blocking_recv() else {
                break;
            };
            self.current = chunk;
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount.min(self.current.len()));
    }
}

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// The parameters of a request's path.
pub struct PathParams<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(PathParams(value)),
            Err(error) => Err(Problem::new(error.status(), error.body_text())),
        }
    }
}

/// The parameters of a request's query.
pub struct QueryParams<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(QueryParams(value)),
            Err(error) => Err(Problem::bad(error.body_text())),
        }
    }
}

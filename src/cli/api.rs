//! Calls the HTTP APIs of the stack, for the commands that are its clients. Each call has a connection of its own.
//!
//! A [`Call`] describes a request, and its last method sends it and says what form of answer is expected: JSON, the
//! data of a form, a snapshot, or events. Every error names the URL, the reason, and what to do.

mod events;
mod failure;

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};
use hyper::{Method, Request, Response, StatusCode};
use imd::store::SNAPSHOT_LIMIT;
use serde::Deserialize;
use serde_json::Value;

use super::advice;
use super::endpoint::authority;
use super::failure::Failure;
use super::http::{self, HttpError};
pub use events::{Events, StreamItem};
use failure::BadBase;

/// How long a call may take until the whole answer has arrived.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How long the transfer of a snapshot may take, including the time to make or load it.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(300);

/// The longest answer that is accepted, in bytes, except for snapshots. The longest answers of `imd` are far shorter.
const MAX_ANSWER: usize = 1 << 20;

/// The media type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

/// A request to a path of the API at a base URL.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The API's URL or host:port, as the user has written it.
    base: &'a str,
    method: Method,
    /// The path with its query. Its first segments tell which API it belongs to, for errors.
    path: &'a str,
    /// The bearer token, where the API needs one.
    token: Option<&'a str>,
    /// How long the call may take until the whole answer has arrived.
    timeout: Duration,
    /// The longest answer that is accepted, in bytes.
    max_answer: usize,
}

/// The answer of the user API and the group API to every call.
#[derive(Deserialize)]
struct FormAnswer {
    /// 0 on success, otherwise an error code of the wire contract.
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

/// A call that the user API or the group API refused.
pub struct Refused {
    /// The error code of the wire contract.
    pub code: u32,
    /// The text that the API gives as the reason.
    pub text: String,
}

impl<'a> Call<'a> {
    /// Creates a call of the API at `base`, which is written as a URL or as host:port.
    pub fn new(base: &'a str, method: Method, path: &'a str) -> Call<'a> {
        Call {
            base,
            method,
            path,
            token: None,
            timeout: TIMEOUT,
            max_answer: MAX_ANSWER,
        }
    }

    /// Sends a bearer token with the call.
    pub fn token(mut self, token: Option<&'a str>) -> Call<'a> {
        self.token = token;
        self
    }

    /// Extends the time limit, for a call that the API holds back deliberately.
    pub fn with_extra_time(mut self, time: Duration) -> Call<'a> {
        self.timeout += time;
        self
    }

    /// Sends JSON, or an empty body, and returns the JSON of the answer.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the address or the request is wrong, and [`Failure::Failed`] when the server can't be
    /// reached, does not answer in time, or can't do it now.
    pub async fn json(&self, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let form = (CONTENT_TYPE, "application/json");
        let (status, answer) = self.answer(form, body.into()).await?;
        match serde_json::from_slice(&answer) {
            Ok(answer) if status.is_success() => Ok(answer),
            _ => Err(self.refused(status, &answer).await),
        }
    }

    /// Sends a snapshot, or an empty body, and returns the body of the answer, which may be a snapshot.
    ///
    /// # Errors
    ///
    /// The errors of [`Call::json`].
    pub async fn snapshot(mut self, body: Bytes) -> Result<Bytes, Failure> {
        self.timeout = SNAPSHOT_TIMEOUT;
        self.max_answer = SNAPSHOT_LIMIT;
        let form = (CONTENT_TYPE, "application/jsonl");
        let (status, answer) = self.answer(form, body).await?;
        match status.is_success() {
            true => Ok(answer),
            false => Err(self.refused(status, &answer).await),
        }
    }

    /// Sends the fields of a form to the user API or the group API, and returns the data of the answer.
    ///
    /// # Errors
    ///
    /// When the server can't be reached, or another kind of server answers. A refusal is not an error here: it is the
    /// inner result.
    pub async fn form(&self, fields: &[(&str, &str)]) -> Result<Result<Value, Refused>, Failure> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let form = (CONTENT_TYPE, "application/x-www-form-urlencoded");
        let (status, answer) = self.answer(form, body.into()).await?;
        match serde_json::from_slice(&answer) {
            Ok(FormAnswer { code: 0, data, .. }) => Ok(Ok(data)),
            // The two APIs do not have each other's paths, so status 404 means that the other one answers.
            Ok(FormAnswer { code, message, .. }) if status != StatusCode::NOT_FOUND => {
                let text = message;
                Ok(Err(Refused { code, text }))
            }
            _ => Err(self.wrong_server().await),
        }
    }

    /// Subscribes to server-sent events. The subscription is active when this returns.
    ///
    /// # Errors
    ///
    /// The errors of [`Call::json`].
    pub async fn events(&self) -> Result<Events, Failure> {
        let response = self.send((ACCEPT, EVENT_STREAM), Bytes::new());
        let response = self.with_timeout(response).await?;
        let status = response.status();
        let media = response.headers().get(CONTENT_TYPE);
        let is_stream =
            media.is_some_and(|media| media.as_bytes().starts_with(EVENT_STREAM.as_bytes()));
        let body = response.into_body();
        if !status.is_success() {
            let answer = Limited::new(body, MAX_ANSWER).collect().await;
            let answer = answer.map(|answer| answer.to_bytes()).unwrap_or_default();
            return Err(self.refused(status, &answer).await);
        }
        if !is_stream {
            return Err(self.wrong_server().await);
        }
        Ok(Events::new(self.display_url(), body))
    }

    /// Sends a request with this header and body, and returns the status and the whole body of the answer.
    async fn answer(
        &self,
        header: (HeaderName, &str),
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        self.with_timeout(async {
            let response = self.send(header, body).await?;
            http::read_body(response, self.max_answer).await
        })
        .await
    }

    /// Connects, sends the request, and returns the head of the answer.
    async fn send(
        &self,
        (name, value): (HeaderName, &str),
        body: Bytes,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path)
            .header(name, value);
        if let Some(token) = self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let authority = authority(self.base).map_err(BadBase)?;
        http::send(&authority, request, body).await
    }

    /// Runs `work` within the time limit, and explains its errors.
    async fn with_timeout<T>(
        &self,
        work: impl Future<Output = Result<T, HttpError>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.failed(&*error).await),
            Err(_) => Err(self.timed_out()),
        }
    }
}

/// Posts the fields of a form to a path of the API at `base`, and returns the data of the answer.
///
/// # Errors
///
/// The errors of [`ask_form`], and [`Failure::Failed`] with advice when the API refuses.
pub async fn post(base: &str, path: &str, fields: &[(&str, &str)]) -> Result<Value, Failure> {
    ask_form(base, path, fields).await?.map_err(|refused| {
        let what = path.trim_start_matches("/x/").replace('/', " ");
        let why = advice::advise(refused.code, &refused.text);
        Failure::Failed(format!("{what}: {why}"))
    })
}

/// Posts the fields of a form as [`post`] does, but leaves it to the caller what a refusal means.
///
/// # Errors
///
/// When the server can't be reached, or another kind of server answers.
pub async fn ask_form(
    base: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<Result<Value, Refused>, Failure> {
    Call::new(base, Method::POST, path).form(fields).await
}

/// Returns the token that the user API at `base` gives out for a password.
///
/// # Errors
///
/// The errors of [`post`], and [`Failure::Failed`] when the answer has no token.
pub async fn token(base: &str, uid: i64, pw: &str) -> Result<String, Failure> {
    let uid = uid.to_string();
    let data = post(base, "/x/user/auth", &[("uid", &uid), ("pw", pw)]).await?;
    let token = data.get("token").and_then(Value::as_str);
    let token = token.ok_or_else(|| Failure::Failed(format!("{base}: no token for {uid}")))?;
    Ok(token.to_owned())
}

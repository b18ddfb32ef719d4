//! Calls of the stack's HTTP APIs, for the commands that are their clients. Each call has a connection of its own.
//!
//! A [`Call`] says what is asked, and ends in one of the forms of answer: JSON, a form's data, a snapshot, events. Its errors
//! say what was called, what went wrong, and what to do about it.

mod events;
mod failure;

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use imd::store::SNAPSHOT_LIMIT;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;

use super::endpoint::authority;
use super::failure::Failure;
use super::refusal;
pub use events::{Events, StreamItem};
use failure::BadBase;
pub use failure::unreachable;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How long a snapshot may take on its way, and to be made or loaded.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(300);

/// The longest answer that is read, in bytes, unless it is a snapshot. The longest answers of `imd` are far shorter.
const MAX_ANSWER: usize = 1 << 20;

/// The media type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

/// Why no answer came, before it is explained to people.
type CallError = Box<dyn std::error::Error + Send + Sync>;

/// A call of a path of the API at a base URL.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    base: &'a str,
    method: Method,
    /// The path with its query. The API that it belongs to is told by its beginning.
    path: &'a str,
    token: Option<&'a str>,
    /// How long it may take until the whole answer has arrived.
    timeout: Duration,
    /// The longest answer that is read, in bytes.
    max_answer: usize,
}

/// What the user API and the group API answer to every call.
#[derive(Deserialize)]
struct FormAnswer {
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

/// A refusal by the user API or the group API.
pub struct Refused {
    /// The error code of the wire contract.
    pub code: u32,
    /// What the API says about it.
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

    /// Gives the API more time, for work that takes as long by itself.
    pub fn taking(mut self, time: Duration) -> Call<'a> {
        self.timeout += time;
        self
    }

    /// Sends JSON, or an empty body, and returns the answer.
    ///
    /// # Errors
    ///
    /// When the server can't be reached, or refuses.
    pub async fn json(&self, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let form = (CONTENT_TYPE, "application/json");
        let (status, answer) = self.answer(form, body.into()).await?;
        match serde_json::from_slice(&answer) {
            Ok(answer) if status.is_success() => Ok(answer),
            _ => Err(self.refused(status, &answer).await),
        }
    }

    /// Sends a snapshot, or an empty body, and returns the answer, which may be a snapshot.
    ///
    /// # Errors
    ///
    /// When the server can't be reached, or refuses.
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
    /// When the server can't be reached, or something else answers. A refusal is no error here.
    pub async fn form(&self, fields: &[(&str, &str)]) -> Result<Result<Value, Refused>, Failure> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let form = (CONTENT_TYPE, "application/x-www-form-urlencoded");
        let (status, answer) = self.answer(form, body.into()).await?;
        match serde_json::from_slice(&answer) {
            Ok(FormAnswer { code: 0, data, .. }) => Ok(Ok(data)),
            // The user API does not have the paths of the group API, and the other way round.
            Ok(FormAnswer { code, message, .. }) if status != StatusCode::NOT_FOUND => {
                let text = message;
                Ok(Err(Refused { code, text }))
            }
            _ => Err(self.somebody_else().await),
        }
    }

    /// Asks for server-sent events. The server is sending them when this returns.
    ///
    /// # Errors
    ///
    /// When the server can't be reached, or refuses.
    pub async fn events(&self) -> Result<Events, Failure> {
        let response = self.send((ACCEPT, EVENT_STREAM), Bytes::new());
        let response = self.in_time(response).await?;
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
            return Err(self.somebody_else().await);
        }
        Ok(Events::new(self.place(), body))
    }

    /// Returns the status and the whole body of the answer to a request with this header and this body.
    async fn answer(
        &self,
        header: (HeaderName, &str),
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        self.in_time(async {
            let response = self.send(header, body).await?;
            whole(response, self.max_answer).await
        })
        .await
    }

    /// Connects, sends the request, and returns the head of the answer.
    async fn send(
        &self,
        (name, value): (HeaderName, &str),
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path)
            .header(name, value);
        if let Some(token) = self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let authority = authority(self.base).map_err(BadBase)?;
        let stream = TcpStream::connect(&authority).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // The task ends when the sender and the answer are dropped. Its errors reach the request too.
        tokio::spawn(connection);
        let request = request.header(HOST, HeaderValue::from_str(&authority)?);
        Ok(sender.send_request(request.body(Full::new(body))?).await?)
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.failed(&*error).await),
            Err(_) => Err(self.timed_out()),
        }
    }
}

async fn whole(
    response: Response<Incoming>,
    limit: usize,
) -> Result<(StatusCode, Bytes), CallError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), limit);
    Ok((status, body.collect().await?.to_bytes()))
}

/// Posts the fields of a form to a path of the API at `base`, and returns the answer's data.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
pub async fn post(base: &str, path: &str, fields: &[(&str, &str)]) -> Result<Value, Failure> {
    ask_form(base, path, fields).await?.map_err(|refused| {
        let what = path.trim_start_matches("/x/").replace('/', " ");
        let why = refusal::advise(refused.code, &refused.text);
        Failure::Failed(format!("{what}: {why}"))
    })
}

/// Does what [`post`] does, and leaves it to the caller what a refusal means.
///
/// # Errors
///
/// When the server can't be reached, or something else answers.
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
/// As [`post`].
pub async fn token(base: &str, uid: i64, pw: &str) -> Result<String, Failure> {
    let uid = uid.to_string();
    let data = post(base, "/x/user/auth", &[("uid", &uid), ("pw", pw)]).await?;
    let token = data.get("token").and_then(Value::as_str);
    let token = token.ok_or_else(|| Failure::Failed(format!("{base}: no token for {uid}")))?;
    Ok(token.to_owned())
}

/// Sends a request without a body, and returns whatever answers, also what is no API of `imd`; `None` if nothing does.
pub async fn probe(addr: &str, method: Method, path: &str) -> Option<(StatusCode, Bytes)> {
    let call = Call::new(addr, method, path);
    let response = call.send((ACCEPT, "*/*"), Bytes::new()).await.ok()?;
    whole(response, MAX_ANSWER).await.ok()
}

//! Calls of the stack's HTTP API.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use imd::store::SNAPSHOT_LIMIT;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;

use super::failure::Failure;
use super::refusal;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// No answer of the API comes near it.
const LONGEST_ANSWER: usize = 1 << 20;

/// No event comes near it: the longest tells of a page with as many empty entries as fit a frame.
const LONGEST_EVENT: usize = 16 << 20;

/// How long a snapshot may take on its way, and to be loaded.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(300);

const NOT_THE_API: &str = "the answer is not the API's: is something else there?";

/// What every call is answered with.
#[derive(Deserialize)]
struct Answer {
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

/// Posts form fields to a path of the API at `base`, and returns the answer's data.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
pub async fn post(base: &str, path: &str, fields: &[(&str, &str)]) -> Result<Value, Failure> {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let request = Request::post(path)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)));
    let failed = |why: String| Failure::Failed(format!("{base}{path}: {why}"));
    let (_, answer) = whole(base, path, request).await?;
    let answer: Answer = serde_json::from_slice(&answer).map_err(|_| failed(NOT_THE_API.into()))?;
    if answer.code == 0 {
        Ok(answer.data)
    } else {
        Err(failed(refusal::advise(answer.code, &answer.message)))
    }
}

/// The token that the user API at `base` gives for a password.
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

/// The host:port of a URL.
fn authority(base: &str) -> Result<String, BadBase> {
    let bad = || {
        BadBase(format!(
            "{base:?} is no URL such as http://127.0.0.1:6001 (host and port alone, no TLS)"
        ))
    };
    let url: Uri = base.parse().map_err(|_| bad())?;
    let is_plain = url.scheme_str() == Some("http") && url.path() == "/" && url.query().is_none();
    match url.authority() {
        Some(authority) if is_plain && authority.port().is_some() => Ok(authority.to_string()),
        Some(authority) if is_plain => Ok(format!("{authority}:80")),
        _ => Err(bad()),
    }
}

/// Calls a path of a JSON API at `base`, and returns its answer.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
pub async fn json(
    base: &str,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = bearing(Request::builder().method(method).uri(path), token)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)));
    let (status, answer) = whole(base, path, request).await?;
    let failed = |why: &str| Failure::Failed(format!("{base}{path}: {why}"));
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| failed(NOT_THE_API))?;
    if status.is_success() {
        return Ok(answer);
    }
    Err(refused(status, &answer, failed(problem(&answer))))
}

/// Sends a body to a path of a JSON API at `base`, or gets one, either as large as a snapshot.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
pub async fn exchange(
    base: &str,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Bytes,
) -> Result<Bytes, Failure> {
    let request = bearing(Request::builder().method(method).uri(path), token)
        .header(CONTENT_TYPE, "application/jsonl")
        .body(Full::new(body));
    let bounds = (SNAPSHOT_TIMEOUT, SNAPSHOT_LIMIT);
    let (status, answer) = within(bounds, base, path, request).await?;
    if status.is_success() {
        return Ok(answer);
    }
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let why = problem(&answer);
    let failed = Failure::Failed(format!("{base}{path}: {why}"));
    Err(refused(status, &answer, failed))
}

/// Server-sent events, as they come.
pub struct Events {
    /// Where from, for errors.
    source: String,
    body: Incoming,
    unread: Vec<u8>,
}

/// Asks for server-sent events. When this returns, the server is sending them.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
pub async fn events(base: &str, path: &str, token: Option<&str>) -> Result<Events, Failure> {
    let request = bearing(Request::get(path), token)
        .header(ACCEPT, "text/event-stream")
        .body(Full::new(Bytes::new()));
    let failed = |why: &dyn std::fmt::Display| Failure::Failed(format!("{base}{path}: {why}"));
    let response = ask(base, request)
        .await
        .map_err(|error| told(base, path, &*error))?;
    let status = response.status();
    let body = response.into_body();
    if !status.is_success() {
        let answer = Limited::new(body, LONGEST_ANSWER).collect().await;
        let answer = answer.map(|answer| answer.to_bytes()).unwrap_or_default();
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        return Err(refused(status, &answer, failed(&problem(&answer))));
    }
    Ok(Events {
        source: format!("{base}{path}"),
        body,
        unread: Vec::new(),
    })
}

impl Events {
    /// What comes after the next `data:`; `None` when the server has ended it. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or an event is too long.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if let Some(data) = line.strip_prefix("data:") {
                    return Ok(Some(data.trim().to_owned()));
                }
            }
            if self.unread.len() > LONGEST_EVENT {
                return Err(self.failed("an event is too long"));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| self.failed(&error))?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            self.unread.extend_from_slice(data);
        }
    }

    fn failed(&self, why: &(impl std::fmt::Display + ?Sized)) -> Failure {
        Failure::Failed(format!("{}: {why}", self.source))
    }
}

/// What a JSON API says that it will not do.
fn problem(answer: &Value) -> &str {
    let said = answer.get("error").and_then(Value::as_str);
    said.unwrap_or(NOT_THE_API)
}

/// A refusal of the admin API: of what the caller wrote, or of what can't be done now.
fn refused(status: StatusCode, answer: &Value, failed: Failure) -> Failure {
    let is_of_now = matches!(
        status,
        StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    );
    match failed {
        // What another server says there tells nothing of what the caller wrote.
        Failure::Failed(why)
            if status.is_client_error() && !is_of_now && answer.get("error").is_some() =>
        {
            Failure::Usage(why)
        }
        failed => failed,
    }
}

fn bearing(request: Builder, token: Option<&str>) -> Builder {
    match token {
        Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    }
}

/// The whole answer to a request, in time.
async fn whole(
    base: &str,
    path: &str,
    request: Result<Request<Full<Bytes>>, hyper::http::Error>,
) -> Result<(StatusCode, Bytes), Failure> {
    within((TIMEOUT, LONGEST_ANSWER), base, path, request).await
}

/// The whole answer to a request, within a time and a number of bytes.
async fn within(
    (time, most): (Duration, usize),
    base: &str,
    path: &str,
    request: Result<Request<Full<Bytes>>, hyper::http::Error>,
) -> Result<(StatusCode, Bytes), Failure> {
    let exchange = async {
        let response = ask(base, request).await?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), most);
        Ok::<_, Error>((status, answer.collect().await?.to_bytes()))
    };
    let failed = |why: &str| Failure::Failed(format!("{base}{path}: {why}"));
    let answer = tokio::time::timeout(time, exchange).await;
    let answer = answer.map_err(|_| failed("no answer in time"))?;
    answer.map_err(|error| told(base, path, &*error))
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, for people.
fn told(
    base: &str,
    path: &str,
    error: &(dyn std::error::Error + Send + Sync + 'static),
) -> Failure {
    if let Some(BadBase(why)) = error.downcast_ref() {
        return Failure::Usage(why.clone());
    }
    let why = match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_parse() => NOT_THE_API.to_owned(),
        _ => error.to_string(),
    };
    Failure::Failed(format!("{base}{path}: {why}"))
}

/// A base that is none.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadBase(String);

async fn ask(
    base: &str,
    request: Result<Request<Full<Bytes>>, hyper::http::Error>,
) -> Result<Response<Incoming>, Error> {
    let authority = authority(base)?;
    let stream = TcpStream::connect(&authority).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender; what goes wrong is told to the request too.
    tokio::spawn(connection);
    let mut request = request?;
    let host = HeaderValue::from_str(&authority)?;
    request.headers_mut().insert(HOST, host);
    Ok(sender.send_request(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_host_and_a_port() {
        let read = |base| authority(base).ok();
        assert_eq!(
            read("http://127.0.0.1:6001").as_deref(),
            Some("127.0.0.1:6001")
        );
        assert_eq!(read("http://[::1]:6001/").as_deref(), Some("[::1]:6001"));
        assert_eq!(read("http://im.example").as_deref(), Some("im.example:80"));
        for bad in [
            "127.0.0.1:6001",
            "https://im.example",
            "http://im.example/x",
            "",
            "http://",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

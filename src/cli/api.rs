//! Calls of the stack's HTTP API.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;

use super::failure::Failure;
use super::refusal;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// No answer of the API comes near it.
const LONGEST_ANSWER: usize = 1 << 20;

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
    Err(failed(problem(&answer)))
}

/// Follows server-sent events: `each` is handed what comes after `data:`.
///
/// # Errors
///
/// When the server can't be reached, refuses, or ends it; and what `each` says.
pub async fn follow(
    base: &str,
    path: &str,
    token: Option<&str>,
    mut each: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let request = bearing(Request::get(path), token)
        .header(ACCEPT, "text/event-stream")
        .body(Full::new(Bytes::new()));
    let failed = |why: &dyn std::fmt::Display| Failure::Failed(format!("{base}{path}: {why}"));
    let response = ask(base, request)
        .await
        .map_err(|error| told(base, path, &*error))?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let answer = Limited::new(body, LONGEST_ANSWER).collect().await;
        let answer = answer.map(|answer| answer.to_bytes()).unwrap_or_default();
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        return Err(failed(&problem(&answer)));
    }
    let mut unread = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        unread.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(data) = line.strip_prefix("data:") {
                each(data.trim())?;
            }
        }
    }
    Err(failed(&"the stack has ended"))
}

/// What a JSON API says that it will not do.
fn problem(answer: &Value) -> &str {
    let said = answer.get("error").and_then(Value::as_str);
    said.unwrap_or(NOT_THE_API)
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
    let exchange = async {
        let response = ask(base, request).await?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), LONGEST_ANSWER);
        Ok::<_, Error>((status, answer.collect().await?.to_bytes()))
    };
    let failed = |why: &str| Failure::Failed(format!("{base}{path}: {why}"));
    let answer = tokio::time::timeout(TIMEOUT, exchange).await;
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

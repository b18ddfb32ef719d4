//! Calls of the stack's HTTP API.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
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
    let authority = authority(base)?;
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let failed = |why: String| Failure::Failed(format!("{base}{path}: {why}"));
    let answer = tokio::time::timeout(TIMEOUT, exchange(&authority, path, body))
        .await
        .map_err(|_| failed("no answer in time".into()))?
        .map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(error) if error.is_parse() => failed(NOT_THE_API.into()),
            _ => failed(error.to_string()),
        })?;
    let answer: Answer = serde_json::from_slice(&answer).map_err(|_| failed(NOT_THE_API.into()))?;
    if answer.code == 0 {
        Ok(answer.data)
    } else {
        Err(failed(refusal::advise(answer.code, &answer.message)))
    }
}

/// The host:port of a URL.
fn authority(base: &str) -> Result<String, Failure> {
    let bad = || {
        Failure::Usage(format!(
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

async fn exchange(
    authority: &str,
    path: &str,
    body: String,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender; what goes wrong is told to the request too.
    tokio::spawn(connection);
    let request = Request::post(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let answer = Limited::new(response.into_body(), LONGEST_ANSWER);
    Ok(answer.collect().await?.to_bytes())
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

//! Calls of the stack's HTTP API.

use std::io::{self, ErrorKind};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use imd::store::SNAPSHOT_LIMIT;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;

use super::endpoint::authority;
use super::environment;
use super::failure::Failure;
use super::peer::{self, Peer};
use super::refusal;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// No answer of the API comes near it.
const LONGEST_ANSWER: usize = 1 << 20;

/// No event comes near it: the longest tells of a page with as many empty entries as fit a frame.
const LONGEST_EVENT: usize = 16 << 20;

/// The media type of server-sent events.
const EVENTS: &str = "text/event-stream";

/// How long a snapshot may take on its way, and to be loaded.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(300);

/// Which API is called: for errors, which say how its address is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    User,
    Group,
    Admin,
}

impl Role {
    /// The one that has this path.
    fn of(path: &str) -> Role {
        if path.starts_with("/x/user/") {
            Role::User
        } else if path.starts_with("/x/group/") {
            Role::Group
        } else {
            Role::Admin
        }
    }

    fn peer(self) -> Peer {
        match self {
            Role::User => Peer::UserApi,
            Role::Group => Peer::GroupApi,
            Role::Admin => Peer::AdminApi,
        }
    }

    /// What has set its address.
    fn source(self, addr: &str) -> &'static str {
        let (variable, flag) = match self {
            Role::User => (environment::USER_API, "--user-api"),
            Role::Group => (environment::GROUP_API, "--group-api"),
            Role::Admin => (environment::ADMIN, "--admin"),
        };
        environment::source(variable, flag, addr)
    }

    /// How to say where it is.
    fn flags(self) -> &'static str {
        match self {
            Role::User => "--user-api URL, --addr-file FILE or --config FILE",
            Role::Group => "--group-api URL, --addr-file FILE or --config FILE",
            Role::Admin => "--admin URL, --addr-file FILE or --config FILE",
        }
    }
}

/// What every call is answered with.
#[derive(Deserialize)]
struct Answer {
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

/// What the stack says that it will not do.
pub struct Refused {
    /// The code of the contract.
    pub code: u32,
    /// Its text.
    pub text: String,
}

/// Posts form fields to a path of the API at `base`, and returns the answer's data.
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
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let request = Request::post(path)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)));
    let (status, answer) = whole(base, path, request).await?;
    let answer = serde_json::from_slice::<Answer>(&answer);
    match answer {
        Ok(Answer { code: 0, data, .. }) => Ok(Ok(data)),
        // The user API does not have the paths of the group API, and the other way round.
        Ok(Answer { code, message, .. }) if status != StatusCode::NOT_FOUND => {
            let text = message;
            Ok(Err(Refused { code, text }))
        }
        _ => Err(somebody_else(base, path).await),
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
    json_within(Duration::ZERO, base, method, path, token, body).await
}

/// Does what [`json`] does with a call that may itself take so long.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
pub async fn json_within(
    time: Duration,
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
    let bounds = (time + TIMEOUT, LONGEST_ANSWER);
    let (status, answer) = within(bounds, base, path, request).await?;
    match serde_json::from_slice::<Value>(&answer) {
        Ok(answer) if status.is_success() => Ok(answer),
        answer => Err(refused(base, path, status, &answer.unwrap_or_default()).await),
    }
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
    Err(refused(base, path, status, &answer).await)
}

/// Server-sent events, as they come.
pub struct Events {
    /// Where from, for errors.
    source: String,
    body: Incoming,
    unread: Vec<u8>,
    /// Whether the event that is being read says that others are missing.
    is_gap: bool,
}

/// Asks for server-sent events. When this returns, the server is sending them.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
pub async fn events(base: &str, path: &str, token: Option<&str>) -> Result<Events, Failure> {
    let request = bearing(Request::get(path), token)
        .header(ACCEPT, EVENTS)
        .body(Full::new(Bytes::new()));
    let response = match tokio::time::timeout(TIMEOUT, ask(base, request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(told(base, path, &*error).await),
        Err(_) => return Err(silent(base, path, TIMEOUT)),
    };
    let status = response.status();
    let media = response.headers().get(CONTENT_TYPE);
    let is_stream = media.is_some_and(|media| media.as_bytes().starts_with(EVENTS.as_bytes()));
    let body = response.into_body();
    if !status.is_success() {
        let answer = Limited::new(body, LONGEST_ANSWER).collect().await;
        let answer = answer.map(|answer| answer.to_bytes()).unwrap_or_default();
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        return Err(refused(base, path, status, &answer).await);
    }
    if !is_stream {
        return Err(somebody_else(base, path).await);
    }
    Ok(Events {
        source: place(base, path),
        body,
        unread: Vec::new(),
        is_gap: false,
    })
}

/// One of them.
pub enum Sent {
    /// An event, as JSON.
    Event(String),
    /// Events are missing here; JSON says how many.
    Gap(String),
}

impl Events {
    /// The next one; `None` when the server has ended it. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or an event is too long.
    pub async fn next(&mut self) -> Result<Option<Sent>, Failure> {
        loop {
            while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if let Some(kind) = line.strip_prefix("event:") {
                    self.is_gap = kind.trim() == "gap";
                } else if let Some(data) = line.strip_prefix("data:") {
                    let data = data.trim().to_owned();
                    // The server says the kind of an event before its data.
                    let is_gap = std::mem::take(&mut self.is_gap);
                    let sent = if is_gap { Sent::Gap } else { Sent::Event };
                    return Ok(Some(sent(data)));
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

/// What the admin API says that it will not do, because of what the caller wrote or because it can't be done now; what else
/// an answer means that is not the API's.
async fn refused(base: &str, path: &str, status: StatusCode, answer: &Value) -> Failure {
    let Some(why) = answer.get("error").and_then(Value::as_str) else {
        return somebody_else(base, path).await;
    };
    let is_of_now = matches!(
        status,
        StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    );
    if status.is_client_error() && !is_of_now {
        Failure::Usage(why.to_owned())
    } else {
        Failure::Failed(why.to_owned())
    }
}

/// Who answers in place of the API that was called, and what to do.
pub async fn somebody_else(base: &str, path: &str) -> Failure {
    let role = Role::of(path);
    let found = match authority(base) {
        Ok(addr) => peer::look(&addr).await,
        Err(_) => Peer::Unknown,
    };
    let (wanted, flags) = (role.peer(), role.flags());
    let why = if found == wanted {
        format!("the answer is not what this imd knows of {wanted}: is it another version?")
    } else {
        format!("this is {found}; say where {wanted} is, with {flags}")
    };
    Failure::Failed(format!("{}: {why}", place(base, path)))
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
    match tokio::time::timeout(time, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(told(base, path, &*error).await),
        Err(_) => Err(silent(base, path, time)),
    }
}

/// What was called, without what it was asked for.
fn place(base: &str, path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    format!("{base}{path}")
}

/// What to say where no answer came.
fn silent(base: &str, path: &str, time: Duration) -> Failure {
    let time = humantime::format_duration(time);
    let (wanted, flags) = (Role::of(path).peer(), Role::of(path).flags());
    let place = place(base, path);
    Failure::Failed(format!(
        "{place}: no answer within {time}. The stack hangs, or something else listens there: then say where {wanted} \
         is, with {flags}"
    ))
}

/// Why a call came to nothing, before it is told.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, for people.
async fn told(
    base: &str,
    path: &str,
    error: &(dyn std::error::Error + Send + Sync + 'static),
) -> Failure {
    let role = Role::of(path);
    if let Some(BadBase(why)) = error.downcast_ref() {
        let source = role.source(base);
        return Failure::Usage(format!("{source} {base}: {why}"));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        if error.is_parse() {
            return somebody_else(base, path).await;
        }
        if error.is_incomplete_message() {
            let why = "the connection was closed before the answer";
            return Failure::Failed(format!("{}: {why}", place(base, path)));
        }
    }
    let why = match error.downcast_ref::<io::Error>() {
        Some(error) => unreachable(error, role.flags()),
        None => error.to_string(),
    };
    Failure::Failed(format!("{}: {why}", place(base, path)))
}

/// Why nobody could be reached, and what to do: `flags` say where else to look.
pub fn unreachable(error: &io::Error, flags: &str) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            format!("{error}. Nothing listens there: start imd, or say where it is with {flags}.")
        }
        ErrorKind::TimedOut
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown => {
            format!("{error}. Is the address right, and the network up? It is set with {flags}.")
        }
        // The system has no kind of its own for it.
        _ if error.to_string().contains("lookup") => {
            format!("{error}. Is the name of the host right? It is set with {flags}.")
        }
        _ => error.to_string(),
    }
}

/// A base that is none.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadBase(String);

async fn ask(
    base: &str,
    request: Result<Request<Full<Bytes>>, hyper::http::Error>,
) -> Result<Response<Incoming>, Error> {
    let authority = authority(base).map_err(BadBase)?;
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

/// Asks for something without a body, and looks at the answer no further.
///
/// # Errors
///
/// When there is none.
pub async fn bare(
    authority: &str,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), Error> {
    let request = Request::builder().method(method).uri(path);
    let response = ask(authority, request.body(Full::new(Bytes::new()))).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST_ANSWER);
    Ok((status, body.collect().await?.to_bytes()))
}

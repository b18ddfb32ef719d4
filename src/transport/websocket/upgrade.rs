//! The upgrade of a connection to a WebSocket (RFC 6455, 4.2): one HTTP request and its answer.
//!
//! Serves the handshake of the listeners. A request that can't be upgraded is answered with a status and a text that says
//! what to change, for the person who looks at it in a browser or with curl.

use std::future::poll_fn;
use std::io;

use bytes::{Buf, BytesMut};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{
    Request, Response, create_response, write_response,
};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::WebSocket;
use crate::transport::Transport;

/// The longest request that is read, in bytes. The cookies of a page's host come with it.
const MAX_REQUEST: usize = 16 * 1024;

/// The end of a request's head.
const END: &[u8] = b"\r\n\r\n";

/// The subprotocol of the binary messages. A client need not name it.
const SUBPROTOCOL: &str = "imd";

/// A connection that did not become a WebSocket.
#[derive(Debug)]
pub struct FailedUpgrade {
    /// Why.
    pub error: UpgradeError,
    /// The connection. If the client was refused, it waits for the [answer](UpgradeError::answer).
    pub transport: Transport,
}

/// Why a connection did not become a WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The connection has ended or broken before the request was complete.
    #[error("the connection ended before its upgrade: {0}")]
    Broken(#[from] io::Error),
    /// The request was refused.
    #[error("{why}")]
    Refused {
        /// The reason as a label of metrics.
        label: &'static str,
        /// The status of the answer.
        status: StatusCode,
        /// The reason for people.
        why: String,
    },
}

impl UpgradeError {
    fn refused(label: &'static str, status: StatusCode, why: impl Into<String>) -> Self {
        UpgradeError::Refused {
            label,
            status,
            why: why.into(),
        }
    }

    /// Returns what the client is told; nothing if its connection has broken.
    pub fn answer(&self) -> BytesMut {
        match self {
            UpgradeError::Broken(_) => BytesMut::new(),
            UpgradeError::Refused { status, why, .. } => refusal(*status, why).as_slice().into(),
        }
    }

    /// Returns the reason as a label of metrics.
    pub fn label(&self) -> &'static str {
        match self {
            UpgradeError::Broken(_) => "broken",
            UpgradeError::Refused { label, .. } => label,
        }
    }
}

/// Reads the request of a client that wants a WebSocket, and accepts it. `check_page` looks at the headers that a browser adds, and
/// returns why the page may not open one.
///
/// # Errors
///
/// [`FailedUpgrade`]. Nothing was answered then.
pub async fn upgrade(
    mut transport: Transport,
    check_page: impl Fn(&HeaderMap) -> Result<(), String>,
) -> Result<WebSocket, FailedUpgrade> {
    let mut received = BytesMut::new();
    let accepted = async {
        let response = answer_request(&mut transport, &mut received, check_page).await?;
        Ok(transport.write_all(&response).await?)
    };
    match accepted.await {
        Ok(()) => Ok(WebSocket::new(transport, received)),
        Err(error) => Err(FailedUpgrade { error, transport }),
    }
}

/// Reads the request, and returns the response that accepts it. What was read behind the request stays in `received`.
async fn answer_request(
    transport: &mut Transport,
    received: &mut BytesMut,
    check_page: impl Fn(&HeaderMap) -> Result<(), String>,
) -> Result<Vec<u8>, UpgradeError> {
    let request = read_request(transport, received).await?;
    let refused = |why| UpgradeError::refused("wrong_origin", StatusCode::FORBIDDEN, why);
    check_page(request.headers()).map_err(refused)?;
    check_path(&request)?;
    let mut response = create_response(&request).map_err(|error| not_upgradable(&error))?;
    choose_subprotocol(request.headers(), &mut response)?;
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(|error| not_upgradable(&error))?;
    Ok(bytes)
}

async fn read_request(
    transport: &mut Transport,
    received: &mut BytesMut,
) -> Result<Request, UpgradeError> {
    // Bytes that are no HTTP are refused early. A request whose end is not there yet is parsed again only when twice as much of
    // it has arrived, so that one which comes byte by byte costs no more than its length.
    let (mut seen, mut next_look) = (0_usize, 1);
    loop {
        // The end may have begun in what was there before.
        let new = received.get(seen.saturating_sub(END.len() - 1)..);
        let has_end = new.is_some_and(|new| new.windows(END.len()).any(|bytes| bytes == END));
        seen = received.len();
        if has_end || seen >= next_look {
            next_look = 2 * seen;
            let parsed = Request::try_parse(received).map_err(|error| unreadable(&error))?;
            if let Some((len, request)) = parsed {
                received.advance(len);
                return Ok(request);
            }
        }
        if received.len() >= MAX_REQUEST {
            return Err(UpgradeError::refused(
                "too_long",
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("the request is longer than {MAX_REQUEST} bytes"),
            ));
        }
        // The buffer grows only when something has arrived, so that a silent client costs none.
        poll_fn(|cx| transport.poll_read_ready(cx)).await?;
        let room = (MAX_REQUEST - received.len()).min(1024);
        received.reserve(room);
        if poll_fn(|cx| transport.poll_read(cx, received, room)).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Returns the refusal of bytes that are no GET request.
fn unreadable(error: &Error) -> UpgradeError {
    match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => UpgradeError::refused(
            "not_get",
            StatusCode::METHOD_NOT_ALLOWED,
            "a WebSocket begins with a GET request",
        ),
        Error::Protocol(ProtocolError::WrongHttpVersion) => UpgradeError::refused(
            "not_upgradable",
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "a WebSocket begins with a request of HTTP/1.1",
        ),
        _ => UpgradeError::refused(
            "not_http",
            StatusCode::BAD_REQUEST,
            "this port takes WebSocket clients. Frames with a length before them go to the port of `listen`",
        ),
    }
}

/// Returns the refusal of a request that is none for a WebSocket.
fn not_upgradable(error: &Error) -> UpgradeError {
    UpgradeError::refused(
        "not_upgradable",
        StatusCode::UPGRADE_REQUIRED,
        format!("this port takes WebSocket clients, and this is no request of one: {error}"),
    )
}

fn check_path(request: &Request) -> Result<(), UpgradeError> {
    if request.uri().path() == "/" {
        return Ok(());
    }
    Err(UpgradeError::refused(
        "wrong_path",
        StatusCode::NOT_FOUND,
        "the path of the WebSocket is /",
    ))
}

/// Chooses the subprotocol, if the client offers some. A browser gives up if it has offered some and gets none, so that is
/// refused with a reason.
fn choose_subprotocol(headers: &HeaderMap, response: &mut Response) -> Result<(), UpgradeError> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut names = offered.iter().filter_map(|value| value.to_str().ok());
    if offered.iter().next().is_none() {
        return Ok(());
    }
    if names.any(|list| list.split(',').any(|name| name.trim() == SUBPROTOCOL)) {
        let chosen = HeaderValue::from_static(SUBPROTOCOL);
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        return Ok(());
    }
    Err(UpgradeError::refused(
        "wrong_subprotocol",
        StatusCode::BAD_REQUEST,
        format!("the subprotocol is {SUBPROTOCOL:?}; a client may also name none"),
    ))
}

/// Returns the response that refuses a request.
fn refusal(status: StatusCode, why: &str) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let connection = match status {
        StatusCode::UPGRADE_REQUIRED => {
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade, close"
        }
        _ => "Connection: close",
    };
    let allow = match status {
        StatusCode::METHOD_NOT_ALLOWED => "Allow: GET\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {} {reason}\r\n{connection}\r\n{allow}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{why}\n",
        status.as_u16(),
        why.len() + 1
    )
    .into_bytes()
}

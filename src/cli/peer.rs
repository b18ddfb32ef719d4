//! Identifies the server at an address, for errors about an answer that makes no sense.
//!
//! Serves [`api`](super::api), [`refusal`](super::refusal) and `imd replay`. The requests that it sends change nothing on a
//! server of `imd`.

use std::fmt;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::ACCEPT;
use hyper::{Method, Request, StatusCode};
use imd::codec::{FrameCodec, encode};
use imd::proto::{Base, Cmd, ReqPing};
use prost::Message;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;

use super::endpoint::authority;
use super::http;

/// Time limit for the identification of a server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer to a ping that is accepted, in bytes. A longer one is not from a server of `imd`.
const MAX_ANSWER: u16 = 1024;

/// The longest answer in HTTP that is accepted, in bytes. The longest answers of `imd` to these requests are far shorter.
const MAX_PAGE: usize = 1 << 20;

/// The kind of server that answers at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Gateway,
    Access,
    UserApi,
    GroupApi,
    AdminApi,
    /// An HTTP server that is not part of `imd`.
    OtherHttp,
    /// A server of an unknown protocol, or no server at all.
    Unknown,
}

/// Writes the words that follow "this is" in an error.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Peer::Gateway => "the gateway",
            Peer::Access => "an access server",
            Peer::UserApi => "the user API",
            Peer::GroupApi => "the group API",
            Peer::AdminApi => "the admin API",
            Peer::OtherHttp => "an HTTP server, but not imd's",
            Peer::Unknown => "not imd",
        })
    }
}

/// Identifies the server at a host:port, or returns [`Peer::Unknown`] after [`TIMEOUT`]. The server may log a refused
/// ping or a request.
pub async fn identify(addr: &str) -> Peer {
    let identified = tokio::time::timeout(TIMEOUT, ask(addr)).await;
    identified.ok().flatten().unwrap_or(Peer::Unknown)
}

/// Sends a ping, and tells from the reply what the server is. Returns `None` when the reply is of no known kind.
async fn ask(addr: &str) -> Option<Peer> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    // A ping before a login changes nothing: an access server refuses it, and a gateway does not know the command.
    let ping = ReqPing {
        cmd: Cmd::Ping.number(),
        ..Default::default()
    };
    let mut bytes = BytesMut::new();
    encode(&ping, &mut bytes).ok()?;
    stream.write_all(&bytes).await.ok()?;
    bytes.clear();
    loop {
        if bytes.starts_with(b"HTTP/") {
            return Some(which_api(addr).await);
        }
        if let Ok(Some(frame)) = FrameCodec.decode(&mut bytes) {
            let cmd = Base::decode(frame).ok()?.cmd;
            return Some(match Cmd::from_number(cmd)? {
                Cmd::Ping => Peer::Access,
                Cmd::ErrServer => Peer::Gateway,
                _ => Peer::Unknown,
            });
        }
        // An unknown server may never send the rest of what its length prefix announces, so a long frame is not
        // waited for.
        let length = bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        if length.is_some_and(|length| length > MAX_ANSWER) && bytes.len() >= b"HTTP/".len() {
            return None;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Tells apart the HTTP APIs of `imd` and other HTTP servers.
async fn which_api(addr: &str) -> Peer {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let Some((_, version)) = probe(addr, Method::GET, "/version").await else {
        return Peer::OtherHttp;
    };
    let version = json(&version);
    // The admin API refuses an unknown host name, and its refusal has the form of all its errors.
    if version.get("name") == Some(&Value::from("imd")) || version.get("error").is_some() {
        return Peer::AdminApi;
    }
    if version.get("code").is_none() {
        return Peer::OtherHttp;
    }
    match probe(addr, Method::POST, "/x/user/auth").await {
        Some((status, _)) if status != StatusCode::NOT_FOUND => Peer::UserApi,
        _ => Peer::GroupApi,
    }
}

/// Sends a request without a body, and returns the answer of whatever server is there. Returns `None` when there is
/// no answer in HTTP.
async fn probe(addr: &str, method: Method, path: &str) -> Option<(StatusCode, Bytes)> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, "*/*");
    let authority = authority(addr).ok()?;
    let response = http::send(&authority, request, Bytes::new()).await.ok()?;
    http::read_body(response, MAX_PAGE).await.ok()
}

//! The identification of whatever answers at an address, for errors about an answer that makes no sense.

use std::fmt;
use std::time::Duration;

use hyper::{Method, StatusCode};
use imd::codec::{FrameCodec, encode};
use imd::proto::{Base, Cmd, ReqPing};
use prost::Message;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;

use super::api;

/// How long the identification may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer to a ping, in bytes.
const MAX_ANSWER: u16 = 1024;

/// What answers at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Gateway,
    Access,
    UserApi,
    GroupApi,
    AdminApi,
    /// An HTTP server that is none of `imd`.
    OtherHttp,
    /// Somebody else, or nobody.
    Unknown,
}

/// The words that follow "this is" in an error.
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

/// Identifies what answers at a host:port. That leaves a refused ping or a request in the log of the other side.
pub async fn look(addr: &str) -> Peer {
    let looked = tokio::time::timeout(TIMEOUT, ask(addr)).await;
    looked.ok().flatten().unwrap_or(Peer::Unknown)
}

async fn ask(addr: &str) -> Option<Peer> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    // Before a login it changes nothing: an access server refuses it, and a gateway does not know it.
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
        // A stranger may never send the rest of what its length announces.
        let length = bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        if length.is_some_and(|length| length > MAX_ANSWER) && bytes.len() >= b"HTTP/".len() {
            return None;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn which_api(addr: &str) -> Peer {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let Some((_, version)) = api::probe(addr, Method::GET, "/version").await else {
        return Peer::OtherHttp;
    };
    let version = json(&version);
    // The admin API refuses a host name that it does not know, in the form of all its errors.
    if version.get("name") == Some(&Value::from("imd")) || version.get("error").is_some() {
        return Peer::AdminApi;
    }
    if version.get("code").is_none() {
        return Peer::OtherHttp;
    }
    match api::probe(addr, Method::POST, "/x/user/auth").await {
        Some((status, _)) if status != StatusCode::NOT_FOUND => Peer::UserApi,
        _ => Peer::GroupApi,
    }
}

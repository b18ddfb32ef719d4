//! Recognises clients that have come to the wrong port: what they send first is no frame.
//!
//! Serves the connections, which tell such a client what the port takes. A length that is made of the first two bytes of
//! these protocols is longer than every frame before a login, so no client of the contract is taken for another one.

use std::fmt;

/// A protocol that clients speak by mistake where frames with a length before them are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherProtocol {
    /// HTTP/1.1, which a WebSocket client begins with too.
    Http,
    /// TLS.
    Tls,
}

/// How the requests of HTTP begin.
const METHODS: [&[u8]; 6] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"PRI "];

/// How a TLS handshake begins: with a record of the type 22, and the major version 3.
const TLS: &[u8] = &[0x16, 3];

impl OtherProtocol {
    /// Returns the protocol that these bytes begin, if it is one of these.
    pub fn of(bytes: &[u8]) -> Option<OtherProtocol> {
        if bytes.starts_with(TLS) {
            return Some(OtherProtocol::Tls);
        }
        let is_http = METHODS.iter().any(|method| bytes.starts_with(method));
        is_http.then_some(OtherProtocol::Http)
    }

    /// Returns the name of the mistake in metrics.
    pub fn label(self) -> &'static str {
        match self {
            OtherProtocol::Http => "http",
            OtherProtocol::Tls => "tls",
        }
    }
}

/// Displays what the client has to change.
impl fmt::Display for OtherProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OtherProtocol::Http => {
                "this port takes frames, not HTTP: WebSocket clients go to the port of ws_listen"
            }
            OtherProtocol::Tls => "this port takes frames without TLS",
        })
    }
}

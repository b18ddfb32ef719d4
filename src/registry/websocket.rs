//! The WebSocket addresses of access servers.
//!
//! Serves the access servers, which enter theirs, and the gateway, which tells clients. They stand beside the
//! [records](super::Record), whose form is that of the stack and has no place for them.

use std::collections::HashMap;

use parking_lot::RwLock;

/// The address at which an access server takes WebSocket clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebSocketAddress {
    /// The address of a listener.
    At {
        /// `host:port`. The host may be unspecified (0.0.0.0): then the gateway fills it in.
        addr: String,
        /// Whether clients have to use TLS.
        is_secure: bool,
    },
    /// A whole URL, such as that of a proxy.
    Url(String),
}

impl WebSocketAddress {
    /// Returns the URL that a client dials. `dialable` turns `host:port` into one that this client can connect to, or into
    /// none.
    pub fn url(&self, dialable: impl FnOnce(&str) -> Option<String>) -> Option<String> {
        match self {
            WebSocketAddress::At { addr, is_secure } => {
                let scheme = if *is_secure { "wss" } else { "ws" };
                dialable(addr).map(|addr| format!("{scheme}://{addr}"))
            }
            WebSocketAddress::Url(url) => Some(url.clone()),
        }
    }
}

/// The WebSocket addresses of the access servers of one `imd`, by the `addr` of their records.
#[derive(Debug, Default)]
pub struct WebSocketAddresses(RwLock<HashMap<String, WebSocketAddress>>);

impl WebSocketAddresses {
    /// Enters the address of a server whose record has this `addr`.
    pub fn enter(&self, addr: &str, websocket: WebSocketAddress) {
        self.0.write().insert(addr.to_owned(), websocket);
    }

    /// Returns the WebSocket address of the server whose record has this `addr`, if it takes WebSocket clients.
    pub fn of(&self, addr: &str) -> Option<WebSocketAddress> {
        self.0.read().get(addr).cloned()
    }
}

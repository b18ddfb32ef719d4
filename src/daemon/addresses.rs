//! The addresses at which clients on this machine find an `imd`.
//!
//! Serves [`Imd::addresses`](super::Imd::addresses), from which the banner and the file of `--addr-file` are written, and
//! the client commands, which read that file. Field names are part of the file's format. Every address can be dialled: an
//! unspecified host such as 0.0.0.0 is replaced by the loopback address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::config::ListenHost;
use crate::tls::Acceptor;

/// The addresses of the servers of an `imd`. All of them can be dialled from this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The gateway, as host:port, or as tls://host:port if it takes no clients without TLS.
    pub gateway: String,
    /// The URL at which the gateway takes WebSocket clients; none if it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_ws: Option<String>,
    /// The access servers: those of the config in its order, then those that were added.
    pub access: Vec<AccessAddress>,
    /// The user API's URL, without a path.
    pub user_api: String,
    /// The group API's URL, without a path.
    pub group_api: String,
    /// The admin API's URL, without a path; none if the admin API is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
}

/// The name of an access server, and the address at which a client on this machine finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessAddress {
    /// The server's name in the registry.
    pub name: String,
    /// The address to dial, as host:port or tls://host:port.
    pub addr: String,
    /// The URL at which the server takes WebSocket clients; none if it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ws: Option<String>,
}

/// The forms in which clients on this machine are told where servers listen. Where all clients have to use TLS, they are URLs of
/// TLS, by a name that the certificate has.
pub(super) struct Urls<'a>(pub &'a Acceptor);

impl Urls<'_> {
    /// Returns the address of a gateway or an access server that listens on `addr`.
    pub fn frames(&self, addr: SocketAddr) -> String {
        self.frames_of(&self.authority(addr))
    }

    /// Returns the address of a server that is told as `host:port`.
    pub fn frames_of(&self, authority: &str) -> String {
        let scheme = self.by_tls("tls://", "");
        format!("{scheme}{authority}")
    }

    /// Returns the URL of a server that takes WebSocket clients on `addr`.
    pub fn websocket(&self, addr: SocketAddr) -> String {
        format!("{}{}", self.by_tls("wss://", "ws://"), self.authority(addr))
    }

    /// Returns the URL of an HTTP API that listens on `addr`.
    pub fn http(&self, addr: SocketAddr) -> String {
        let scheme = self.by_tls("https://", "http://");
        format!("{scheme}{}", self.authority(addr))
    }

    fn by_tls<'s>(&self, tls: &'s str, plain: &'s str) -> &'s str {
        match self.0.requires_tls() {
            true => tls,
            false => plain,
        }
    }

    fn authority(&self, addr: SocketAddr) -> String {
        let addr = dialable(addr);
        if !self.0.requires_tls() {
            return addr.to_string();
        }
        let ip = addr.ip().to_string();
        match self.0.name_for(&ip) {
            name if name == ip => addr.to_string(),
            name => format!("{name}:{}", addr.port()),
        }
    }
}

/// Returns the address to dial for a server that listens on `addr`: the loopback address if the host of `addr` is
/// unspecified, such as 0.0.0.0, and `addr` itself otherwise.
///
/// The loopback address is of the same family, except on a machine without IPv6: a server on `::` is dialled by IPv4
/// there.
pub fn dialable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        let by_v6 = addr.is_ipv6() && ListenHost::any().at(0).is_ipv6();
        addr.set_ip(match by_v6 {
            false => IpAddr::V4(Ipv4Addr::LOCALHOST),
            true => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    addr
}

//! The addresses at which clients on this machine find an `imd`.
//!
//! Serves [`Imd::addresses`](super::Imd::addresses), from which the banner and the file of `--addr-file` are written, and
//! the client commands, which read that file. Field names are part of the file's format. Every address can be dialled: an
//! unspecified host such as 0.0.0.0 is replaced by the loopback address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::config::ListenHost;

/// The addresses of the servers of an `imd`. All of them can be dialled from this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The gateway, as host:port.
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
    /// The address to dial, as host:port.
    pub addr: String,
    /// The URL at which the server takes WebSocket clients; none if it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ws: Option<String>,
}

/// Returns the URL at which WebSocket clients on this machine find a server that listens on `addr`.
pub fn websocket_url(addr: SocketAddr) -> String {
    format!("ws://{}", dialable(addr))
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

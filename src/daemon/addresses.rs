//! Where clients on this machine find an `imd`: what the banner, the file of `--addr-file` and the admin API say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Where a client finds an `imd`: addresses that can be dialled from this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The gateway, as host:port.
    pub gateway: String,
    /// The access servers, in their order.
    pub access: Vec<AccessAddress>,
    /// The user API's URL, without a path.
    pub user_api: String,
    /// The group API's URL, without a path.
    pub group_api: String,
    /// The admin API's URL, without a path; none where it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
}

/// Where a client finds an access server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessAddress {
    /// Its name in the registry.
    pub name: String,
    /// host:port
    pub addr: String,
}

/// The address to dial for a listening address: where that is unspecified, the loopback one.
pub fn dialable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    addr
}

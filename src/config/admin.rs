//! `[admin]`: the admin API and its console.
//!
//! Serves the module `admin`. A [`Secret`] of the config never shows in a log or in the output of `Debug`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::form;

/// The table `[admin]`: whether an admin API is served, and who may use it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Whether the admin API is served. By default it is, in every build that has the cargo feature `admin`.
    ///
    /// If a file has the table but not this key, it is true in every build: the table says where the API listens, so a
    /// build without the feature must refuse the config rather than ignore it.
    #[serde(default = "enabled_by_table")]
    pub enabled: bool,
    /// The address that the API listens on. An address other than loopback requires a [`token`](Self::token), and lets
    /// requests name any IP address as their host.
    #[serde(with = "form::address")]
    pub listen: SocketAddr,
    /// The bearer token that every request must carry. None if requests need no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The hosts, as host or host:port, that a request may name in addition to those of loopback.
    pub hosts: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            enabled: cfg!(feature = "admin"),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10090),
            token: None,
            hosts: Vec::new(),
        }
    }
}

/// Returns the value of `enabled` in a table that leaves the key out.
fn enabled_by_table() -> bool {
    true
}

/// A text that must not reach a log. Its `Debug` output leaves the text out.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the text itself, which the caller must not log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

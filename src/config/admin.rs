//! `[admin]`: the admin API and its console.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::form;

/// `[admin]`: whether there is an admin API, and who may use it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Whether there is an admin API. By default there is one in every build that has the cargo feature `admin`.
    ///
    /// A table without this key asks for the API in every build: it is there to say where the API listens, and a build
    /// without the feature must refuse it.
    #[serde(default = "enabled_by_table")]
    pub enabled: bool,
    /// The address that the API listens on. One that is not loopback needs a [`token`](Self::token).
    #[serde(with = "form::address")]
    pub listen: SocketAddr,
    /// The bearer token that every request must have, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The hosts, as host or host:port, that a request may name beside those of loopback.
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

fn enabled_by_table() -> bool {
    true
}

/// A text that must not reach a log: its `Debug` form leaves it out.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the text itself.
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

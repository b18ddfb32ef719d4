//! Which access servers there are: records under leases, in place of the stack's etcd (the contract's *Registry record*).

mod memory;

pub use memory::MemoryRegistry;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What an access server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name; one record each.
    #[serde(rename = "Name")]
    pub name: String,
    /// host:port where clients find it. The host may be unspecified (0.0.0.0): then the gateway fills it in.
    #[serde(rename = "IP")]
    pub addr: String,
    /// How many processors it has.
    #[serde(rename = "CPU")]
    pub cpu: usize,
    /// Added by imd: how many sessions it holds.
    #[serde(rename = "Sessions", default)]
    pub sessions: usize,
    /// Added by imd: how often it has renewed its lease, which tells an old count of sessions from a new one.
    #[serde(rename = "Renewals", default)]
    pub renewals: u64,
}

impl Record {
    /// Under which key it is registered.
    pub fn key(&self) -> String {
        key(&self.name)
    }
}

fn key(name: &str) -> String {
    format!("/server/access_server_gateway/{name}")
}

/// The right to keep one record alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The record's key.
    pub key: String,
    /// A later registration under the same key has another one.
    pub id: u64,
}

/// The lease has run out, was revoked, or its key was registered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease is no longer held")]
pub struct LeaseLost;

/// Records under leases. A record is listed until it is revoked or its lease runs out.
#[async_trait]
pub trait Registry: Send + Sync + fmt::Debug {
    /// Lists a record for `ttl`, in place of an older one under its key.
    async fn register(&self, record: Record, ttl: Duration) -> Lease;

    /// Replaces the record and lists it for `ttl` from now.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`]; then nothing has changed.
    async fn renew(&self, lease: &Lease, record: Record, ttl: Duration) -> Result<(), LeaseLost>;

    /// Takes the record off the list. A lost lease is left as it is.
    async fn revoke(&self, lease: &Lease);

    /// The records whose leases hold, by key.
    async fn list(&self) -> Vec<Record>;
}

//! Which access servers exist: records under leases, in place of the stack's etcd (the contract's *Registry record*).
//!
//! Access servers register and renew their records here, and the gateway reads the list. Both speak to the [`Registry`]
//! trait alone, so that a registry in another process can stand behind it: every call can fail because the registry is
//! [`Unreachable`], which says nothing about the leases in it.
//!
//! [`MemoryRegistry`] keeps the records of one process. [`FaultyRegistry`] stands in front of any registry, and
//! misleads its users where a test asks for it. [`WebSocketAddresses`] stands beside the records.

mod faulty;
mod memory;
mod websocket;

pub use faulty::FaultyRegistry;
pub use memory::MemoryRegistry;
pub use websocket::{WebSocketAddress, WebSocketAddresses};

use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// The record that an access server registers about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name of the access server. A registry lists at most one record of each name.
    #[serde(rename = "Name")]
    pub name: String,
    /// host:port where clients find the server. The host may be unspecified (0.0.0.0): then the gateway fills it in.
    #[serde(rename = "IP")]
    pub addr: String,
    /// How many processors the server has.
    #[serde(rename = "CPU")]
    pub cpu: usize,
    /// How many sessions the server held when it wrote the record. Added by imd.
    #[serde(rename = "Sessions", default)]
    pub sessions: usize,
    /// How many records the server has written before this one, which tells an old count of sessions from a new one.
    /// Added by imd.
    #[serde(rename = "Renewals", default)]
    pub renewals: u64,
}

impl Record {
    /// Returns the key under which the record is registered.
    pub fn key(&self) -> String {
        key(&self.name)
    }
}

fn key(name: &str) -> String {
    format!("/server/access_server_gateway/{name}")
}

/// The right to keep one record listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The record's key.
    pub key: String,
    /// Tells this lease from others under its key: each registration gives out a new one.
    pub id: u64,
}

/// The registry gave no answer. Nobody knows whether it has done what it was asked to, and the leases in it run on.
#[derive(Debug, thiserror::Error)]
#[error("the registry can't be reached: {0}")]
pub struct Unreachable(#[source] Box<dyn Error + Send + Sync>);

impl Unreachable {
    /// Creates the error from its cause.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Unreachable(cause.into())
    }
}

/// Why a lease was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The lease has run out, was revoked, or its key was registered again. Its holder has to register anew.
    #[error("the lease is no longer held")]
    LeaseLost,
    /// The lease may still be held. Its holder should try to renew it again.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

/// Records under leases. A record is listed until its lease is revoked or runs out.
#[async_trait]
pub trait Registry: Send + Sync + fmt::Debug {
    /// Lists a record for `ttl`, in place of an older record under the same key.
    ///
    /// # Errors
    ///
    /// [`Unreachable`]. The record may be listed nonetheless; another registration replaces it.
    async fn register(&self, record: Record, ttl: Duration) -> Result<Lease, Unreachable>;

    /// Replaces the record of a lease, and lists it for `ttl` from now.
    ///
    /// # Errors
    ///
    /// [`RenewError::LeaseLost`], when the lease is not held any more: the list is unchanged.
    /// [`RenewError::Unreachable`], when nothing is known about the lease.
    async fn renew(&self, lease: &Lease, record: Record, ttl: Duration) -> Result<(), RenewError>;

    /// Takes the record of a lease off the list. A lease that is lost already is no error.
    ///
    /// # Errors
    ///
    /// [`Unreachable`]. The record then stays listed until its lease runs out.
    async fn revoke(&self, lease: &Lease) -> Result<(), Unreachable>;

    /// Returns the records whose leases are held, in the order of their keys.
    ///
    /// # Errors
    ///
    /// [`Unreachable`]. A caller that has an older list should go on with it.
    async fn list(&self) -> Result<Vec<Record>, Unreachable>;
}

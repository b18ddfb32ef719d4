//! The errors of a start.

use std::io;
use std::net::SocketAddr;

use crate::access::AddError;
use crate::config::ConfigError;
use crate::lab::FaultError;
use crate::listener::TooFewFiles;
use crate::service::FixtureError;
#[cfg(feature = "durable")]
use crate::store::OpenError;
use crate::store::StoreError;

/// Why an `imd` did not start. Its text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config says something that can't be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port is taken.
    #[error("{key}: {addr} is in use: stop what listens there, change the key, or give --any-port")]
    PortInUse {
        /// The key of the listener.
        key: String,
        /// Where it should have listened.
        addr: SocketAddr,
    },
    /// A listener could not be bound for another reason.
    #[error("{key}: can't listen on {addr}: {source}")]
    Bind {
        /// The key of the listener.
        key: String,
        /// Where it should have listened.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// There is no access server more.
    #[error(transparent)]
    Access(#[from] AddError),
    /// The open-file limit leaves too few connections to serve anybody.
    #[error(transparent)]
    TooFewFiles(#[from] TooFewFiles),
    /// A listener was lost right after it was bound, or no thread could be had.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    /// A fault of the config can't be.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A user or a group of the config can't be there.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// The store's folder can't be used.
    #[cfg(feature = "durable")]
    #[error("store.path: {0}")]
    Folder(#[from] OpenError),
    /// The store does not answer.
    #[error("the store does not answer: {0}")]
    Store(#[from] StoreError),
}

impl StartError {
    pub(super) fn bind(key: &str, addr: SocketAddr, source: io::Error) -> Self {
        let key = key.to_owned();
        if source.kind() == io::ErrorKind::AddrInUse {
            StartError::PortInUse { key, addr }
        } else {
            StartError::Bind { key, addr, source }
        }
    }
}

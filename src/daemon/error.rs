//! The reasons why a stack did not start, and why a running one got no further access server.
//!
//! Serves [`Imd::start`](super::Imd::start) and [`Imd::add_access`](super::Imd::add_access). The program prints the texts as
//! they are, so each names the config key that is concerned, if one is, and says what to do.

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
    /// The config has an invalid value, or asks for a feature that this build lacks.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another program listens on the address of a listener.
    #[error("{key}: {addr} is in use: stop what listens there, change the key, or give --any-port")]
    PortInUse {
        /// The config key of the listener, such as `gateway.listen`.
        key: String,
        /// The address of that key.
        addr: SocketAddr,
    },
    /// A listener could not be bound for another reason.
    #[error("{key}: can't listen on {addr}: {source}")]
    Bind {
        /// The config key of the listener, such as `gateway.listen`.
        key: String,
        /// The address of that key.
        addr: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// No access server was added to a running stack.
    #[error(transparent)]
    Access(#[from] AddError),
    /// The open-file limit leaves too few connections to serve anybody.
    #[error(transparent)]
    TooFewFiles(#[from] TooFewFiles),
    /// The address of a bound listener could not be read, or the thread that opens the store's folder has failed.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    /// A `[[fault]]` of the config is not valid, or has a name that is taken.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A user or a group of the config could not be created in the store.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// The certificate of `[tls]` can't be used.
    #[error("{key}: {why}")]
    Tls {
        /// The config key of the file or the CA that is wrong, such as `tls.cert`.
        key: &'static str,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The folder of the store could not be opened.
    #[cfg(feature = "durable")]
    #[error("store.path: {0}")]
    Folder(#[from] OpenError),
    /// The store could not read its signing key, or how far its ids have come.
    #[error("the store does not answer: {0}")]
    Store(#[from] StoreError),
}

impl StartError {
    /// Creates the error of a listener that could not be bound. `key` is the config key of its address.
    pub(super) fn bind(key: &str, addr: SocketAddr, source: io::Error) -> Self {
        let key = key.to_owned();
        if source.kind() == io::ErrorKind::AddrInUse {
            StartError::PortInUse { key, addr }
        } else {
            StartError::Bind { key, addr, source }
        }
    }
}

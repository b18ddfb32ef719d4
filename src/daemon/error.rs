use std::io;
use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::store::StoreFailed;

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
    /// A listener was lost right after it was bound.
    #[error("a listener has failed: {0}")]
    Listener(#[from] io::Error),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreFailed),
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

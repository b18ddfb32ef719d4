use std::io;
use std::net::SocketAddr;

/// Why an access server does not serve again.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// Its address can't be had any more.
    #[error("{name}: can't listen on {addr} again: {source}")]
    Bind {
        /// Its name.
        name: String,
        /// Where it has listened before.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The stack that it belongs to has been shut down.
    #[error("{name}: its stack has been shut down")]
    Ended {
        /// Its name.
        name: String,
    },
}

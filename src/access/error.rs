//! The errors of starting, stopping and adding access servers.
//!
//! Serves `lifecycle` and `servers`, which return the errors, and the admin API, which shows them to the user. An operation
//! that returns one of them has changed nothing, except that a failed restart leaves the server stopped.

use std::io;
use std::net::SocketAddr;

use super::ServerState;
use crate::config::ConfigError;

/// The error of an operation that the state of an access server does not allow. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("access server {name} is {}: {what} needs one that is {needs}", .state.name())]
pub struct WrongState {
    /// The server's name in the registry.
    pub name: String,
    /// The state in which the server was.
    pub state: ServerState,
    /// The operation that was refused, as a verb such as `stop`.
    pub what: &'static str,
    /// The states that allow the operation, in words such as `running or paused`.
    pub needs: &'static str,
}

/// Why an access server was not restarted. The server does not run.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// Another process has begun to listen on the server's address, or the system refuses the address. The restart can
    /// be tried again.
    #[error("{name}: can't listen on {addr} again: {source}")]
    Bind {
        /// The server's name in the registry.
        name: String,
        /// The address that the server listened on before.
        addr: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The stack of the server has been shut down, so none of its servers can start again.
    #[error("{name}: its stack has been shut down")]
    Ended {
        /// The server's name in the registry.
        name: String,
    },
}

/// Why no access server was added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The stack runs without the role `access`, so it has no store that a server could use.
    #[error("roles: this imd has no access servers: add the role \"access\"")]
    NoRole,
    /// Another access server has the name already, whatever its state.
    #[error("there is an access server {name} already: give another name")]
    NameTaken {
        /// The name that was requested.
        name: String,
    },
    /// The name is not valid. The error says which characters are: see also `access.name` in imd.toml.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system has no free port, or does not let the server listen on it.
    #[error("no port can be had: {0}")]
    System(#[from] io::Error),
}

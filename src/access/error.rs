//! The errors of starting, stopping and adding access servers.

use std::io;
use std::net::SocketAddr;

use super::State;
use crate::config::ConfigError;

/// The state of an access server does not allow what was asked of it. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("access server {name} is {}: {what} needs one that is {needs}", .state.name())]
pub struct WrongState {
    /// The server's name in the registry.
    pub name: String,
    /// The state that it is in.
    pub state: State,
    /// What was asked of it, as a verb: `stop`.
    pub what: &'static str,
    /// The states that allow it, in words: `running or paused`.
    pub needs: &'static str,
}

/// Why an access server was not restarted. It does not run.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// Another process listens at its address by now, or the system refuses the address.
    #[error("{name}: can't listen on {addr} again: {source}")]
    Bind {
        /// The server's name in the registry.
        name: String,
        /// The address that it listened at before.
        addr: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The stack that it belongs to has been shut down.
    #[error("{name}: its stack has been shut down")]
    Ended {
        /// The server's name in the registry.
        name: String,
    },
}

/// Why no access server was added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The `imd` runs without the role `access`.
    #[error("roles: this imd has no access servers: add the role \"access\"")]
    NoRole,
    /// Another access server has the name, whatever its state.
    #[error("there is an access server {name} already: give another name")]
    NameTaken {
        /// The name that was asked for.
        name: String,
    },
    /// The name is not valid: see `access.name` in imd.toml.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system has no free port, or refuses it.
    #[error("no port can be had: {0}")]
    System(#[from] io::Error),
}

use std::io;
use std::net::SocketAddr;

use super::State;
use crate::config::ConfigError;

/// Why something was not done to an access server: it is in no state for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("access server {name} is {}: {what} needs one that is {needs}", .state.name())]
pub struct WrongState {
    /// Its name.
    pub name: String,
    /// What it does at the moment.
    pub state: State,
    /// What was to be done.
    pub what: &'static str,
    /// The states in which it could be done.
    pub needs: &'static str,
}

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

/// Why no access server was added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The `imd` runs without the role `access`.
    #[error("roles: this imd has no access servers: add the role \"access\"")]
    NoRole,
    /// There is one of that name, whatever its state.
    #[error("there is an access server {name} already: give another name")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// That can't be a name.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No port can be had.
    #[error("no port can be had: {0}")]
    System(#[from] io::Error),
}

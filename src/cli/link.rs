//! Opens logged-in connections: asks the gateway, connects to the access server that it names, and logs in.
//!
//! Serves the commands that act as a user, and `imd replay`, which uses the errors.

use imd::Client;
use imd::client::ClientError;
use imd::id::Uid;
use imd::proto::Code;

use super::failure::Failure;
use super::refusal;
use super::trust::connector;

/// The flags that set the address of the gateway, for errors.
pub const FLAGS: &str = "--gateway HOST:PORT, --addr-file FILE or --config FILE";

/// A user, the token to log in with, and the gateway to ask. It has no `Debug`, because it holds the token.
pub struct Account {
    uid: Uid,
    token: String,
    gateway: String,
}

/// A login that failed. Its text names the step and the error; converted to a [`Failure`], it also says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {error}")]
pub struct LinkError {
    /// The step that failed, with its address or user.
    step: String,
    error: String,
    /// The error with advice on what to do about it.
    advice: String,
    /// Set when another attempt would fail in the same way.
    is_final: bool,
}

impl LinkError {
    /// Creates the error for a gateway that gave out no address. `flags` names the flags that set another one.
    pub async fn at_gateway(addr: &str, flags: &str, error: &ClientError) -> LinkError {
        LinkError {
            step: format!("gateway {addr}"),
            error: error.to_string(),
            advice: refusal::at_gateway(addr, flags, error).await,
            is_final: false,
        }
    }

    /// Creates the error for an access server that can't be reached, or that is another kind of server.
    pub async fn at_access(addr: &str, error: &ClientError) -> LinkError {
        LinkError {
            step: format!("access server {addr}"),
            error: error.to_string(),
            advice: refusal::at_access(addr, error).await,
            is_final: false,
        }
    }

    /// Creates the error for a login that failed. Only a refusal is about the login: any other error is about the
    /// server.
    async fn at_login(uid: Uid, addr: &str, error: &ClientError) -> LinkError {
        if !matches!(error, ClientError::Refused { .. }) {
            return LinkError::at_access(addr, error).await;
        }
        LinkError {
            step: format!("login of {uid}"),
            error: error.to_string(),
            advice: refusal::explain(error),
            is_final: error.code() != Some(Code::ServerError.number()),
        }
    }

    /// Returns the step, the error, and advice on what to do.
    pub fn advise(&self) -> String {
        format!("{}: {}", self.step, self.advice)
    }

    /// Returns whether another attempt would fail in the same way.
    pub fn is_final(&self) -> bool {
        self.is_final
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Failure::Failed(error.advise())
    }
}

impl Account {
    /// Creates the account of a user at a gateway.
    pub fn new(uid: Uid, token: String, gateway: String) -> Self {
        Account {
            uid,
            token,
            gateway,
        }
    }

    /// Returns the user who logs in.
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// Asks the gateway for an access server, connects to it, and logs in.
    ///
    /// # Errors
    ///
    /// [`LinkError`] names the step that failed and why. Unless it is final, the caller may try again.
    pub async fn log_in(&self) -> Result<Client, LinkError> {
        let gateway = self.gateway.as_str();
        let addr = match connector().ask_gateway(gateway).await {
            Ok(addr) => addr,
            Err(error) => return Err(LinkError::at_gateway(gateway, FLAGS, &error).await),
        };
        let mut client = match connector().connect_to(addr.as_str()).await {
            Ok(client) => client,
            Err(error) => return Err(LinkError::at_access(&addr, &error).await),
        };
        match client.login(self.uid, &self.token).await {
            Ok(()) => Ok(client),
            Err(error) => Err(LinkError::at_login(self.uid, &addr, &error).await),
        }
    }
}

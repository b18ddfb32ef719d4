//! A logged-in connection: gateway, access server, login.

use imd::Client;
use imd::client::{ClientError, ask_gateway};
use imd::id::Uid;
use imd::proto::Code;

use super::failure::Failure;
use super::refusal;

/// How to say where the gateway is.
pub const FLAGS: &str = "--gateway HOST:PORT, --addr-file FILE or --config FILE";

/// Who logs in, and where. No `Debug`: it holds the token.
pub struct Account {
    uid: Uid,
    token: String,
    gateway: String,
}

/// A login that failed: at which step. As a [`Failure`] it also says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {error}")]
pub struct LinkError {
    step: String,
    error: String,
    /// The error, and what to do about it.
    advice: String,
    is_final: bool,
}

impl LinkError {
    /// The gateway gave no address. `flags` say how to give another one.
    pub async fn at_gateway(addr: &str, flags: &str, error: &ClientError) -> LinkError {
        LinkError {
            step: format!("gateway {addr}"),
            error: error.to_string(),
            advice: refusal::at_gateway(addr, flags, error).await,
            is_final: false,
        }
    }

    /// The access server can't be reached, or is none.
    pub async fn at_access(addr: &str, error: &ClientError) -> LinkError {
        LinkError {
            step: format!("access server {addr}"),
            error: error.to_string(),
            advice: refusal::at_access(addr, error).await,
            is_final: false,
        }
    }

    /// The login itself.
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

    /// What went wrong, and what to do about it.
    pub fn advise(&self) -> String {
        format!("{}: {}", self.step, self.advice)
    }

    /// Whether another try would fail in the same way.
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
    /// The account of a user at a gateway.
    pub fn new(uid: Uid, token: String, gateway: String) -> Self {
        Account {
            uid,
            token,
            gateway,
        }
    }

    /// Whose it is.
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// Asks the gateway, connects and logs in.
    ///
    /// # Errors
    ///
    /// At which step it failed, and why.
    pub async fn log_in(&self) -> Result<Client, LinkError> {
        let gateway = self.gateway.as_str();
        let addr = match ask_gateway(gateway).await {
            Ok(addr) => addr,
            Err(error) => return Err(LinkError::at_gateway(gateway, FLAGS, &error).await),
        };
        let mut client = match Client::connect_to(addr.as_str()).await {
            Ok(client) => client,
            Err(error) => return Err(LinkError::at_access(&addr, &error).await),
        };
        match client.login(self.uid, &self.token).await {
            Ok(()) => Ok(client),
            Err(error) => Err(LinkError::at_login(self.uid, &addr, &error).await),
        }
    }
}

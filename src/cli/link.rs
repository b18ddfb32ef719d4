//! A logged-in connection: gateway, access server, login.

use imd::Client;
use imd::client::{ClientError, ask_gateway};
use imd::proto::Code;

use super::failure::Failure;
use super::refusal;

/// Who logs in, and where. No `Debug`: it holds the token.
pub struct Account {
    uid: i64,
    token: String,
    gateway: String,
}

/// At which step a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The gateway gave no address.
    #[error("gateway {addr}: {source}")]
    Gateway {
        /// Its address.
        addr: String,
        /// Why.
        source: ClientError,
    },
    /// The access server can't be reached.
    #[error("access server {addr}: {source}")]
    Access {
        /// Its address.
        addr: String,
        /// Why.
        source: ClientError,
    },
    /// The login failed.
    #[error("login of {uid}: {source}")]
    Login {
        /// Who.
        uid: i64,
        /// Why.
        source: ClientError,
    },
}

impl LinkError {
    /// Whether another try would fail in the same way.
    pub fn is_final(&self) -> bool {
        match self {
            LinkError::Login { source, .. } => source
                .code()
                .is_some_and(|code| code != Code::ServerError.number()),
            LinkError::Gateway { .. } | LinkError::Access { .. } => false,
        }
    }
}

/// With what to do about it.
impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        let (step, source) = match error {
            LinkError::Gateway { addr, source } => (format!("gateway {addr}"), source),
            LinkError::Access { addr, source } => (format!("access server {addr}"), source),
            LinkError::Login { uid, source } => (format!("login of {uid}"), source),
        };
        Failure::Failed(format!("{step}: {}", refusal::explain(&source)))
    }
}

impl Account {
    /// The account of a user at a gateway.
    pub fn new(uid: i64, token: String, gateway: String) -> Self {
        Account {
            uid,
            token,
            gateway,
        }
    }

    /// Whose it is.
    pub fn uid(&self) -> i64 {
        self.uid
    }

    /// Asks the gateway, connects and logs in.
    ///
    /// # Errors
    ///
    /// At which step it failed, and why.
    pub async fn log_in(&self) -> Result<Client, LinkError> {
        let gateway = self.gateway.as_str();
        let addr = ask_gateway(gateway)
            .await
            .map_err(|source| LinkError::Gateway {
                addr: gateway.to_owned(),
                source,
            })?;
        let mut client = match Client::connect_to(addr.as_str()).await {
            Ok(client) => client,
            Err(source) => return Err(LinkError::Access { addr, source }),
        };
        let uid = self.uid;
        client
            .login(uid, &self.token)
            .await
            .map_err(|source| LinkError::Login { uid, source })?;
        Ok(client)
    }
}

//! Finds the stack that a client command talks to. A flag for one address comes first, then the addresses file, then
//! the config, then the environment, and last the defaults.
//!
//! Serves every command that is a client, except those of the admin API.

use imd::id::Uid;
use imd::service::salted_token;

use super::failure::Failure;
use super::link::Account;
use super::{LoginArgs, TargetArgs, addr_file, endpoint, environment, settings};

/// The addresses of a stack, and the salt of its tokens.
pub struct StackAddresses {
    gateway: String,
    user_api: String,
    group_api: String,
    salt: String,
}

impl StackAddresses {
    /// Finds the stack that the flags and the environment name.
    ///
    /// # Errors
    ///
    /// When the addresses file or the config can't be read.
    pub fn find(args: &TargetArgs) -> Result<StackAddresses, Failure> {
        let config = settings::load(args.config.as_deref())?;
        // A config that was named on the command line takes precedence over the environment.
        let from_env = |name| environment::read(name).filter(|_| args.config.is_none());
        let url = |addr| settings::api_url(&config, addr);
        let (gateway, user_api, group_api) = match &args.addr_file {
            Some(file) => {
                let addresses = addr_file::read(file)?;
                (addresses.gateway, addresses.user_api, addresses.group_api)
            }
            None => (
                from_env(environment::GATEWAY).unwrap_or_else(|| settings::gateway_url(&config)),
                from_env(environment::USER_API).unwrap_or_else(|| url(config.http.user_listen)),
                from_env(environment::GROUP_API).unwrap_or_else(|| url(config.http.group_listen)),
            ),
        };
        Ok(StackAddresses {
            gateway: args.gateway.clone().unwrap_or(gateway),
            user_api: args.user_api.clone().unwrap_or(user_api),
            group_api: args.group_api.clone().unwrap_or(group_api),
            salt: settings::salt(args.config.as_deref())?,
        })
    }

    /// Returns the token of a user, computed from the salt.
    pub fn token(&self, uid: Uid) -> String {
        salted_token(uid, &self.salt)
    }

    /// Returns where a client finds the gateway: host:port, or the URL of its WebSocket.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the port is 0, or the address is neither.
    pub fn gateway(&self) -> Result<&str, Failure> {
        self.checked_gateway(endpoint::gateway)
    }

    /// Returns the host:port of the gateway, for commands that look at the bytes of frames.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the port is 0, or the address is not a host:port.
    pub fn frames_gateway(&self) -> Result<&str, Failure> {
        self.checked_gateway(endpoint::host_and_port)
    }

    fn checked_gateway(
        &self,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<&str, Failure> {
        let addr = check_port(&self.gateway, "gateway")?;
        let source = environment::source(environment::GATEWAY, "--gateway", addr);
        let wrong = |why| Failure::Usage(format!("{source} {addr}: {why}"));
        check(addr).map_err(wrong)?;
        Ok(addr)
    }

    /// Returns the URL of the user API.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the port is 0, which means that the daemon chose a free one.
    pub fn user_api(&self) -> Result<&str, Failure> {
        check_port(&self.user_api, "user-api")
    }

    /// Returns the URL of the group API.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the port is 0, which means that the daemon chose a free one.
    pub fn group_api(&self) -> Result<&str, Failure> {
        check_port(&self.group_api, "group-api")
    }
}

/// Returns the address, unless it has port 0, which can't be dialled.
///
/// # Errors
///
/// [`Failure::Usage`], which names the flag `--flag` that gives another address.
fn check_port<'a>(addr: &'a str, flag: &str) -> Result<&'a str, Failure> {
    if addr.ends_with(":0") {
        return Err(Failure::Usage(format!(
            "{addr}: port 0 in the config is any free port: take the real one from the daemon's --addr-file, or give \
             --{flag}"
        )));
    }
    Ok(addr)
}

/// Returns the account of a user on the stack that the flags name. A token that was given takes precedence over a
/// computed one.
///
/// # Errors
///
/// The errors of [`StackAddresses::find`] and [`StackAddresses::gateway`].
pub fn account(uid: Uid, args: &LoginArgs) -> Result<Account, Failure> {
    let stack = StackAddresses::find(&args.target)?;
    let token = match &args.token {
        Some(token) => token.clone(),
        None => stack.token(uid),
    };
    Ok(Account::new(uid, token, stack.gateway()?.to_owned()))
}

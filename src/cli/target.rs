//! Where the stack is: a flag of its own, else the addresses file, else the config, else the environment, else the
//! defaults.

use imd::daemon::dialable;
use imd::id::Uid;
use imd::service::salted_token;

use super::failure::Failure;
use super::link::Account;
use super::{LoginArgs, TargetArgs, addr_file, endpoint, environment, settings};

/// Where a stack is, and what its tokens are made with.
pub struct Target {
    gateway: String,
    user_api: String,
    group_api: String,
    salt: String,
}

impl Target {
    /// Finds it.
    ///
    /// # Errors
    ///
    /// When a file can't be read.
    pub fn find(args: &TargetArgs) -> Result<Target, Failure> {
        let config = settings::load(args.config.as_deref())?;
        // A file that was named says where that stack is, whatever the environment says.
        let from_env = |name| environment::read(name).filter(|_| args.config.is_none());
        let url = |addr| format!("http://{}", dialable(addr));
        let (gateway, user_api, group_api) = match &args.addr_file {
            Some(file) => {
                let addresses = addr_file::read(file)?;
                (addresses.gateway, addresses.user_api, addresses.group_api)
            }
            None => (
                from_env(environment::GATEWAY)
                    .unwrap_or_else(|| dialable(config.gateway.listen).to_string()),
                from_env(environment::USER_API).unwrap_or_else(|| url(config.http.user_listen)),
                from_env(environment::GROUP_API).unwrap_or_else(|| url(config.http.group_listen)),
            ),
        };
        Ok(Target {
            gateway: args.gateway.clone().unwrap_or(gateway),
            user_api: args.user_api.clone().unwrap_or(user_api),
            group_api: args.group_api.clone().unwrap_or(group_api),
            salt: settings::salt(args.config.as_deref())?,
        })
    }

    /// The token that the salt gives to a user.
    pub fn token(&self, uid: Uid) -> String {
        salted_token(uid, &self.salt)
    }

    /// The gateway's host:port.
    ///
    /// # Errors
    ///
    /// When the config leaves the port open, or it is no host:port.
    pub fn gateway(&self) -> Result<&str, Failure> {
        let addr = known(&self.gateway, "gateway")?;
        let source = environment::source(environment::GATEWAY, "--gateway", addr);
        let wrong = |why| Failure::Usage(format!("{source} {addr}: {why}"));
        endpoint::host_and_port(addr).map_err(wrong)?;
        Ok(addr)
    }

    /// The user API's URL.
    ///
    /// # Errors
    ///
    /// When the config leaves the port open.
    pub fn user_api(&self) -> Result<&str, Failure> {
        known(&self.user_api, "user-api")
    }

    /// The group API's URL.
    ///
    /// # Errors
    ///
    /// When the config leaves the port open.
    pub fn group_api(&self) -> Result<&str, Failure> {
        known(&self.group_api, "group-api")
    }
}

fn known<'a>(addr: &'a str, flag: &str) -> Result<&'a str, Failure> {
    if addr.ends_with(":0") {
        return Err(Failure::Usage(format!(
            "{addr}: port 0 in the config is any free port: take the real one from the daemon's --addr-file, or give \
             --{flag}"
        )));
    }
    Ok(addr)
}

/// A user's account on the stack that the flags say.
///
/// # Errors
///
/// As [`Target::find`] and [`Target::gateway`].
pub fn account(uid: Uid, args: &LoginArgs) -> Result<Account, Failure> {
    let target = Target::find(&args.target)?;
    let token = match &args.token {
        Some(token) => token.clone(),
        None => target.token(uid),
    };
    Ok(Account::new(uid, token, target.gateway()?.to_owned()))
}

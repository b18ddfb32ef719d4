//! Names and reads the environment variables of the program.
//!
//! Serves every command. Those that are a client of a stack use the variables that `imd exec` sets for its command, below
//! their flags and files. A variable that is empty counts as unset.

use imd::config::Variables;

use super::Cli;
use super::failure::Failure;

/// Variable for the config file, as `--config` names it.
pub const CONFIG: &str = "IMD_CONFIG";

/// Variable for the host:port of the gateway.
pub const GATEWAY: &str = "IMD_GATEWAY";
/// Variable for the URL of the user API.
pub const USER_API: &str = "IMD_USER_API";
/// Variable for the URL of the group API.
pub const GROUP_API: &str = "IMD_GROUP_API";
/// Variable for the URL of the admin API.
pub const ADMIN: &str = "IMD_ADMIN";
/// Variable for the salt that the stack computes its tokens with.
pub const SALT: &str = "IMD_SALT";

/// Variable for the file with further issuers of certificates to trust.
pub const CA: &str = "IMD_CA";

/// The variables that are neither keys of the config nor flags of the daemon.
const OF_CLIENTS: [&str; 6] = [GATEWAY, USER_API, GROUP_API, ADMIN, SALT, CA];

/// Reads the variables that set keys of the config.
///
/// # Errors
///
/// [`Failure::Config`] when the name of a variable of `imd` is not known, or its value can't be read.
pub fn variables() -> Result<Variables, Failure> {
    let of_clients = OF_CLIENTS.iter().map(|&name| name.to_owned());
    let others: Vec<String> = of_clients.chain(Cli::flag_variables()).collect();
    Ok(Variables::read(std::env::vars_os(), &others)?)
}

/// Returns what has set an address, for errors: the variable if it holds that address, and the flag otherwise.
pub fn source(variable: &'static str, flag: &'static str, addr: &str) -> &'static str {
    match read(variable).is_some_and(|value| value == addr) {
        true => variable,
        false => flag,
    }
}

/// Returns the value of a variable, or `None` when it is unset or empty.
pub fn read(name: &str) -> Option<String> {
    // Invalid UTF-8 is replaced instead of ignored, so that the error that follows shows the value.
    let value = std::env::var_os(name)?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

//! Names and reads the environment variables that `imd exec` sets for its command.
//!
//! Every command that is a client of the stack uses them, below its flags and files.

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

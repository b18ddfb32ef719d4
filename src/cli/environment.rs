//! The variables that `imd exec` sets for its command, and that every client command honours below its flags.

/// The gateway's host:port.
pub const GATEWAY: &str = "IMD_GATEWAY";
/// The user API's URL.
pub const USER_API: &str = "IMD_USER_API";
/// The group API's URL.
pub const GROUP_API: &str = "IMD_GROUP_API";
/// The admin API's URL.
pub const ADMIN: &str = "IMD_ADMIN";
/// The salt of the stack's tokens.
pub const SALT: &str = "IMD_SALT";

/// What has set an address: the variable, where it holds that address, else the flag.
pub fn source(variable: &'static str, flag: &'static str, addr: &str) -> &'static str {
    match read(variable).is_some_and(|value| value == addr) {
        true => variable,
        false => flag,
    }
}

/// The value of a variable. A variable that is set to nothing counts as not set.
pub fn read(name: &str) -> Option<String> {
    // A value that is not UTF-8 is shown in the error that it leads to.
    let value = std::env::var_os(name)?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

//! Checks that this build has the cargo features that a config needs.
//!
//! Serves the validation of a config. Without this check, a build without the feature `durable` would keep in memory
//! what the config says is to be kept on disk.

use super::Config;
use super::error::Invalid;

/// Checks that this build has the cargo features for every part that the config asks for.
///
/// # Errors
///
/// The key that asks for a missing part, with a message that names the cargo feature and how to do without it.
pub(super) fn check(config: &Config) -> Result<(), Invalid> {
    if config.store.path.is_some() && !cfg!(feature = "durable") {
        return Err(missing(
            "store.path",
            "durable",
            "leave the key out to keep everything in memory",
        ));
    }
    if config.admin.enabled && !cfg!(feature = "admin") {
        return Err(missing(
            "admin.listen",
            "admin",
            "set admin.enabled = false, or leave [admin] out",
        ));
    }
    if config.tls.is_on() && !cfg!(feature = "tls") {
        let key = match config.tls.local_ca {
            true => "tls.local_ca",
            false => "tls.cert",
        };
        return Err(missing(key, "tls", "leave [tls] out"));
    }
    Ok(())
}

/// Creates the error of a key that needs a cargo feature. `alternative` says, as an order, how to do without the
/// feature.
fn missing(key: &str, feature: &str, alternative: &str) -> Invalid {
    Invalid {
        key: key.into(),
        message: format!(
            "this build of imd was made without the cargo feature {feature:?}: build it with the feature, or {alternative}"
        ),
        rival: None,
    }
}

//! Refuses a config that asks for a part which this build of the crate was made without. Such a config would otherwise be
//! served without its store or its admin API.

use super::Config;
use super::error::Invalid;

/// Checks that this build has every part that the config asks for.
///
/// # Errors
///
/// The key that asks for a part which is not there, and the cargo feature that brings the part.
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
    Ok(())
}

fn missing(key: &str, feature: &str, otherwise: &str) -> Invalid {
    Invalid {
        key: key.into(),
        message: format!(
            "this build of imd was made without the cargo feature {feature:?}: build it with the feature, or {otherwise}"
        ),
        rival: None,
    }
}

//! Builds the config that a command line asks for.
//!
//! Serves `main` and every command that takes `--config`. Flags take precedence over the file.

use std::path::Path;

use imd::config::{ConfigError, Host, ListenHost};
use imd::service::salted_token;
use imd::{Config, StartError};

use super::escape::escape_toml;
use super::failure::Failure;
use super::{ConfigArgs, DaemonArgs, TokenArgs, environment, output};

/// Loads the config from a file, or returns the defaults when no file was named.
///
/// # Errors
///
/// [`Failure::Config`] when the file can't be read or is invalid.
pub fn load(file: Option<&Path>) -> Result<Config, Failure> {
    Ok(match file {
        Some(file) => Config::from_file(file)?,
        None => Config::default(),
    })
}

/// Returns the config of the daemon: the file, with the flags applied on top.
///
/// # Errors
///
/// [`Failure::Config`] when the file is wrong, and [`Failure::Usage`] when a flag is, or when the flags make the
/// config invalid.
pub fn daemon(args: &DaemonArgs) -> Result<Config, Failure> {
    let mut config = load(args.config.as_deref())?;
    let mut flags = Vec::new();
    if let Some(count) = args.access {
        config.access.resize(count.into());
        flags.push(format!("--access {count}"));
    }
    if args.ws {
        config.with_websockets();
        flags.push("--ws".to_owned());
    }
    if let Some(host) = &args.host {
        let listen =
            ListenHost::parse(host).map_err(|bad| Failure::Usage(format!("--host: {bad}")))?;
        config.listen_on(listen);
        flags.push(format!("--host {host}"));
    }
    if args.any_port {
        config.any_port();
    }
    if let Some(host) = &args.advertise {
        check_host(host)?;
        for server in &mut config.access.0 {
            server.advertise = Some(host.clone());
        }
        // A text that is too long for a host is cut, so that the error stays readable.
        let shown: String = host.chars().take(60).collect();
        flags.push(format!("--advertise {shown}"));
    }
    if let Some(folder) = &args.store {
        config.store.path = Some(folder.clone());
        flags.push(format!("--store {}", folder.display()));
    }
    if args.memory {
        config.store.path = None;
    }
    if args.manual_clock {
        config = config.manual_clock();
    }
    // The file alone was valid, so a flag has made the config invalid.
    config
        .validate()
        .map_err(|error| Failure::Usage(format!("{error} (with {})", flags.join(" "))))?;
    Ok(config)
}

/// Returns the failure of a stack that did not start. A folder that can't be used is reported with the flag or the
/// line of the config that named it.
pub fn start_failure(flag: Option<&Path>, file: Option<&Path>, error: StartError) -> Failure {
    match (error, flag, file) {
        (StartError::Folder(error), Some(folder), _) => {
            Failure::Usage(format!("--store {}: {error}", folder.display()))
        }
        (StartError::Folder(error), None, Some(file)) => {
            ConfigError::unusable(file, "store.path", error).into()
        }
        (error, ..) => error.into(),
    }
}

/// Refuses an advertised host that has a port: the port would be right for only one of the access servers.
fn check_host(host: &str) -> Result<(), Failure> {
    let is_alone = Host::parse(host).is_ok_and(|host| host.port().is_none());
    // A text without a colon has no port. Whether it is a valid host is checked with the config.
    if is_alone || !host.contains(':') {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--advertise {host}: give a name or an IP address alone, without scheme and port; each access server adds its \
         own port. For host:port, set advertise in each [[access]] of the config"
    )))
}

/// Runs `imd check`: prints the effective config.
///
/// # Errors
///
/// The errors of [`load`], and a stdout that can't be written.
pub fn check(args: &ConfigArgs) -> Result<(), Failure> {
    let config = load(args.config.as_deref())?;
    let text = config
        .to_toml()
        .map_err(|error| Failure::Failed(format!("the config can't be written: {error}")))?;
    output::write(&escape_toml(&text))
}

/// Returns the salt of a stack's tokens: from the config if one was named, else from the environment, else the
/// default.
///
/// # Errors
///
/// The errors of [`load`].
pub fn salt(file: Option<&Path>) -> Result<String, Failure> {
    let from_env = environment::read(environment::SALT).filter(|_| file.is_none());
    match from_env {
        Some(salt) => Ok(salt),
        None => Ok(load(file)?.auth.salt),
    }
}

/// Runs `imd token`: prints the token of a user, computed from the salt.
///
/// # Errors
///
/// The errors of [`load`], and a stdout that can't be written.
pub fn token(args: &TokenArgs) -> Result<(), Failure> {
    let salt = salt(args.config.config.as_deref())?;
    output::line(&salted_token(args.uid, &salt))
}

//! The config as a command line asks for it.

use std::path::Path;

use imd::config::{ConfigError, Host};
use imd::service::salted_token;
use imd::{Config, StartError};

use super::escape::escape_toml;
use super::failure::Failure;
use super::{ConfigArgs, DaemonArgs, TokenArgs, environment, output};

/// The file, or the defaults.
///
/// # Errors
///
/// What is wrong with the file.
pub fn load(file: Option<&Path>) -> Result<Config, Failure> {
    Ok(match file {
        Some(file) => Config::from_file(file)?,
        None => Config::default(),
    })
}

/// The daemon's config: the file, and the flags on top of it.
///
/// # Errors
///
/// What is wrong with the file, or with a flag.
pub fn daemon(args: &DaemonArgs) -> Result<Config, Failure> {
    let mut config = load(args.config.as_deref())?;
    let mut flags = Vec::new();
    if let Some(count) = args.access {
        config.access.resize(count.into());
        flags.push(format!("--access {count}"));
    }
    if args.any_port {
        config.any_port();
    }
    if let Some(host) = &args.advertise {
        check_host(host)?;
        for server in &mut config.access.0 {
            server.advertise = Some(host.clone());
        }
        // What is too long to be a host is too long to be read.
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
    // The file was good, so a flag is at fault.
    config
        .validate()
        .map_err(|error| Failure::Usage(format!("{error} (with {})", flags.join(" "))))?;
    Ok(config)
}

/// Why a stack did not start, with the place where its folder was asked for: a flag, or a line of the config.
pub fn blame(flag: Option<&Path>, file: Option<&Path>, error: StartError) -> Failure {
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

/// One port for several access servers would be wrong for all but one.
fn check_host(host: &str) -> Result<(), Failure> {
    let is_alone = Host::parse(host).is_ok_and(|host| host.port().is_none());
    // What has no colon has no port; whether it is a host is the config's to say.
    if is_alone || !host.contains(':') {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--advertise {host}: give a name or an IP address alone, without scheme and port; each access server adds its \
         own port. For host:port, set advertise in each [[access]] of the config"
    )))
}

/// Prints the effective config.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(args: &ConfigArgs) -> Result<(), Failure> {
    let config = load(args.config.as_deref())?;
    let text = config
        .to_toml()
        .map_err(|error| Failure::Failed(format!("the config can't be written: {error}")))?;
    output::write(&escape_toml(&text))
}

/// The salt of a stack's tokens: the config's when one is named, else the environment's, else the default.
///
/// # Errors
///
/// What is wrong with the file.
pub fn salt(file: Option<&Path>) -> Result<String, Failure> {
    let from_env = environment::read(environment::SALT).filter(|_| file.is_none());
    match from_env {
        Some(salt) => Ok(salt),
        None => Ok(load(file)?.auth.salt),
    }
}

/// Prints the token that the salt gives to a user.
///
/// # Errors
///
/// What is wrong with the config.
pub fn token(args: &TokenArgs) -> Result<(), Failure> {
    let salt = salt(args.config.config.as_deref())?;
    output::line(&salted_token(args.uid, &salt))
}

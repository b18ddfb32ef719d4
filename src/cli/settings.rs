//! Builds the config that a command line and its environment ask for.
//!
//! Serves `main` and every command that takes `--config`. Flags take precedence over environment variables, and variables
//! over the file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use imd::config::{ConfigError, Host, ListenHost, Provenance, Sources};
use imd::daemon::dialable;
use imd::service::salted_token;
use imd::{Config, StartError};

use super::escape::escape_toml;
use super::failure::Failure;
use super::{DaemonArgs, TokenArgs, environment, output};

/// Loads the config of a command that is not the daemon: from a file and from the environment.
///
/// # Errors
///
/// The errors of [`sources`], and [`Failure::Config`] when the config is invalid.
pub fn load(file: Option<&Path>) -> Result<Config, Failure> {
    Ok(sources(file)?.config()?)
}

/// Returns the config file that a command uses: the one of its flag, or the one that the environment names.
pub fn file(flag: Option<&Path>) -> Option<PathBuf> {
    let flag = flag.map(Path::to_owned);
    flag.or_else(|| environment::read(environment::CONFIG).map(PathBuf::from))
}

/// Reads the sources of the config: the file of the flag or of the environment, if there is one, and the variables.
///
/// # Errors
///
/// [`Failure::Config`] when the file can't be read or a variable is wrong.
fn sources(flag: Option<&Path>) -> Result<Sources, Failure> {
    let file = file(flag);
    let read = Sources::read(file.as_deref(), environment::variables()?);
    read.map_err(|error| match (&error, &file) {
        (ConfigError::Unreadable { .. } | ConfigError::TooLong { .. }, Some(file)) => {
            let file = file.display().to_string();
            match environment::source(environment::CONFIG, "", &file) {
                "" => error.into(),
                variable => Failure::Usage(format!("{variable}: {error}")),
            }
        }
        _ => error.into(),
    })
}

/// The config of the daemon, and its sources, for the errors of a start.
pub struct Settings {
    pub config: Config,
    pub sources: Sources,
}

/// A flag of the daemon that changes the config.
struct Flag {
    /// What has set it: the flag, or its variable.
    source: String,
    /// Its value, if it takes one.
    value: Option<String>,
    change: Box<dyn Fn(&mut Config)>,
}

impl Flag {
    fn new(source: String, value: Option<String>, change: impl Fn(&mut Config) + 'static) -> Flag {
        let change = Box::new(change);
        Flag {
            source,
            value,
            change,
        }
    }

    /// Returns the flag as it is written on the command line, or the variable as it is set.
    fn written(&self) -> String {
        match &self.value {
            Some(value) if self.is_variable() => format!("{}={value}", self.source),
            Some(value) => format!("{} {value}", self.source),
            None => self.source.clone(),
        }
    }

    fn is_variable(&self) -> bool {
        !self.source.starts_with('-')
    }

    fn origin(&self) -> Provenance {
        match self.is_variable() {
            true => Provenance::Variable(self.source.clone()),
            false => Provenance::Flag(self.source.clone()),
        }
    }
}

/// Returns the flags that change the config, in the order in which they do.
///
/// # Errors
///
/// [`Failure::Usage`] when the value of a flag is wrong by itself.
fn flags(args: &DaemonArgs) -> Result<Vec<Flag>, Failure> {
    let mut flags = Vec::new();
    if let Some(count) = args.access {
        let value = Some(count.to_string());
        flags.push(Flag::new(args.source("access"), value, move |config| {
            config.access.resize(count.into());
        }));
    }
    if args.ws {
        flags.push(Flag::new(args.source("ws"), None, Config::with_websockets));
    }
    if let Some(host) = args.host.clone() {
        let source = args.source("host");
        let listen = ListenHost::parse(&host);
        let listen = listen.map_err(|bad| Failure::Usage(format!("{source}: {bad}")))?;
        flags.push(Flag::new(source, Some(host), move |config| {
            config.listen_on(listen);
        }));
    }
    if args.any_port {
        flags.push(Flag::new(args.source("any_port"), None, Config::any_port));
    }
    if let Some(host) = args.advertise.clone() {
        let source = args.source("advertise");
        check_host(&source, &host)?;
        // A text that is too long for a host is cut, so that the error stays readable.
        let shown = host.chars().take(60).collect();
        flags.push(Flag::new(source, Some(shown), move |config| {
            for server in &mut config.access.0 {
                server.advertise = Some(host.clone());
            }
        }));
    }
    if let Some(folder) = args.store.clone() {
        let shown = folder.display().to_string();
        let source = args.source("store");
        flags.push(Flag::new(source, Some(shown), move |config| {
            config.store.path = Some(folder.clone());
        }));
    }
    if args.memory {
        flags.push(Flag::new(args.source("memory"), None, |config| {
            config.store.path = None;
        }));
    }
    if args.manual_clock {
        flags.push(Flag::new(args.source("manual_clock"), None, |config| {
            *config = std::mem::take(config).manual_clock();
        }));
    }
    Ok(flags)
}

/// Returns the config of the daemon: the file, the variables, and the flags applied on top.
///
/// # Errors
///
/// [`Failure::Config`] when the file or a variable is wrong, and [`Failure::Usage`] when a flag is, or when the flags make
/// the config invalid.
pub fn daemon(args: &DaemonArgs) -> Result<Settings, Failure> {
    let sources = sources(args.config.as_deref())?;
    let mut config = sources.config()?;
    let flags = flags(args)?;
    for flag in &flags {
        (flag.change)(&mut config);
    }
    validate(&config, &flags)?;
    Ok(Settings { config, sources })
}

/// Checks a config to which flags were applied. It was valid without them, so a flag has made it invalid.
fn validate(config: &Config, flags: &[Flag]) -> Result<(), Failure> {
    config.validate().map_err(|error| {
        let flags: Vec<String> = flags.iter().map(Flag::written).collect();
        Failure::Usage(format!("{error} (with {})", flags.join(" ")))
    })
}

/// Returns the failure of a stack that did not start. It names the flag, the variable, or the line of the config file that
/// has what can't be used. `store` is the flag that names the folder of the store, as it is written.
pub fn start_failure(
    store: Option<String>,
    sources: Option<&Sources>,
    error: StartError,
) -> Failure {
    let variable = |key: &str| sources.and_then(|sources| sources.variable(key));
    match (&error, store, sources) {
        (StartError::Folder(error), Some(flag), _) => Failure::Usage(format!("{flag}: {error}")),
        (StartError::Folder(error), None, Some(sources)) => {
            sources.unusable("store.path", error).into()
        }
        (StartError::PortInUse { key, .. } | StartError::Bind { key, .. }, ..) => {
            match variable(key) {
                Some(variable) => Failure::Usage(format!("{variable}: {error}")),
                None => error.into(),
            }
        }
        (StartError::Tls { key, why }, _, Some(sources)) => sources.unusable(key, why).into(),
        _ => error.into(),
    }
}

/// Returns the URL at which clients on this machine find the HTTP API of a config that listens on `addr`.
pub fn api_url(config: &Config, addr: SocketAddr) -> String {
    let scheme = if requires_tls(config) {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}", dialable(addr))
}

/// Returns the address at which clients on this machine find the gateway of a config.
pub fn gateway_url(config: &Config) -> String {
    let scheme = if requires_tls(config) { "tls://" } else { "" };
    format!("{scheme}{}", dialable(config.gateway.listen))
}

fn requires_tls(config: &Config) -> bool {
    config.tls.is_on() && !config.tls.plain
}

/// Refuses an advertised host that has a port: the port would be right for only one of the access servers. `source` is
/// what has set the host.
fn check_host(source: &str, host: &str) -> Result<(), Failure> {
    let is_alone = Host::parse(host).is_ok_and(|host| host.port().is_none());
    // A text without a colon has no port. Whether it is a valid host is checked with the config.
    if is_alone || !host.contains(':') {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{source} {host}: give a name or an IP address alone, without scheme and port; each access server adds its \
         own port. For host:port, set advertise in each [[access]] of the config"
    )))
}

/// Runs `imd check`: prints the config that the daemon would have, with the origin of each value.
///
/// # Errors
///
/// The errors of [`daemon`], and a stdout that can't be written.
pub fn check(args: &DaemonArgs) -> Result<(), Failure> {
    let sources = sources(args.config.as_deref())?;
    let (mut config, mut origins) = (sources.config()?, sources.provenances());
    let flags = flags(args)?;
    for flag in &flags {
        let before = config.clone();
        (flag.change)(&mut config);
        origins.note_flag(&flag.origin(), &before, &config);
    }
    validate(&config, &flags)?;
    let text = origins.annotate(&config);
    let text =
        text.map_err(|error| Failure::Failed(format!("the config can't be written: {error}")))?;
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

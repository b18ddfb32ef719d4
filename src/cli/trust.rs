//! What the client commands trust when a stack speaks TLS: the issuers of the system, the local CA of this user, and the file
//! of `--ca` or `IMD_CA`.
//!
//! Serves every command that connects to a stack. The file is read once, before the command runs.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use imd::client::Connector;

use super::environment;
use super::failure::Failure;

/// Set before a command runs. The default serves the daemon, which connects to nothing.
static CONNECTOR: OnceLock<Connector> = OnceLock::new();

/// Reads the file of further issuers to trust: that of the flag, or else of the environment.
///
/// # Errors
///
/// [`Failure::Usage`] when the file can't be read, or holds no certificate.
pub fn read(flag: Option<&Path>) -> Result<(), Failure> {
    let from_env = environment::read(environment::CA);
    let (source, path) = match (flag, &from_env) {
        (Some(path), _) => ("--ca", path),
        (None, Some(path)) => (environment::CA, Path::new(path)),
        (None, None) => return Ok(()),
    };
    let wrong =
        |why: &dyn std::fmt::Display| Failure::Usage(format!("{source} {}: {why}", path.display()));
    let pem = fs::read(path).map_err(|error| wrong(&error))?;
    let connector = Connector::trusting(&pem).map_err(|error| wrong(&error))?;
    // It is set once, before any command runs.
    let _ = CONNECTOR.set(connector);
    Ok(())
}

/// Returns what connects the clients of this process.
pub fn connector() -> &'static Connector {
    CONNECTOR.get_or_init(Connector::default)
}

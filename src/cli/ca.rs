//! Runs `imd ca`: tells and renews the local CA, which issues the certificates of stacks with `tls.local_ca`.
//!
//! Serves whoever has to make a device trust it.

use std::path::PathBuf;

use imd::config::CertificateSource;
use imd::tls::{LocalCa, LocalCaError};

use super::failure::Failure;
use super::{CaCommand, ConfigArgs, launch, output, settings};

/// Runs one command of `imd ca`.
///
/// # Errors
///
/// A config or a CA that can't be used, and a stdout that can't be written.
pub fn run(command: &CaCommand) -> Result<(), Failure> {
    launch::make_files_private();
    match command {
        CaCommand::Path(args) => {
            let folder = folder(args)?;
            LocalCa::open_or_make(&folder).map_err(|error| failed(&error))?;
            output::line(&LocalCa::certificate_path(&folder).display().to_string())
        }
        CaCommand::Print(args) => {
            let ca = LocalCa::open_or_make(&folder(args)?).map_err(|error| failed(&error))?;
            output::write(ca.pem())
        }
        CaCommand::Renew(args) => {
            let folder = folder(args)?;
            LocalCa::renew(&folder).map_err(|error| failed(&error))?;
            let path = LocalCa::certificate_path(&folder);
            output::line(&format!(
                "{}: this is a new CA: whatever trusted the old one has to trust it again. Running stacks use it at once.",
                path.display()
            ))
        }
    }
}

/// Returns the folder of the CA that a config names, or that of the user.
fn folder(args: &ConfigArgs) -> Result<PathBuf, Failure> {
    let config = settings::load(args.config.as_deref())?;
    let source = config.tls.source().ok().flatten();
    let named = match source {
        Some(CertificateSource::LocalCa(folder)) => folder,
        _ => None,
    };
    let folder = named.or_else(LocalCa::folder_of_user);
    folder.ok_or_else(|| failed(&LocalCaError::NoFolder))
}

fn failed(error: &LocalCaError) -> Failure {
    Failure::Usage(error.to_string())
}

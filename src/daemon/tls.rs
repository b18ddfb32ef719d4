//! The TLS of a stack: its certificate, from what the config names, and the task that keeps it up to date.
//!
//! Serves the start of a stack. In a build without the cargo feature `tls` the listeners are always plain: the validation of
//! the config has refused anything else.

use std::path::PathBuf;

use super::StartError;
use crate::config::Config;
use crate::task_group::TaskGroup;
use crate::tls::Acceptor;
#[cfg(feature = "tls")]
pub(super) use with_tls::prepare;

/// What the TLS of a stack consists of.
#[derive(Debug, Default)]
pub(super) struct Tls {
    /// Makes the handshakes of all listeners.
    pub acceptor: Acceptor,
    /// The file with the certificate of the local CA, if it issues the stack's certificate.
    pub ca_certificate: Option<PathBuf>,
    /// None without TLS.
    #[cfg(feature = "tls")]
    upkeep: Option<crate::tls::Upkeep>,
}

impl Tls {
    /// Spawns the task that keeps the certificate up to date, until the shutdown of `tasks` begins.
    #[cfg(feature = "tls")]
    pub fn keep_up(&mut self, tasks: &TaskGroup) {
        if let Some(upkeep) = self.upkeep.take() {
            let group = tasks.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = group.shutdown_begun() => {}
                    () = upkeep.run() => {}
                }
            });
        }
    }

    /// Does nothing: there is no certificate.
    #[cfg(not(feature = "tls"))]
    pub fn keep_up(&mut self, _: &TaskGroup) {}
}

/// Returns the TLS of a build that has none.
///
/// # Errors
///
/// None in this build.
#[cfg(not(feature = "tls"))]
pub(super) async fn prepare(_: &Config) -> Result<Tls, StartError> {
    Ok(Tls::default())
}

#[cfg(feature = "tls")]
mod with_tls {
    use std::path::PathBuf;

    use super::{Config, StartError, Tls};
    use crate::config::{CertificateSource, Host};
    use crate::tls::{
        Acceptor, CertificateFiles, LocalCa, LocalCaError, Origin, OriginError, Upkeep,
    };

    /// Reads or issues the certificate that the config asks for.
    ///
    /// # Errors
    ///
    /// [`StartError::Tls`], with the key whose file is wrong.
    pub(crate) async fn prepare(config: &Config) -> Result<Tls, StartError> {
        let source = config.tls.source();
        let source = source.map_err(|(key, why)| StartError::Tls { key, why })?;
        let Some(source) = source else {
            return Ok(Tls::default());
        };
        let (origin, ca_certificate) = origin(config, source)?;
        // Opening files waits for the disk, and for another process that makes the CA.
        let begun = tokio::task::spawn_blocking(|| Upkeep::begin(origin)).await;
        let upkeep = begun.map_err(std::io::Error::from)?.map_err(start_error)?;
        let acceptor = Acceptor::new(upkeep.current(), config.tls.plain);
        let acceptor = acceptor.map_err(std::io::Error::other)?;
        Ok(Tls {
            acceptor,
            ca_certificate,
            upkeep: Some(upkeep),
        })
    }

    /// Returns where the certificate comes from, and the file with that of the local CA, if it is the issuer.
    fn origin(
        config: &Config,
        source: CertificateSource,
    ) -> Result<(Origin, Option<PathBuf>), StartError> {
        let folder = match source {
            CertificateSource::Files { cert, key } => {
                return Ok((Origin::Files(CertificateFiles { cert, key }), None));
            }
            CertificateSource::LocalCa(folder) => folder.or_else(LocalCa::folder_of_user),
        };
        let folder = folder.ok_or_else(|| start_error(LocalCaError::NoFolder.into()))?;
        let certificate = LocalCa::certificate_path(&folder);
        let origin = Origin::LocalCa {
            folder,
            listens: config
                .listeners()
                .iter()
                .map(|(_, addr)| addr.ip())
                .collect(),
            names: told_names(config),
        };
        Ok((origin, Some(certificate)))
    }

    fn start_error(error: OriginError) -> StartError {
        let key = match &error {
            OriginError::Files(error) if error.is_key => "tls.key",
            OriginError::Files(_) => "tls.cert",
            OriginError::LocalCa(_) => "tls.local_ca",
        };
        let why = error.to_string();
        StartError::Tls { key, why }
    }

    /// Returns the names by which clients are told to connect, or by which the HTTP APIs may be asked.
    fn told_names(config: &Config) -> Vec<String> {
        let advertised = config
            .access
            .0
            .iter()
            .filter_map(|server| server.advertise.as_ref());
        let told = config.gateway.advertise_to.iter().map(|to| &to.host);
        let advertised = advertised.chain(told);
        let asked = config.http.hosts.iter().chain(&config.admin.hosts);
        let hosts = advertised
            .chain(asked)
            .filter_map(|host| Host::parse(host).ok());
        hosts.map(|host| host.name()).collect()
    }
}

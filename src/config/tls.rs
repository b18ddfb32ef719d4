//! `[tls]`: whether the listeners speak TLS, and with which certificate.
//!
//! Serves `daemon`, which reads the files at the start. The validation of a config opens none of them: it checks what the
//! keys say together, and that their paths can be resolved.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{Invalid, ensure};
use super::folder::resolve;

/// The table `[tls]`. All listeners speak TLS if it names a certificate: gateway, access servers, user API, group API and
/// admin API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The file with the certificate, in PEM, followed by those of its issuers if clients need them. Set together with
    /// [`key`](Self::key).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The file with the private key of the certificate, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Whether the certificate is issued by the local CA, in place of [`cert`](Self::cert) and [`key`](Self::key).
    pub local_ca: bool,
    /// The folder of the local CA. None for the folder in the user's data directory, which all stacks of a user share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_dir: Option<PathBuf>,
    /// Whether clients without TLS are served too, on the same ports.
    pub plain: bool,
}

/// Where the certificate of a stack comes from, with absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// The files `tls.cert` and `tls.key`.
    Files {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with its private key.
        key: PathBuf,
    },
    /// The local CA in this folder. None for the folder in the user's data directory.
    LocalCa(Option<PathBuf>),
}

impl Tls {
    /// Returns whether the listeners speak TLS.
    pub fn is_on(&self) -> bool {
        self.cert.is_some() || self.local_ca
    }

    /// Returns where the certificate comes from. None if the listeners do not speak TLS.
    ///
    /// # Errors
    ///
    /// The dotted key whose path can't be resolved, and a message for the user.
    pub fn source(&self) -> Result<Option<CertificateSource>, (&'static str, String)> {
        let absolute = |key, path: &Option<PathBuf>| {
            let resolved = path.as_deref().map(|path| resolve(path, "file"));
            resolved.transpose().map_err(|why| (key, why))
        };
        let cert = absolute("tls.cert", &self.cert)?;
        let key = absolute("tls.key", &self.key)?;
        let ca_dir = absolute("tls.ca_dir", &self.ca_dir)?;
        Ok(match (cert, key) {
            (Some(cert), Some(key)) => Some(CertificateSource::Files { cert, key }),
            _ => self.local_ca.then_some(CertificateSource::LocalCa(ca_dir)),
        })
    }

    /// Checks that the keys do not contradict each other, and that their paths can be resolved.
    ///
    /// # Errors
    ///
    /// The first key that is wrong, with a message that says what to write instead.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let is_given = |path: &Option<PathBuf>| path.is_some();
        ensure(
            is_given(&self.cert) || !is_given(&self.key),
            "tls.key",
            || {
                "needs tls.cert beside it: the file with the certificate that the key belongs to"
                    .into()
            },
        )?;
        ensure(
            !is_given(&self.cert) || is_given(&self.key),
            "tls.cert",
            || "needs tls.key beside it: the file with the certificate's private key".into(),
        )?;
        ensure(
            !self.local_ca || !is_given(&self.cert),
            "tls.local_ca",
            || "issues a certificate, and tls.cert names another one: leave one of them out".into(),
        )?;
        ensure(
            self.local_ca || !is_given(&self.ca_dir),
            "tls.ca_dir",
            || "does nothing without tls.local_ca = true".into(),
        )?;
        ensure(self.is_on() || !self.plain, "tls.plain", || {
            "does nothing without TLS: set tls.cert and tls.key, or tls.local_ca = true".into()
        })?;
        match self.source() {
            Ok(_) => Ok(()),
            Err((key, why)) => ensure(false, key, || why),
        }
    }
}

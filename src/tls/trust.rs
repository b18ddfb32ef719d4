//! What a client trusts, and the handshake on its side.
//!
//! Serves the client. The issuers are those of the system, the local CA of this user if there is one, and further ones that
//! the caller names.

use std::fs;
use std::io;
use std::sync::{Arc, LazyLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::stream::{ClientStream, MaybeTls};
use super::{LocalCa, provider};

/// The issuers that the system trusts. They are read once in a process, since there are hundreds.
static SYSTEM: LazyLock<RootCertStore> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    roots
});

/// Why a text does not say whom to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is no certificate in the text.
    #[error("there is no certificate in it: one in PEM begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// The cryptography that TLS is built on does not work, which does not happen.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The issuers of certificates that a client trusts.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    /// Trusts the issuers of the system, and the local CA of this user. Blocks the thread for their files.
    ///
    /// # Errors
    ///
    /// [`TrustError::Tls`], which does not happen.
    pub fn of_system() -> Result<Trust, TrustError> {
        Trust::of(roots())
    }

    /// Trusts the issuers in a text besides. Blocks the thread for the files of the others.
    ///
    /// # Errors
    ///
    /// [`TrustError::NoCertificate`], when there is none in the text.
    pub fn with_pem(pem: &[u8]) -> Result<Trust, TrustError> {
        let mut roots = roots();
        let certificates = CertificateDer::pem_slice_iter(pem).flatten();
        match roots.add_parsable_certificates(certificates) {
            (0, _) => Err(TrustError::NoCertificate),
            _ => Trust::of(roots),
        }
    }

    fn of(roots: RootCertStore) -> Result<Trust, TrustError> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust(TlsConnector::from(Arc::new(config))))
    }

    /// Makes the handshake of a connection to a server, whose certificate has to be valid for `host`: a name, or an IP address
    /// without brackets. There is no deadline: the caller sets one.
    ///
    /// # Errors
    ///
    /// An error whose text says why the server is not trusted, or that it speaks no TLS.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<ClientStream> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = self.0.connect(name, stream).await?;
        Ok(MaybeTls::Tls(Box::new(stream)))
    }
}

/// Returns the issuers of the system, with the local CA of this user.
fn roots() -> RootCertStore {
    let mut roots = SYSTEM.clone();
    let local = LocalCa::folder_of_user().map(|folder| LocalCa::certificate_path(&folder));
    if let Some(pem) = local.and_then(|path| fs::read(path).ok()) {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    }
    roots
}

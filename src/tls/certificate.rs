//! A certificate with its private key: checked once, shared by all handshakes, and replaceable while it is in use.
//!
//! Serves the acceptor and the upkeep. A [`Certificate`] is usable when it is created: the key belongs to it, and it is valid
//! at that time. A private key appears in no error and no `Debug` output.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use webpki::{EndEntityCert, KeyUsage};

/// A time behind the end of every certificate: the format ends with the year 9999.
const END_OF_TIME: Duration = Duration::from_secs(1 << 40);

/// Returns the cryptography that TLS uses, on the server's and on the client's side.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Why a certificate can't be used with its key.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The certificate can't be parsed.
    #[error("the certificate can't be used: {0}")]
    Certificate(String),
    /// The private key can't be parsed, or is of a kind that TLS does not use.
    #[error("the private key can't be used: {0}")]
    Key(String),
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate was valid until this time.
    #[error("the certificate has expired at {}", time(*.0))]
    Expired(SystemTime),
    /// The certificate becomes valid at this time.
    #[error("the certificate is not valid before {}", time(*.0))]
    NotYetValid(SystemTime),
}

/// Displays a time of the validity of a certificate.
pub(super) fn time(time: SystemTime) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(time)
}

/// A certificate that was valid when it was created, with those of its issuers and its private key.
#[derive(Debug, Clone)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    not_after: SystemTime,
}

impl Certificate {
    /// Checks a certificate, which is the first of `chain`, and its key at the time `now`.
    ///
    /// # Errors
    ///
    /// [`Unusable`], with the first reason that was found.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        now: SystemTime,
    ) -> Result<Certificate, Unusable> {
        let unparsed = |error: &dyn fmt::Display| Unusable::Certificate(error.to_string());
        let first = chain.first().ok_or_else(|| unparsed(&"there is none"))?;
        let first = EndEntityCert::try_from(first).map_err(|error| unparsed(&error))?;
        check_validity(&first, since_epoch(now))?;
        let not_after = match check_validity(&first, END_OF_TIME) {
            Err(Unusable::Expired(not_after)) => not_after,
            _ => return Err(unparsed(&"its validity has no end")),
        };
        let key = provider().key_provider.load_private_key(key);
        let key = key.map_err(|error| Unusable::Key(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // A key that does not tell its public part can't be compared.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => return Err(Unusable::KeyMismatch),
            Err(error) => return Err(unparsed(&error)),
        }
        Ok(Certificate {
            certified: Arc::new(certified),
            not_after,
        })
    }

    /// Returns until when the certificate is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Checks that a certificate is valid at a time, given as the time since 1970.
///
/// `webpki` has no accessor for the validity, but checks it before it looks for an issuer. It is given no issuers, so that any
/// other answer means that the time is within the validity.
///
/// # Errors
///
/// [`Unusable::Expired`] and [`Unusable::NotYetValid`].
fn check_validity(certificate: &EndEntityCert<'_>, at: Duration) -> Result<(), Unusable> {
    let at = UnixTime::since_unix_epoch(at);
    let usage = KeyUsage::server_auth();
    let time = |time: UnixTime| SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs());
    match certificate.verify_for_usage(&[], &[], &[], at, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Err(Unusable::Expired(time(not_after)))
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
            Err(Unusable::NotYetValid(time(not_before)))
        }
        _ => Ok(()),
    }
}

/// The certificate that new handshakes get. Replacing it leaves the connections alone that were made with an earlier one.
#[derive(Debug)]
pub struct CurrentCertificate(RwLock<Certificate>);

impl CurrentCertificate {
    /// Makes a certificate the current one.
    pub fn new(certificate: Certificate) -> Self {
        CurrentCertificate(RwLock::new(certificate))
    }

    /// Replaces the certificate for all handshakes from now on.
    pub fn replace(&self, certificate: Certificate) {
        *self.0.write() = certificate;
    }

    /// Returns until when the certificate is valid.
    pub fn not_after(&self) -> SystemTime {
        self.0.read().not_after
    }

    /// Returns the host by which clients on this machine should connect to a server on `host`: the host itself if the
    /// certificate has it, else `localhost`, else the first name of the certificate. If it has no name at all, `host`.
    pub fn name_for(&self, host: &str) -> String {
        let certified = Arc::clone(&self.0.read().certified);
        let certificate = certified.end_entity_cert().ok();
        let Some(certificate) = certificate.and_then(|der| EndEntityCert::try_from(der).ok())
        else {
            return host.to_owned();
        };
        let has = |name: &str| {
            let name = ServerName::try_from(name.trim_matches(['[', ']']));
            name.is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
        };
        if let Some(name) = [host, "localhost"].into_iter().find(|name| has(name)) {
            return name.to_owned();
        }
        let named = certificate
            .valid_dns_names()
            .find(|name| !name.contains('*'));
        named.unwrap_or(host).to_owned()
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().certified))
    }
}

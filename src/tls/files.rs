//! The certificate of two files: one with the certificate, one with its private key, both in PEM.
//!
//! Serves the upkeep. An error names the file and the mistake, and never shows what is in a file of a key.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio_rustls::rustls::pki_types::pem::{PemObject, SectionKind};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{Certificate, Unusable};
use crate::text;

/// The longest file that is read, in bytes. Chains of certificates have a few thousand.
const MAX_FILE: u64 = 1 << 20;

/// The paths of a certificate and of its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The file with the certificate, and behind it those of its issuers.
    pub cert: PathBuf,
    /// The file with the private key.
    pub key: PathBuf,
}

/// Why the certificate of two files can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct FileError {
    /// Whether the mistake is in the file of the key, and not in that of the certificate.
    pub is_key: bool,
    file: PathBuf,
    /// What is wrong, and what to do.
    why: String,
}

/// When a file was last changed, and its length. None if it is not there.
pub(super) type Stamp = Option<(SystemTime, u64)>;

/// Returns when a file was last changed. Two different contents have the same stamp only if they have the same length and
/// were written at the same moment.
pub(super) fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

impl CertificateFiles {
    /// Reads both files, and checks what is in them at the time `now`.
    ///
    /// # Errors
    ///
    /// [`FileError`], with the file that is wrong.
    pub fn read(&self, now: SystemTime) -> Result<Certificate, FileError> {
        let (chain, key) = (self.read_chain()?, self.read_key()?);
        Certificate::new(chain, key, now).map_err(|why| match why {
            Unusable::KeyMismatch => self.wrong_key(format!(
                "this private key does not belong to the certificate in {}: name the key that the certificate was made with",
                self.cert.display()
            )),
            Unusable::Key(_) => self.wrong_key(why.to_string()),
            Unusable::Expired(_) => self.wrong_cert(format!(
                "{why}: put a new one there, or set the clock of this machine right"
            )),
            Unusable::NotYetValid(_) => {
                self.wrong_cert(format!("{why}: wait, or set the clock of this machine right"))
            }
            Unusable::Certificate(_) => self.wrong_cert(why.to_string()),
        })
    }

    /// Returns the stamps of both files.
    pub(super) fn stamps(&self) -> [Stamp; 2] {
        [stamp(&self.cert), stamp(&self.key)]
    }

    fn read_chain(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let pem = read(&self.cert).map_err(|error| self.wrong_cert(error.to_string()))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|error| self.wrong_cert(format!("this is no PEM: {error}")))?;
        if chain.is_empty() {
            let hint = match PrivateKeyDer::from_pem_slice(&pem) {
                Ok(_) => " but a private key: are tls.cert and tls.key the wrong way round?",
                Err(_) => ": a certificate in PEM begins with -----BEGIN CERTIFICATE-----",
            };
            return Err(self.wrong_cert(format!("there is no certificate in it{hint}")));
        }
        Ok(chain)
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, FileError> {
        let pem = read(&self.key).map_err(|error| self.wrong_key(error.to_string()))?;
        // The parser's own error could quote the key.
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&pem);
            let has_certificate = sections
                .flatten()
                .any(|(kind, _)| kind == SectionKind::Certificate);
            let marks = |mark: &str| pem.windows(mark.len()).any(|part| part == mark.as_bytes());
            let is_encrypted = marks("ENCRYPTED");
            self.wrong_key(if is_encrypted {
                format!(
                    "the private key in it is encrypted, and imd asks for no passphrase: openssl pkey -in {} -out plain.pem \
                     makes a file that it can read",
                    self.key.display()
                )
            } else if has_certificate {
                "there is no private key in it, but a certificate: name the file of its key".into()
            } else {
                "there is no private key in it: one in PEM begins with -----BEGIN PRIVATE KEY-----"
                    .into()
            })
        })
    }

    fn wrong_cert(&self, why: String) -> FileError {
        FileError {
            is_key: false,
            file: self.cert.clone(),
            why,
        }
    }

    fn wrong_key(&self, why: String) -> FileError {
        FileError {
            is_key: true,
            file: self.key.clone(),
            why,
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = text::read_within(MAX_FILE, File::open(path)?)?;
    bytes.ok_or_else(|| io::Error::other("this file is too long for certificates and keys"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::tls::CurrentCertificate;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A folder with a certificate and a key, whose validity begins and ends so many days from now.
    fn files(from: i64, until: i64) -> (tempfile::TempDir, CertificateFiles) {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = rcgen::date_time_ymd(1970, 1, 1) + now.unwrap();
        let at = |days: i64| match days {
            0.. => now + DAY * u32::try_from(days).unwrap(),
            _ => now - DAY * u32::try_from(-days).unwrap(),
        };
        (params.not_before, params.not_after) = (at(from), at(until));
        let files = CertificateFiles {
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        (folder, files)
    }

    fn why(files: &CertificateFiles) -> (bool, String) {
        let error = files.read(SystemTime::now()).unwrap_err();
        (error.is_key, error.to_string())
    }

    #[test]
    fn a_certificate_with_its_key_is_read_and_tells_its_end() {
        let (_folder, files) = files(-1, 10);
        let certificate = files.read(SystemTime::now()).unwrap();
        let left = certificate
            .not_after()
            .duration_since(SystemTime::now())
            .unwrap();
        assert!(left > DAY * 9 && left <= DAY * 10, "{left:?}");
        let current = CurrentCertificate::new(certificate);
        assert_eq!(current.name_for("127.0.0.1"), "localhost");
    }

    #[test]
    fn every_mistake_names_its_file_and_what_to_do() {
        let (_folder, good) = files(-1, 10);
        let (_other_folder, other) = files(-1, 10);
        let (_expired_folder, expired) = files(-10, -1);
        let (_early_folder, early) = files(2, 10);
        let with = |cert: &Path, key: &Path| CertificateFiles {
            cert: cert.to_owned(),
            key: key.to_owned(),
        };
        let broken = good.cert.with_file_name("broken.pem");
        let encrypted = good.cert.with_file_name("encrypted.pem");
        fs::write(&broken, "hello").unwrap();
        let pem =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        fs::write(&encrypted, pem).unwrap();
        let missing = good.cert.with_file_name("missing.pem");
        for (files, is_key, says) in [
            (
                with(&missing, &good.key),
                false,
                "missing.pem: No such file",
            ),
            (
                with(&good.cert, &missing),
                true,
                "missing.pem: No such file",
            ),
            (with(&good.key, &good.cert), false, "the wrong way round"),
            (
                with(&broken, &good.key),
                false,
                "broken.pem: there is no certificate in it",
            ),
            (
                with(&good.cert, &broken),
                true,
                "broken.pem: there is no private key in it: ",
            ),
            (with(&good.cert, &good.cert), true, "but a certificate"),
            (with(&good.cert, &encrypted), true, "is encrypted"),
            (
                with(&good.cert, &other.key),
                true,
                "does not belong to the certificate in",
            ),
            (expired, false, "cert.pem: the certificate has expired at 2"),
            (
                early,
                false,
                "cert.pem: the certificate is not valid before 2",
            ),
        ] {
            let (found, text) = why(&files);
            assert!(found == is_key && text.contains(says), "{says}: {text}");
        }
    }
}

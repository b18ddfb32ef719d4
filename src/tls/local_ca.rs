//! The local CA: an issuer of certificates that the developers of clients trust once, on their machines and devices.
//!
//! Serves the upkeep, which has it issue the certificate of a stack, and `imd ca`. The CA is a folder with a certificate and
//! its private key, which only its owner can read, and which nothing logs. It is made when it is first needed. What it issues
//! is kept in memory only.
//!
//! rcgen can't parse a certificate without a large dependency, so that the CA's name is derived from its key: a key is enough
//! to issue certificates that fit its certificate.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{Certificate, Unusable};
use super::files::{Stamp, stamp};
use crate::file_target::{FileTarget, TargetError};

/// The file of the CA's certificate, in its folder.
const CERTIFICATE: &str = "ca.pem";

/// The file of the CA's private key, in its folder.
const KEY: &str = "ca-key.pem";

/// The file that is locked while the CA is made, so that two processes do not make two.
const LOCK: &str = "ca.lock";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a CA is valid.
const CA_DAYS: u32 = 3650;

/// How long a certificate of the CA is valid. Apple's systems refuse more than 825 days.
pub(super) const LEAF_DAYS: u32 = 90;

/// How long before now a validity begins, for clients whose clocks are late.
const LATE_CLOCK: Duration = DAY;

/// Why the local CA can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalCaError {
    /// No folder was named, and the user has no home folder.
    #[error("neither HOME nor XDG_DATA_HOME names a folder for the local CA: set tls.ca_dir")]
    NoFolder,
    /// A file or the folder can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path of the file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The files of the CA are damaged, are not of `imd`, or the CA has expired.
    #[error("{}: {why} (`imd ca renew` makes a new CA, which has to be trusted again)", path.display())]
    Unusable {
        /// The path of the file that is wrong.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A local CA, with its private key.
pub struct LocalCa {
    folder: PathBuf,
    pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// Leaves out everything but the folder: the key is a secret.
impl std::fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalCa")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl LocalCa {
    /// Returns the folder of the CA that all stacks of this user share: `imd/ca` in the user's data directory. None if the
    /// environment does not tell where that is.
    pub fn folder_of_user() -> Option<PathBuf> {
        let absolute = |path: PathBuf| path.is_absolute().then_some(path);
        let from_env = |name| absolute(PathBuf::from(std::env::var_os(name)?));
        let home = || std::env::home_dir().and_then(absolute);
        let data = from_env("XDG_DATA_HOME").or_else(|| match std::env::consts::OS {
            "windows" => from_env("LOCALAPPDATA"),
            "macos" => home().map(|home| home.join("Library/Application Support")),
            _ => home().map(|home| home.join(".local/share")),
        })?;
        Some(data.join("imd").join("ca"))
    }

    /// Returns the path of the certificate of the CA in a folder, whether it is there or not.
    pub fn certificate_path(folder: &Path) -> PathBuf {
        folder.join(CERTIFICATE)
    }

    /// Opens the CA in a folder, and makes it if there is none. Blocks the thread while another process makes it.
    ///
    /// # Errors
    ///
    /// [`LocalCaError`], when the folder can't be written, or what is in it can't be used.
    pub fn open_or_make(folder: &Path) -> Result<LocalCa, LocalCaError> {
        if !is_there(folder) {
            let _lock = lock(folder)?;
            if !is_there(folder) {
                make(folder)?;
            }
        }
        LocalCa::open(folder)
    }

    /// Makes a new CA in a folder, in place of the one that is there. Certificates of the older one are not trusted by
    /// clients that trust the new one only.
    ///
    /// # Errors
    ///
    /// [`LocalCaError`], when the folder can't be written.
    pub fn renew(folder: &Path) -> Result<LocalCa, LocalCaError> {
        let lock = lock(folder)?;
        make(folder)?;
        drop(lock);
        LocalCa::open(folder)
    }

    fn open(folder: &Path) -> Result<LocalCa, LocalCaError> {
        let (cert_path, key_path) = (folder.join(CERTIFICATE), folder.join(KEY));
        let pem = read(&cert_path)?;
        let unusable = |path: &Path, why: String| LocalCaError::Unusable {
            path: path.to_owned(),
            why,
        };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| unusable(&cert_path, "there is no certificate in it".into()))?;
        let key_pem = read(&key_path)?;
        // The parser's own error could quote the key.
        let no_key = || unusable(&key_path, "there is no private key of imd in it".into());
        let key = KeyPair::from_pem(&key_pem).map_err(|_| no_key())?;
        let der = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| no_key())?;
        Certificate::new(vec![certificate.clone()], der, SystemTime::now())
            .map_err(|why| unusable(&cert_path, why.to_string()))?;
        let params = ca_params(&key).map_err(|error| unusable(&key_path, error.to_string()))?;
        Ok(LocalCa {
            folder: folder.to_owned(),
            pem,
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// Returns the certificate of the CA in PEM, which clients have to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate for host names and IP addresses, with a new key, valid for 90 days. A name that no certificate can
    /// have is left out.
    ///
    /// # Errors
    ///
    /// [`LocalCaError::Unusable`], when the CA's certificate is not that of its key.
    pub fn issue(&self, names: &[String]) -> Result<Certificate, LocalCaError> {
        let unusable = |why: String| LocalCaError::Unusable {
            path: self.folder.join(CERTIFICATE),
            why,
        };
        let failed = |error: rcgen::Error| unusable(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let params = leaf_params(names).map_err(failed)?;
        let leaf = params.signed_by(&key, &self.issuer).map_err(failed)?;
        check_issuer(leaf.der(), &self.certificate).map_err(unusable)?;
        let der = PrivateKeyDer::try_from(key.serialize_der());
        let der = der.map_err(|why| unusable(why.to_owned()))?;
        let chain = vec![leaf.der().clone()];
        Certificate::new(chain, der, SystemTime::now())
            .map_err(|why: Unusable| unusable(why.to_string()))
    }

    /// Returns the stamps of the CA's files in a folder.
    pub(super) fn stamps(folder: &Path) -> [Stamp; 2] {
        [stamp(&folder.join(CERTIFICATE)), stamp(&folder.join(KEY))]
    }
}

/// Checks that clients which trust `ca` trust `leaf`. It fails where somebody has put a CA of another program in the folder:
/// its name is not the one that `imd` derives from its key.
///
/// # Errors
///
/// What is wrong, in words.
fn check_issuer(leaf: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> Result<(), String> {
    use tokio_rustls::rustls::pki_types::UnixTime;
    use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
    let why = |error: webpki::Error| format!("this is not the certificate of a CA of imd: {error}");
    let anchors = [anchor_from_trusted_cert(ca).map_err(why)?];
    let leaf = EndEntityCert::try_from(leaf).map_err(why)?;
    let verified = leaf.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &anchors,
        &[],
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    );
    verified.map(drop).map_err(why)
}

/// Sets the validity of a certificate: from shortly before now, for so many days.
fn set_validity(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = date_time_ymd(1970, 1, 1) + now.unwrap_or_default();
    params.not_before = now - LATE_CLOCK;
    params.not_after = now + DAY * days;
}

/// Returns what a CA with this key says in its certificate.
fn ca_params(key: &KeyPair) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    let digest = Sha256::digest(key.subject_public_key_info());
    let id: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "imd");
    name.push(DnType::CommonName, format!("imd local CA {id}"));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_DAYS);
    Ok(params)
}

/// Returns what a certificate for these host names and IP addresses says.
fn leaf_params(names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let is_allowed = |name: &&String| CertificateParams::new([(*name).clone()]).is_ok();
    let names: Vec<String> = names.iter().filter(is_allowed).cloned().collect();
    let mut params = CertificateParams::new(names)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "imd");
    params.distinguished_name = name;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, LEAF_DAYS);
    Ok(params)
}

fn is_there(folder: &Path) -> bool {
    folder.join(CERTIFICATE).exists() && folder.join(KEY).exists()
}

/// Makes a CA in a folder. The key is written first, so that a certificate never stands there without its key.
fn make(folder: &Path) -> Result<(), LocalCaError> {
    let failed = |error: rcgen::Error| LocalCaError::Unusable {
        path: folder.to_owned(),
        why: error.to_string(),
    };
    let key = KeyPair::generate().map_err(failed)?;
    let params = ca_params(&key).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    write(&folder.join(KEY), &key.serialize_pem())?;
    write(&folder.join(CERTIFICATE), &certificate.pem())?;
    tracing::info!(folder = %folder.display(), "made a local CA");
    Ok(())
}

/// Creates the folder if it is not there, and locks it until the file is dropped.
fn lock(folder: &Path) -> Result<File, LocalCaError> {
    fs::create_dir_all(folder).map_err(|error| io_error(folder, error))?;
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|error| io_error(&path, error))?;
    file.lock().map_err(|error| io_error(&path, error))?;
    Ok(file)
}

/// Writes a file that only its owner can read.
fn write(path: &Path, text: &str) -> Result<(), LocalCaError> {
    let written = FileTarget::at(path).and_then(|target| {
        let target = target.synced();
        target.write(Duration::ZERO, |out| out.write_all(text.as_bytes()))
    });
    written.map_err(|error| match error {
        TargetError::Io { path, source } => LocalCaError::Io { path, source },
        TargetError::Unfit { path, why } => LocalCaError::Unusable {
            path,
            why: why.into(),
        },
    })
}

fn read(path: &Path) -> Result<String, LocalCaError> {
    fs::read_to_string(path).map_err(|error| io_error(path, error))
}

fn io_error(path: &Path, source: io::Error) -> LocalCaError {
    LocalCaError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_is_made_once_and_issues_certificates_until_it_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("data/ca");
        let first = LocalCa::open_or_make(&folder).unwrap();
        let again = LocalCa::open_or_make(&folder).unwrap();
        assert_eq!(first.pem(), again.pem());
        let names = ["localhost", "::1", "10.0.2.2", "no name"].map(str::to_owned);
        let issued = again.issue(&names).unwrap();
        let left = issued
            .not_after()
            .duration_since(SystemTime::now())
            .unwrap();
        assert!(left > DAY * 89, "{left:?}");
        let current = crate::tls::CurrentCertificate::new(issued);
        for (host, name) in [
            ("[::1]", "[::1]"),
            ("10.0.2.2", "10.0.2.2"),
            ("x", "localhost"),
        ] {
            assert_eq!(current.name_for(host), name);
        }
        let renewed = LocalCa::renew(&folder).unwrap();
        assert_ne!(renewed.pem(), first.pem());
        renewed.issue(&names).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::open_or_make(folder.path()).unwrap();
        let key = folder.path().join(KEY);
        assert_eq!(
            fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let secret = fs::read_to_string(&key).unwrap();
        let line = secret.lines().nth(1).unwrap();
        assert!(!format!("{ca:?}").contains(line));
    }

    #[test]
    fn files_that_are_not_a_ca_of_imd_are_refused_with_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        LocalCa::open_or_make(folder.path()).unwrap();
        LocalCa::open_or_make(other.path()).unwrap();
        let copy =
            |name: &str| fs::copy(other.path().join(name), folder.path().join(name)).unwrap();
        copy(KEY);
        let error = LocalCa::open_or_make(folder.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ca.pem: the private key does not belong"),
            "{error}"
        );
        copy(CERTIFICATE);
        LocalCa::open_or_make(folder.path()).unwrap();

        // A CA of another program, whose name is not derived from the key.
        let key = KeyPair::generate().unwrap();
        let mut params = ca_params(&key).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "another");
        fs::write(folder.path().join(KEY), key.serialize_pem()).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.path().join(CERTIFICATE), certificate.pem()).unwrap();
        let ca = LocalCa::open_or_make(folder.path()).unwrap();
        let error = ca.issue(&["localhost".into()]).unwrap_err().to_string();
        assert!(
            error.contains("ca.pem: this is not the certificate of a CA of imd"),
            "{error}"
        );
        fs::write(folder.path().join(KEY), "hello").unwrap();
        let error = LocalCa::open_or_make(folder.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ca-key.pem: there is no private key"),
            "{error}"
        );
    }
}

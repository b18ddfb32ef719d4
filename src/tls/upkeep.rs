//! Keeps the certificate of a running stack up to date: reads files again that have changed, and has the local CA issue a new
//! certificate before the old one ends, or when the machine has got other addresses.
//!
//! Serves `daemon`. A change never ends a connection, and what can't be used never replaces what is in use: the reason is
//! logged once.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::certificate::{Certificate, CurrentCertificate, time};
use super::files::{CertificateFiles, FileError, Stamp};
use super::local_ca::{LocalCa, LocalCaError};
use super::names::names_of_this_machine;

/// How often the files are looked at. Real time, since they are outside of the stack.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long before the end of a certificate the local CA issues another one.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long the renewal waits after a failure, unless the files change.
const RETRY: Duration = Duration::from_secs(3600);

/// How long before the end of a certificate of files a warning is logged.
const WARNING: Duration = Duration::from_secs(14 * 24 * 3600);

/// Where the certificate of a stack comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Two files.
    Files(CertificateFiles),
    /// The local CA.
    LocalCa {
        /// The folder of the CA.
        folder: PathBuf,
        /// The addresses that the stack listens on.
        listens: Vec<IpAddr>,
        /// Further names that clients are told.
        names: Vec<String>,
    },
}

/// Why there is no certificate to start with.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// One of the two files is wrong.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The local CA can't be used.
    #[error(transparent)]
    LocalCa(#[from] LocalCaError),
}

/// What a certificate was made from. Another one is made when this has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Basis {
    files: [Stamp; 2],
    names: Vec<String>,
}

impl Origin {
    fn basis(&self) -> Basis {
        match self {
            Origin::Files(files) => Basis {
                files: files.stamps(),
                names: Vec::new(),
            },
            Origin::LocalCa {
                folder,
                listens,
                names,
            } => {
                let mut all = names_of_this_machine(listens);
                all.extend(names.iter().filter(|name| !name.is_empty()).cloned());
                Basis {
                    files: LocalCa::stamps(folder),
                    names: all,
                }
            }
        }
    }

    fn make(&self, basis: &Basis) -> Result<Certificate, OriginError> {
        Ok(match self {
            Origin::Files(files) => files.read(SystemTime::now())?,
            Origin::LocalCa { folder, .. } => LocalCa::open_or_make(folder)?.issue(&basis.names)?,
        })
    }
}

/// The certificate of a stack, with what it takes to keep it up to date.
#[derive(Debug)]
pub struct Upkeep {
    origin: Origin,
    current: Arc<CurrentCertificate>,
    /// What the newest attempt was made from, whether it failed or not.
    tried: Basis,
    /// What was found by the last look. Files are read when they have not changed between two looks: certificate and key are
    /// seldom replaced at the same moment.
    seen: Basis,
    /// When the newest attempt failed. None if it did not.
    failed_at: Option<SystemTime>,
    is_warned: bool,
}

impl Upkeep {
    /// Makes the first certificate. Blocks the thread for files.
    ///
    /// # Errors
    ///
    /// [`OriginError`]. There is no certificate then.
    pub fn begin(origin: Origin) -> Result<Upkeep, OriginError> {
        let basis = origin.basis();
        let certificate = origin.make(&basis)?;
        // The local CA may have been made just now.
        let tried = Basis {
            files: origin.basis().files,
            ..basis
        };
        let mut upkeep = Upkeep {
            origin,
            current: Arc::new(CurrentCertificate::new(certificate)),
            seen: tried.clone(),
            tried,
            failed_at: None,
            is_warned: false,
        };
        upkeep.warn_of_end(SystemTime::now());
        Ok(upkeep)
    }

    /// Returns the certificate, which this keeps up to date.
    pub fn current(&self) -> Arc<CurrentCertificate> {
        Arc::clone(&self.current)
    }

    /// Looks at the files once a second, for ever.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            // Files may be on a disk that is slow.
            let looked = tokio::task::spawn_blocking(move || {
                self.look(SystemTime::now());
                self
            });
            match looked.await {
                Ok(upkeep) => self = upkeep,
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    /// Makes another certificate if that is due at the time `now`.
    fn look(&mut self, now: SystemTime) {
        let found = self.origin.basis();
        let is_settled = std::mem::replace(&mut self.seen, found.clone()) == found;
        if (found != self.tried && is_settled) || self.is_renewal_due(now) {
            self.replace(found, now);
        }
        self.warn_of_end(now);
    }

    /// Returns whether the local CA has to issue another certificate, because the current one ends soon.
    fn is_renewal_due(&self, now: SystemTime) -> bool {
        let may_try = self.failed_at.is_none_or(|at| now > at + RETRY);
        matches!(self.origin, Origin::LocalCa { .. })
            && self.current.not_after() < now + RENEWAL
            && may_try
    }

    fn replace(&mut self, basis: Basis, now: SystemTime) {
        match self.origin.make(&basis) {
            Ok(certificate) => {
                let until = time(certificate.not_after());
                tracing::info!(%until, "new handshakes get a new certificate");
                self.current.replace(certificate);
                (self.failed_at, self.is_warned) = (None, false);
            }
            Err(error) => {
                tracing::warn!(%error, "the new certificate can't be used, so the old one stays");
                self.failed_at = Some(now);
            }
        }
        self.tried = basis;
    }

    /// Logs, once for each certificate, that it ends soon and nothing renews it.
    fn warn_of_end(&mut self, now: SystemTime) {
        let end = self.current.not_after();
        if end > now + WARNING || self.is_warned {
            return;
        }
        self.is_warned = true;
        let until = time(end);
        tracing::warn!(%until, "the certificate ends soon: put a new one in place of its files");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn local_ca(folder: &std::path::Path) -> Upkeep {
        let origin = Origin::LocalCa {
            folder: folder.to_owned(),
            listens: Vec::new(),
            names: vec!["im.example.org".into()],
        };
        Upkeep::begin(origin).unwrap()
    }

    #[test]
    fn the_local_ca_issues_another_certificate_in_time_and_when_it_was_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let mut upkeep = local_ca(folder.path());
        assert_eq!(upkeep.current.name_for("im.example.org"), "im.example.org");
        let first = upkeep.current.not_after();
        let now = SystemTime::now();
        upkeep.look(now + DAY * 50);
        assert_eq!(upkeep.current.not_after(), first);
        std::thread::sleep(Duration::from_millis(1100));
        upkeep.look(now + DAY * 61);
        let second = upkeep.current.not_after();
        assert!(second > first);
        std::thread::sleep(Duration::from_millis(1100));
        LocalCa::renew(folder.path()).unwrap();
        upkeep.look(now);
        assert_eq!(upkeep.current.not_after(), second, "it may be half written");
        upkeep.look(now);
        assert!(upkeep.current.not_after() > second);
    }

    #[test]
    fn a_broken_file_leaves_the_certificate_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let mut upkeep = local_ca(folder.path());
        let first = upkeep.current.not_after();
        fs::write(folder.path().join("ca.pem"), "hello").unwrap();
        for _ in 0..3 {
            upkeep.look(SystemTime::now());
        }
        assert_eq!(upkeep.current.not_after(), first);
    }
}

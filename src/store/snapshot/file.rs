use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};

use super::{LoadError, SNAPSHOT_LIMIT, Snapshot};

/// Why a snapshot's file was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system does not let it.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{}, {source}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: LoadError,
    },
    /// It is larger than a snapshot may be.
    #[error("{}: it is larger than a snapshot may be, {SNAPSHOT_LIMIT} bytes", .0.display())]
    TooLarge(PathBuf),
}

impl Snapshot {
    /// Writes a file that its owner alone may read: it holds password hashes and texts. It appears whole, by rename, in
    /// place of an older one. Takes as long as the disk takes.
    ///
    /// # Errors
    ///
    /// When it can't be written; nothing is left behind then.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let failed = |source| FileError::Io {
            path: path.to_owned(),
            source,
        };
        let name = path.file_name();
        let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary);
        self.write_to(&temporary)
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(|error| {
                // It may not be there at all.
                let _ = fs::remove_file(&temporary);
                failed(error)
            })
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = BufWriter::new(options.open(path)?);
        self.write(&mut out)?;
        out.into_inner()?.sync_all()
    }

    /// Reads a file. Takes as long as the disk takes.
    ///
    /// # Errors
    ///
    /// When it can't be read, or is no whole snapshot.
    pub fn open(path: &Path) -> Result<Snapshot, FileError> {
        let failed = |source| FileError::Io {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let most = SNAPSHOT_LIMIT as u64 + 1;
        let file = File::open(path).map_err(failed)?;
        file.take(most).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > SNAPSHOT_LIMIT {
            return Err(FileError::TooLarge(path.to_owned()));
        }
        Snapshot::read(&bytes).map_err(|source| FileError::Damaged {
            path: path.to_owned(),
            source,
        })
    }
}

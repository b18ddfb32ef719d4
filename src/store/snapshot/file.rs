use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{LoadError, SNAPSHOT_LIMIT, Snapshot};
use crate::file_target::{FileTarget, TargetError};

/// How long somebody has to open a pipe for reading.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// What stands at its place is not written to.
    #[error("{}: {why}", .path.display())]
    Unfit {
        /// The place.
        path: PathBuf,
        /// What stands there, and what to do.
        why: &'static str,
    },
}

impl From<TargetError> for FileError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Unfit { path, why } => FileError::Unfit { path, why },
            TargetError::Io { path, source } => FileError::Io { path, source },
        }
    }
}

impl Snapshot {
    /// Writes a file that its owner alone may read: it holds password hashes and texts. It appears whole, by rename, in
    /// place of an older one. A pipe or a device is written through; see [`FileTarget`]. Takes as long as the disk or the
    /// reader takes.
    ///
    /// # Errors
    ///
    /// When it can't be written; nothing is left behind then.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let target = FileTarget::at(path)?.synced();
        let write = |mut out: &mut dyn Write| self.write(&mut out);
        Ok(target.write(PATIENCE, write)?)
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
        let most = SNAPSHOT_LIMIT as u64 + 1;
        let file = File::open(path).map_err(failed)?;
        // A folder can be opened, and not be read.
        let found = file.metadata().map_err(failed)?;
        if found.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if found.len() > SNAPSHOT_LIMIT as u64 {
            return Err(FileError::TooLarge(path.to_owned()));
        }
        let mut file = BufReader::new(file.take(most));
        let read = Snapshot::read_from(&mut file);
        if file.get_ref().limit() == 0 {
            return Err(FileError::TooLarge(path.to_owned()));
        }
        read.map_err(|source| FileError::Damaged {
            path: path.to_owned(),
            source,
        })
    }
}

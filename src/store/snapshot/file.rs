//! Writes and reads the files of snapshots.
//!
//! Serves the program and the admin API. A file appears complete or not at all, and only its owner may read it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{LoadError, SNAPSHOT_LIMIT, Snapshot};
use crate::file_target::{FileTarget, TargetError};

/// How long a write to a pipe waits for another process to open the pipe for reading.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a snapshot's file was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system can't open, read or write the file.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is not a snapshot, or is damaged or incomplete. Nothing was taken from it.
    #[error("{}, {source}", .path.display())]
    Damaged {
        /// The path of the file.
        path: PathBuf,
        /// The first mistake in the file.
        source: LoadError,
    },
    /// The file is larger than [`SNAPSHOT_LIMIT`].
    #[error("{}: it is larger than a snapshot may be, {SNAPSHOT_LIMIT} bytes", .0.display())]
    TooLarge(PathBuf),
    /// The path is that of something which must not be overwritten, such as a folder.
    #[error("{}: {why}", .path.display())]
    Unfit {
        /// The path that was given.
        path: PathBuf,
        /// What is at the path, and what to do.
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
    /// Writes the snapshot to a file that only its owner may read, since it contains password hashes and messages.
    ///
    /// The file is synced, and then renamed into place, where it replaces an older one. A pipe or a device is written
    /// to directly: see [`FileTarget`]. This blocks the thread for as long as the disk, or the reader of a pipe, takes.
    ///
    /// # Errors
    ///
    /// - [`FileError::Unfit`], when there is something at the path that must not be overwritten.
    /// - [`FileError::Io`], when the file can't be written. No part of it is left behind.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let target = FileTarget::at(path)?.synced();
        let write = |mut out: &mut dyn Write| self.write(&mut out);
        Ok(target.write(PATIENCE, write)?)
    }

    /// Reads a snapshot from a file. This blocks the thread for as long as the disk takes.
    ///
    /// # Errors
    ///
    /// - [`FileError::Io`], when the file can't be read.
    /// - [`FileError::TooLarge`], when the file is larger than [`SNAPSHOT_LIMIT`].
    /// - [`FileError::Damaged`], when the file is not a complete and consistent snapshot; it names the line.
    pub fn open(path: &Path) -> Result<Snapshot, FileError> {
        let failed = |source| FileError::Io {
            path: path.to_owned(),
            source,
        };
        let limit = SNAPSHOT_LIMIT as u64 + 1;
        let file = File::open(path).map_err(failed)?;
        // A folder can be opened on some systems, and would fail later with an error that says less.
        let found = file.metadata().map_err(failed)?;
        if found.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if found.len() > SNAPSHOT_LIMIT as u64 {
            return Err(FileError::TooLarge(path.to_owned()));
        }
        let mut file = BufReader::new(file.take(limit));
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

//! Makes the private copy of a store's folder that an inspection opens.
//!
//! Serves `inspect`. The engine opens a folder to write: it cuts journals, removes tables that it does not use, and
//! begins new files. So an inspection opens a copy in the system's folder for temporary files, and the folder itself is
//! not changed by a byte. The tables are most of a store, and the engine never writes over them, so the copy has links
//! to them. Everything else is copied.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf, absolute};

use tempfile::TempDir;

use super::errors::OpenError;
use super::folder::{self, OpenFolder};
use super::folder_check::{self, Tables};
use super::layout::{self, LOCK, TABLES};
use super::litter::is_litter;
use super::safe_files;

/// The number of bytes that are copied at a time.
const CHUNK: usize = 64 << 10;

/// A copy with its engine open. It is removed when this is dropped.
#[derive(Debug)]
pub struct Copied {
    /// The open copy. It is dropped before its folder is removed.
    pub folder: OpenFolder,
    copy: TempDir,
    /// The folder that was copied.
    original: PathBuf,
    /// Shared locks that keep out everybody who would change the original, whose tables are read. Other inspections may
    /// run.
    _original: [Option<File>; 2],
}

impl Copied {
    /// Returns the folder of the copy.
    pub fn path(&self) -> &Path {
        self.copy.path()
    }

    /// Returns the folder that was copied.
    pub fn original(&self) -> &Path {
        &self.original
    }
}

/// Copies a folder that is a store, and opens the copy.
///
/// # Errors
///
/// When the folder is no store, is in use, can't be read, or is not in order, and when there is no space for the copy.
pub fn open(path: &Path, buffer: u64) -> Result<Copied, OpenError> {
    let unusable = OpenError::unusable(path);
    if folder::read_format(path)?.is_none() {
        return Err(OpenError::NoStore(path.to_owned()));
    }
    folder_check::check(path, Tables::Own)?;
    let original = lock_out_writers(path)?;
    let copy = tempfile::Builder::new().prefix("imd-store-").tempdir();
    let copy = copy.map_err(|error| {
        let temp = std::env::temp_dir();
        unusable(saying(
            &error,
            format!("a copy to look at can't be made in {}", temp.display()),
        ))
    })?;
    let from = absolute(path).map_err(unusable)?;
    copy_store(&from, copy.path()).map_err(unusable)?;
    let folder = folder::open_copy(copy.path(), buffer);
    let folder = folder.map_err(|error| error.instead_of(copy.path(), path))?;
    Ok(Copied {
        folder,
        copy,
        original: path.to_owned(),
        _original: original,
    })
}

/// Makes sure that no `imd` has the folder open, and that none can open it as long as the returned locks are held.
/// There is no lock if the folder has no lock file, or the file system can't lock.
fn lock_out_writers(path: &Path) -> Result<[Option<File>; 2], OpenError> {
    let unusable = OpenError::unusable(path);
    let folder = folder::lock_folder(path, File::try_lock_shared)?;
    let lock = safe_files::open(&path.join(LOCK), OpenOptions::new().read(true));
    let lock = match lock {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok([folder, None]),
        Err(error) => return Err(unusable(saying(&error, "its lock can't be read"))),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok([folder, Some(lock)]),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
            Ok([folder, None])
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Puts a text before that of an error.
fn saying(error: &io::Error, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Copies the parts of a store, and no other entries of its folder.
fn copy_store(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (name, path) = {
            let entry = entry?;
            (entry.file_name(), entry.path())
        };
        if layout::is_part(&name) {
            copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Copies a file, or a folder with all its entries.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let failed = |error| {
        saying(
            &error,
            format!("{} can't be copied to {}", from.display(), to.display()),
        )
    };
    if !fs::symlink_metadata(from).map_err(failed)?.is_dir() {
        return copy_file(from, to).map_err(failed);
    }
    fs::create_dir(to).map_err(failed)?;
    let is_of_tables = from.file_name().is_some_and(|name| name == TABLES);
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if is_litter(&entry.file_name()) {
            continue;
        }
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if is_of_tables {
            link(&from, &to)?;
        } else {
            copy(&from, &to)?;
        }
    }
    Ok(())
}

/// Puts a link to a table into the copy. A link needs no space and may lead to another file system. If the engine
/// removes the table, only the link is removed.
#[cfg(unix)]
fn link(from: &Path, to: &PathBuf) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &PathBuf) -> io::Result<()> {
    copy(from, to)
}

/// Copies the contents of a file, and not its permissions. Zeros become holes, because journals set much space aside.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = safe_files::open(from, OpenOptions::new().read(true))?;
    let mut to = safe_files::create_new(to)?;
    let mut chunk = vec![0; CHUNK];
    let mut len = 0;
    loop {
        let read = from.read(&mut chunk)?;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return to.set_len(len);
        }
        if bytes.iter().all(|&byte| byte == 0) {
            to.seek(SeekFrom::Current(i64::try_from(read).unwrap_or_default()))?;
        } else {
            to.write_all(bytes)?;
        }
        len += read as u64;
    }
}

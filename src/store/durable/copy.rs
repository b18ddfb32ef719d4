//! A private copy of a store's folder, for those who only look into it.
//!
//! The engine opens a folder to write: it cuts journals, removes tables that it does not use, and begins new files. So who
//! looks lets it have a copy, in the system's folder for temporary files, and the folder itself is not changed by a byte.
//! The tables are most of a store, and the engine writes none of them twice: they are links to the originals. Everything
//! else is copied.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf, absolute};

use tempfile::TempDir;

use super::errors::OpenError;
use super::folder::{self, Opened};
use super::layout::{self, LOCK, TABLES};
use super::litter::is_litter;
use super::regular;
use super::survey::{self, Tables};

/// How much is copied at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// A copy, with its engine open. It goes when this is dropped.
#[derive(Debug)]
pub struct Copied {
    /// The copy, open. Dropped first.
    pub opened: Opened,
    copy: TempDir,
    /// The folder that it is a copy of.
    original: PathBuf,
    /// Keeps those out who would change the original: the tables are still there. Others may look too.
    _original: [Option<File>; 2],
}

impl Copied {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.copy.path()
    }

    /// The folder that it is a copy of.
    pub fn original(&self) -> &Path {
        &self.original
    }
}

/// Copies a folder that is a store, and opens the copy.
///
/// # Errors
///
/// When the folder is no store, is in use, can't be read, or is not in order, and when there is no room for the copy.
pub fn open(path: &Path, buffer: u64) -> Result<Copied, OpenError> {
    let unusable = OpenError::unusable(path);
    if folder::read_format(path)?.is_none() {
        return Err(OpenError::NoStore(path.to_owned()));
    }
    survey::check(path, Tables::Own)?;
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
    let opened = folder::open_copy(copy.path(), buffer);
    let opened = opened.map_err(|error| error.instead_of(copy.path(), path))?;
    Ok(Copied {
        opened,
        copy,
        original: path.to_owned(),
        _original: original,
    })
}

/// Makes sure that no `imd` has the folder, and keeps it so. Where nobody ever had it, or where the file system knows no
/// locks, there is nothing to hold.
fn lock_out_writers(path: &Path) -> Result<[Option<File>; 2], OpenError> {
    let unusable = OpenError::unusable(path);
    let folder = folder::lock_folder(path, File::try_lock_shared)?;
    let lock = regular::open(&path.join(LOCK), OpenOptions::new().read(true));
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

/// The same error, with more to say.
fn saying(error: &io::Error, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Copies what belongs to a store, and nothing else that may lie in its folder.
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

/// Copies a file, or a folder with all that is in it.
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

/// A link needs no room, goes over the borders of file systems, and is all that is removed where the engine removes it.
#[cfg(unix)]
fn link(from: &Path, to: &PathBuf) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &PathBuf) -> io::Result<()> {
    copy(from, to)
}

/// Copies what a file holds, and not who may write it. What is zero takes no room: a journal sets much of it aside.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = regular::open(from, OpenOptions::new().read(true))?;
    let mut to = regular::create_new(to)?;
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

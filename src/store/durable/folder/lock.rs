//! Takes a folder for this process, after making sure that it is a store's or may become one.
//!
//! Serves [`open`](super::open), and `copy`, which locks the folder that it copies. As long as a [`FolderLock`] exists,
//! no other process opens the store in its folder.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::super::errors::OpenError;
use super::super::folder_check::{self, TableLinks};
use super::super::layout::{CHECKPOINT, FORMAT, LOCK, MAKING};
use super::super::litter::is_litter;
use super::super::safe_files;

/// The locks that keep other processes out of a folder, until this is dropped.
#[derive(Debug)]
pub struct FolderLock {
    /// The locked lock file.
    pub file: File,
    /// A locked handle of the folder itself, on systems that lock folders. It also holds after somebody removed the
    /// lock file.
    _folder: Option<File>,
}

/// Creates the folder if it is missing, and locks it. Afterwards every entry has been checked and is accessible to its
/// owner alone.
///
/// # Errors
///
/// When the folder is locked already, holds something that is no store, or can't be created or read.
pub fn lock(path: &Path, links: TableLinks) -> Result<FolderLock, OpenError> {
    let unusable = OpenError::unusable(path);
    match private_folder().create(path) {
        Ok(()) => safe_files::sync_parent(path).map_err(unusable)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            check_is_folder(path).map_err(unusable)?;
            refuse_foreign(path)?;
        }
        Err(error) => return Err(unusable(error)),
    }
    folder_check::check(path, links)?;
    let folder = lock_folder(path, File::try_lock)?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let file = safe_files::open(&path.join(LOCK), options).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    tighten(path);
    Ok(FolderLock {
        file,
        _folder: folder,
    })
}

/// Removes the permissions of other users, and logs a warning if there were any or if they can't be removed.
fn tighten(path: &Path) {
    match folder_check::tighten(path) {
        Ok(0) => {}
        Ok(entries) => tracing::warn!(
            folder = %path.display(),
            entries,
            "other users of the machine could read the store: its folder and files are now for their owner alone"
        ),
        // This fails on a file system without permissions, and in a folder of another user. The store is usable
        // nonetheless.
        Err(error) => tracing::warn!(
            folder = %path.display(),
            %error,
            "other users of the machine may be able to read the store, and that can't be changed"
        ),
    }
}

/// Returns a builder of folders that are accessible to their owner alone.
fn private_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(false);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Locks the folder itself with `lock`, on systems and file systems that can; returns no handle on others.
///
/// # Errors
///
/// [`OpenError::InUse`] when another process has locked it.
pub fn lock_folder(
    path: &Path,
    lock: impl FnOnce(&File) -> Result<(), TryLockError>,
) -> Result<Option<File>, OpenError> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let folder = File::open(path).map_err(OpenError::unusable(path))?;
    match lock(&folder) {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        // Some network file systems can lock files but no folders. There, the lock file alone has to suffice.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Makes sure that the path leads to a folder. Otherwise the error says what is there instead.
fn check_is_folder(path: &Path) -> io::Result<()> {
    let error = match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => io::Error::new(ErrorKind::NotADirectory, "it is no folder"),
        Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_link(path) {
            Ok(to) => {
                let why = format!("it is a link to {}, which is not there", to.display());
                io::Error::new(ErrorKind::NotFound, why)
            }
            Err(_) => error,
        },
        Err(error) => error,
    };
    Err(error)
}

/// Refuses a folder that is no store and holds something else, so that no file of a store is put beside files of
/// others.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let has = |name| safe_files::is_there(&path.join(name));
    if has(FORMAT) || has(MAKING) || has(CHECKPOINT) {
        return Ok(());
    }
    let unusable = OpenError::unusable(path);
    for entry in fs::read_dir(path).map_err(unusable)? {
        let entry = entry.map_err(unusable)?;
        let name = entry.file_name();
        if name != LOCK && !is_litter(&name) && !is_old_marker(&entry) {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

/// Returns whether an entry is the marker [`MAKING`] under the name that an earlier `imd` gave it before a rename. A
/// kill in between left it behind. A file of somebody else with this name is not empty.
fn is_old_marker(entry: &fs::DirEntry) -> bool {
    let is_named = entry.file_name() == *safe_files::unfinished(Path::new(MAKING));
    let is_empty_file = |found: fs::Metadata| found.is_file() && found.len() == 0;
    is_named && entry.metadata().is_ok_and(is_empty_file)
}

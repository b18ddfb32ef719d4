//! Opens and creates the store's folder: who may use it, which format it has, and whether the engine has lost anything.
//!
//! Serves the store and `inspect`, which both get an [`OpenFolder`] from here.
//!
//! [`layout`](super::layout) has the names of the files. All of them are for their owner alone: folders have the
//! permissions 0700 and files 0600. The folder itself may be reached through a symbolic link, to another disk for
//! example; its entries may not, see [`folder_check`].
//!
//! A kill between any two system calls leaves a folder that the next start can use.

mod boot;
mod create;
mod format;
mod lock;
mod migrate;
mod recover;
mod recovered;
mod signing_key;

pub use self::format::read_format;
pub use self::lock::{FolderLock, lock_folder};
pub use self::recover::{cut_after, empty_journals, not_what_was_written, open_engine};
pub use self::recovered::RecoveredEngine;
pub use self::signing_key::signing_key;

use std::path::Path;

use self::format::read_id;
use super::engine::View;
use super::errors::OpenError;
use super::folder_check::{self, TableLinks};
use super::layout::{CHECKPOINT, MAKING};
use super::safe_files;

/// A folder that is open, with its engine.
#[derive(Debug)]
pub struct OpenFolder {
    /// Keeps other processes out of the folder.
    pub lock: FolderLock,
    /// The open engine, and where its commits are noted.
    pub recovered: RecoveredEngine,
    /// Whether the store was created just now.
    pub is_new: bool,
}

impl OpenFolder {
    /// Returns the state of the records as of the last commit.
    pub fn view(&self) -> View<'_> {
        self.recovered.engine.view()
    }
}

/// Opens a folder, and creates a store in it if there is none.
///
/// # Errors
///
/// When the folder can't be used, holds something else, or is damaged.
pub fn open(path: &Path, buffer: u64) -> Result<OpenFolder, OpenError> {
    open_with(path, buffer, TableLinks::Refused)
}

/// Opens a private copy of a folder, whose tables are links to those of the original.
///
/// # Errors
///
/// As [`open`].
pub fn open_copy(path: &Path, buffer: u64) -> Result<OpenFolder, OpenError> {
    open_with(path, buffer, TableLinks::Allowed)
}

/// Opens a folder that is a store already.
///
/// # Errors
///
/// As [`open`], and [`OpenError::NoStore`] when it is none.
pub fn open_existing(path: &Path, buffer: u64) -> Result<OpenFolder, OpenError> {
    match read_format(path)? {
        Some(_) => open(path, buffer),
        None => Err(OpenError::NoStore(path.to_owned())),
    }
}

fn open_with(path: &Path, buffer: u64, links: TableLinks) -> Result<OpenFolder, OpenError> {
    let lock = lock::lock(path, links)?;
    let created = match read_format(path)? {
        Some(format) => {
            upgrade(path, format, links)?;
            None
        }
        None => Some(create(path, buffer)?),
    };
    let is_new = created.is_some();
    let recovered = match created {
        Some(recovered) => recovered,
        None => open_engine(path, buffer, Some(read_id(path)?))?,
    };
    // Only now, because a folder that is refused stays as it was.
    safe_files::remove_if_there(&path.join(MAKING)).map_err(OpenError::unusable(path))?;
    // Files that the engine has created have the permissions that the process gives to new files.
    let _ = folder_check::tighten(path);
    Ok(OpenFolder {
        lock,
        recovered,
        is_new,
    })
}

/// Creates a store in a folder without a format.
fn create(path: &Path, buffer: u64) -> Result<RecoveredEngine, OpenError> {
    let has = |name| safe_files::is_there(&path.join(name));
    // The checkpoint is written before the format, but never without the marker `making`.
    if has(CHECKPOINT) && !has(MAKING) {
        return Err(OpenError::damaged(path, "its file \"format\" is missing"));
    }
    create::create(path, buffer, migrate::NEWEST)
}

/// Brings a folder of the given format to the newest one.
fn upgrade(path: &Path, format: u32, links: TableLinks) -> Result<(), OpenError> {
    let newest = migrate::NEWEST;
    // The upgrade of a private copy leaves the user's folder as it is, so it is not logged.
    if (format as usize) < newest && links == TableLinks::Refused {
        tracing::warn!(folder = %path.display(), from = format, to = newest, "the store is brought to a newer format");
    }
    migrate::migrate(path, format)
}

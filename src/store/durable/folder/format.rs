//! The files `format` and `id`, which say what the rest of the folder is.
//!
//! Serves the other modules of `folder`. Both files are written under another name first and synced before the rename,
//! so a crash leaves the old file or the new one.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::super::errors::OpenError;
use super::super::folder_check::{self, TableLinks};
use super::super::layout::{FORMAT, ID};
use super::super::safe_files;

/// The text of the format file before its number.
const FORMAT_HEADLINE: &str = "imd store, format ";

/// The text of the id file before the id.
const ID_HEADLINE: &str = "imd store, id ";

/// Reads the number of the folder's format; returns none if the folder is no store.
///
/// # Errors
///
/// When the file can't be read, or holds something else.
pub fn read_format(path: &Path) -> Result<Option<u32>, OpenError> {
    let text = match safe_files::read(&path.join(FORMAT)) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            // If something else stands in the place of the file, its own error says so.
            folder_check::check(path, TableLinks::Allowed)?;
            return Err(OpenError::unusable(path)(error));
        }
    };
    let number = text
        .strip_prefix(FORMAT_HEADLINE)
        .and_then(|rest| rest.trim_end().parse().ok());
    match number {
        Some(number) if number > 0 => Ok(Some(number)),
        _ => Err(OpenError::damaged(
            path,
            "its file \"format\" can't be read",
        )),
    }
}

/// Writes the number of the folder's format, and syncs it.
///
/// # Errors
///
/// The error of the system, when the file can't be written or synced.
pub fn write_format(path: &Path, number: usize) -> io::Result<()> {
    let text = format!("{FORMAT_HEADLINE}{number}\n");
    safe_files::replace_synced(&path.join(FORMAT), text.as_bytes())?;
    safe_files::sync_folder(path)
}

/// Reads the id of the store.
///
/// # Errors
///
/// When the file can't be read, is missing, or holds something else.
pub fn read_id(path: &Path) -> Result<u64, OpenError> {
    let bytes = match safe_files::read(&path.join(ID)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        bytes => bytes.map_err(OpenError::unusable(path))?,
    };
    let text = std::str::from_utf8(&bytes).ok();
    let id = text.and_then(|text| text.strip_prefix(ID_HEADLINE)?.strip_suffix('\n'));
    let id = id.and_then(|id| u64::from_str_radix(id, 16).ok());
    // No store has the id 0: commits of format 1 carry it, because that format had no ids.
    id.filter(|&id| id != 0)
        .ok_or_else(|| OpenError::damaged(path, "its file \"id\" can't be read"))
}

/// Writes the id of the store, and syncs it.
///
/// # Errors
///
/// The error of the system, when the file can't be written or synced.
pub fn write_id(path: &Path, id: u64) -> io::Result<()> {
    let text = format!("{ID_HEADLINE}{id:016x}\n");
    safe_files::replace_synced(&path.join(ID), text.as_bytes())?;
    safe_files::sync_folder(path)
}

/// Returns a random id, which no other store has.
pub fn new_id() -> u64 {
    rand::random_range(1..=u64::MAX)
}

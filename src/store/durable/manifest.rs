//! Reading the engine's lists of its tables before the engine does.
//!
//! A list has a check beside it that the engine does not look at: it panics over some of what it finds, and takes a
//! missing list for a space that was never in use, whose tables it removes.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::litter::is_litter;
use super::regular;
use xxhash_rust::xxh3::xxh3_128;

/// Why the lists can't be what the engine wrote.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

/// Makes sure that every list in the engine's folder is there, and is what was written.
///
/// # Errors
///
/// When one can't be read, or is not; and when there is something that is not the engine's.
pub fn check(folder: &Path) -> Result<(), ManifestError> {
    for entry in fs::read_dir(folder.join("keyspaces"))? {
        let entry = entry?;
        let path = entry.path();
        // The engine passes over files there.
        if entry.file_type()?.is_file() && is_litter(&entry.file_name()) {
            continue;
        }
        expect_number(&path)?;
        check_list(&path)?;
        for table in fs::read_dir(path.join("tables"))? {
            let table = table?;
            if !is_finders(&table.file_name()) {
                expect_number(&table.path())?;
            }
        }
    }
    Ok(())
}

/// What the engine itself passes over among the tables.
fn is_finders(name: &OsStr) -> bool {
    name == ".DS_Store" || name.as_encoded_bytes().starts_with(b"._")
}

fn expect_number(path: &Path) -> Result<(), ManifestError> {
    let name = path.file_name().and_then(|name| name.to_str());
    if name.is_some_and(|name| name.parse::<u64>().is_ok()) {
        return Ok(());
    }
    let what = format!("{} does not belong there", path.display());
    Err(ManifestError::Damaged(what))
}

/// `current` has the list's number (u64), its check (u128) and the kind of check (0), little-endian.
fn check_list(folder: &Path) -> Result<(), ManifestError> {
    let current = folder.join("current");
    let damaged = || ManifestError::Damaged(format!("{} can't be read", current.display()));
    let bytes = match regular::read(&current) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(damaged()),
        bytes => bytes?,
    };
    let (number, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
    let (check, kind) = rest.split_first_chunk().ok_or_else(damaged)?;
    if kind != [0] {
        return Err(damaged());
    }
    let list = folder.join(format!("v{}", u64::from_le_bytes(*number)));
    let found = match regular::read(&list) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        bytes => Some(xxh3_128(&bytes?)),
    };
    if found != Some(u128::from_le_bytes(*check)) {
        let what = format!("{} is not what was written", list.display());
        return Err(ManifestError::Damaged(what));
    }
    Ok(())
}

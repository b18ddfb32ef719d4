//! Protects existing files that a command would write to. None is replaced unless `--force` was given.
//!
//! Serves `imd record` and `imd snapshot save`.

use std::fs;
use std::path::Path;

use super::failure::Failure;

/// Checks that a file may be written. Devices and pipes are always allowed, because writing to them replaces nothing.
///
/// # Errors
///
/// [`Failure::Usage`] when there is a regular file and `force` is not set. Its text begins with `flag`, which named
/// the file.
pub fn check(flag: &str, path: &Path, force: bool) -> Result<(), Failure> {
    if force || !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{flag}{} is there already: give another name, or --force to replace it",
        path.display()
    )))
}

/// Removes the regular file that is about to be replaced, if there is one.
///
/// # Errors
///
/// [`Failure::Usage`] when the file can't be removed.
pub fn clear(path: &Path) -> Result<(), Failure> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    fs::remove_file(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

//! Files that a command is to write, where there is one already: none is replaced unless that was asked for.

use std::fs;
use std::path::Path;

use super::failure::Failure;

/// Makes room for a file to be written. A device or a pipe is no file to replace: it is left to who writes to it.
///
/// # Errors
///
/// When there is a file already and it is not to be replaced. The text begins with `flag`, which named the file.
pub fn check(flag: &str, path: &Path, force: bool) -> Result<(), Failure> {
    if force || !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{flag}{} is there already: give another name, or --force to replace it",
        path.display()
    )))
}

/// Removes the file that is to be replaced, if there is one.
///
/// # Errors
///
/// When it can't be removed.
pub fn clear(path: &Path) -> Result<(), Failure> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    fs::remove_file(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

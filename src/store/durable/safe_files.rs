//! Opens, replaces and syncs the files of a store's folder: regular files only, never through a symbolic link, and
//! readable by their owner alone.
//!
//! Serves all modules that open files of the folder. Only the engine opens its files by itself, after `folder_check`
//! has examined them.
//!
//! Another user may have put a link, a pipe or a device in the place of a file. Through a link `imd` would overwrite
//! the file that the link points to, and opening a pipe would block for ever.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::text;

/// The extension of a file that is being written, before it is renamed.
const NEW: &str = "new";

/// The upper bound of a file that is read as a whole, in bytes. The longest is the engine's list of tables, with 33
/// bytes for each.
const LONGEST: u64 = 64 << 20;

/// Opens a regular file with `options`. A file that this creates has the permissions 0600.
///
/// # Errors
///
/// The error of the system, and an error that names the file when it is not a regular one.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    no_follow(options);
    let file = match options.open(path) {
        Ok(file) => file,
        // The kind of the entry says more than the system's error: ELOOP for a link, ENXIO for a pipe.
        Err(error) => {
            return Err(match fs::symlink_metadata(path) {
                Ok(found) if !found.is_file() => not_regular(path, &found),
                _ => error,
            });
        }
    };
    let found = file.metadata()?;
    if found.is_file() {
        Ok(file)
    } else {
        Err(not_regular(path, &found))
    }
}

/// Reads a whole regular file.
///
/// # Errors
///
/// As [`open`], and when the file is longer than any that `imd` or the engine writes.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path, OpenOptions::new().read(true))?;
    text::read_within(LONGEST, file)?.ok_or_else(|| {
        let name = path.display();
        let why = format!("{name} has more than {LONGEST} bytes, so it is not what was written");
        io::Error::new(ErrorKind::InvalidData, why)
    })
}

/// Creates a file.
///
/// # Errors
///
/// The error of the system, also when there is an entry with this name, which may be a link.
pub fn create_new(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).create_new(true))
}

/// Returns the path that a file has while it is written.
pub fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension(NEW)
}

/// Returns whether a name is that of a file that was being written.
pub fn is_unfinished(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == NEW)
}

/// Writes a file with these bytes, and gives it the name of an older one if there is one. The older file is never
/// written over, so that a hard link to it keeps its contents.
///
/// # Errors
///
/// The error of the system, when the file can't be written or renamed.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, bytes, |_| Ok(()))
}

/// Does what [`replace`] does, and syncs the file before it gets its name.
///
/// # Errors
///
/// The error of the system, when the file can't be written, synced or renamed.
pub fn replace_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, bytes, File::sync_all)
}

fn replace_with(
    path: &Path,
    bytes: &[u8],
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let new = unfinished(path);
    remove_if_there(&new)?;
    let mut file = create_new(&new)?;
    file.write_all(bytes)?;
    finish(&file)?;
    fs::rename(new, path)
}

/// Removes a file if there is one. If it is a link, only the link is removed.
///
/// # Errors
///
/// The error of the system, when there is a file that can't be removed.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether there is an entry with this name, even if it is a link that leads nowhere.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Brings the names in a folder to the disk, on systems that can.
///
/// # Errors
///
/// The error of the system, when the folder can't be opened or synced.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

/// Brings the name of a folder to the disk. The parent of a path with one part is the working directory.
///
/// # Errors
///
/// The error of the system, when the parent can't be opened or synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Returns the words for an entry that stands in the place of a regular file.
pub fn describe(found: &Metadata) -> &'static str {
    if found.is_symlink() {
        "a symbolic link"
    } else if found.is_dir() {
        "a folder"
    } else {
        "a pipe, a socket or a device"
    }
}

fn not_regular(path: &Path, found: &Metadata) -> io::Error {
    let what = describe(found);
    let why = format!("{} is {what}, and no regular file", path.display());
    io::Error::new(ErrorKind::InvalidInput, why)
}

/// Sets the flags that refuse links, and the permissions of new files. With `O_NONBLOCK`, opening a pipe does not
/// block; it changes nothing for a regular file.
#[cfg(unix)]
fn no_follow(options: &mut OpenOptions) {
    use nix::fcntl::OFlag;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    options.custom_flags(flags.bits()).mode(0o600);
}

#[cfg(not(unix))]
fn no_follow(_: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_refused_by_name_before_it_is_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot");
        let file = create_new(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("boot has more than"), "{error}");
        file.set_len(3).unwrap();
        assert_eq!(read(&path).unwrap(), [0; 3]);
    }
}

//! Checks every entry of a store's folder before one is opened: what it is, whom it belongs to, and who else may read
//! it.
//!
//! Serves `folder`, which checks each folder that it opens, and `copy`, which checks the original. The engine opens its
//! files by path, and follows links. So every entry has to be a regular file where the store has a file, and a folder
//! where it has a folder. A race remains: whoever may write to the folder can put a link there after the check and
//! before the engine opens the file. A folder without permissions for others (see [`tighten`]) can be written to by its
//! owner, whose files `imd` could not protect anyway, and by root.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::errors::OpenError;
use super::layout::{self, BLOBS, ENGINE, KEYSPACES, TABLES};
use super::litter::is_litter;
use super::safe_files;

/// Whether symbolic links may stand for the engine's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableLinks {
    /// Every table has to be a file of the folder.
    Refused,
    /// The tables may be links: the folder is a private copy that `imd` has made.
    Allowed,
}

/// Makes sure that every entry is what a store has there. Nothing is changed.
///
/// # Errors
///
/// [`OpenError::UnexpectedEntry`] for the first entry that is something else, belongs to another user or is a hard
/// link; [`OpenError::Unusable`] when the system can't read an entry.
pub fn check(path: &Path, links: TableLinks) -> Result<(), OpenError> {
    let unusable = OpenError::unusable(path);
    let owner = Owner::of(&fs::metadata(path).map_err(unusable)?);
    let mut planted = None;
    walk(path, |entry, found| {
        let why = entry.check_entry(found, links);
        let why = why.or_else(|| {
            let stranger = owner.stranger(found)?;
            Some(format!("belongs to another user ({stranger})"))
        });
        planted = why.map(|why| OpenError::UnexpectedEntry {
            path: path.to_owned(),
            entry: entry.name.clone(),
            why,
        });
        Ok(planted.is_none())
    })
    .map_err(unusable)?;
    planted.map_or(Ok(()), Err)
}

/// Removes the permissions of everybody but the owner from the folder and all its entries, and returns how many entries
/// had some. Links are not followed.
///
/// # Errors
///
/// The error of the system. A file system without permissions may refuse to change them.
pub fn tighten(path: &Path) -> io::Result<u64> {
    // The folder comes first, so that nobody else can reach the rest from then on.
    let mut tightened = tighten_one(path, &fs::metadata(path)?, true)?;
    walk(path, |entry, found| {
        if found.is_dir() || found.is_file() {
            tightened += tighten_one(&entry.path, found, false)?;
        }
        Ok(true)
    })?;
    Ok(tightened)
}

/// An entry of a store's folder.
struct Entry {
    path: PathBuf,
    /// The path relative to the folder.
    name: PathBuf,
}

impl Entry {
    /// Returns what is wrong with the entry, as the rest of a sentence, if it is not what a store has there.
    fn check_entry(&self, found: &Metadata, links: TableLinks) -> Option<String> {
        let parts: Vec<&OsStr> = self.name.iter().collect();
        let (is_folder, is_table) = match parts.as_slice() {
            [engine] => (*engine == ENGINE, false),
            [_, keyspaces] => (*keyspaces == KEYSPACES, false),
            [_, keyspaces, _] => (*keyspaces == KEYSPACES, false),
            [_, _, _, part] => (*part == TABLES || *part == BLOBS, false),
            [_, _, _, part, ..] => (false, *part == TABLES),
            [] => (true, false),
        };
        if is_folder {
            return (!found.is_dir()).then(|| {
                let what = match found.is_file() {
                    true => "a file",
                    false => safe_files::describe(found),
                };
                format!("is {what}, where a store has a folder")
            });
        }
        if is_table && found.is_symlink() && links == TableLinks::Allowed {
            return None;
        }
        if !found.is_file() {
            let what = safe_files::describe(found);
            return Some(format!("is {what}, where a store has a file"));
        }
        // Tables are never written over, so a backup may share them by hard links. Other files are written over.
        (!is_table && hard_links(found) > 1).then(|| {
            "has another name elsewhere (a hard link), and what is written to it would be written there".into()
        })
    }
}

/// Gives every entry of the store to `look`, a folder before its entries, until `look` returns false. Litter is left
/// out, and so are entries that are removed meanwhile.
fn walk(
    path: &Path,
    mut look: impl FnMut(&Entry, &Metadata) -> io::Result<bool>,
) -> io::Result<()> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(path.join(&folder))? {
            let name = entry?.file_name();
            let is_ours = match folder.as_os_str().is_empty() {
                true => {
                    layout::is_part_or_lock(&name) || safe_files::is_unfinished(Path::new(&name))
                }
                false => !is_litter(&name),
            };
            if !is_ours {
                continue;
            }
            let name = folder.join(name);
            let entry = Entry {
                path: path.join(&name),
                name,
            };
            let found = match fs::symlink_metadata(&entry.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                found => found?,
            };
            if !look(&entry, &found)? {
                return Ok(());
            }
            if found.is_dir() {
                folders.push(entry.name);
            }
        }
    }
    Ok(())
}

/// The users whom the entries of a folder may belong to.
struct Owner {
    #[cfg(unix)]
    allowed: [u32; 3],
}

#[cfg(unix)]
impl Owner {
    /// Allows the user of this process, root, and the owner of the folder, who can replace every file of it anyway.
    fn of(folder: &Metadata) -> Owner {
        use std::os::unix::fs::MetadataExt;
        Owner {
            allowed: [0, nix::unistd::geteuid().as_raw(), folder.uid()],
        }
    }

    /// Returns the user whom `found` belongs to, if that is another one.
    fn stranger(&self, found: &Metadata) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        let uid = found.uid();
        (!self.allowed.contains(&uid)).then_some(uid)
    }
}

#[cfg(not(unix))]
impl Owner {
    fn of(_: &Metadata) -> Owner {
        Owner {}
    }

    fn stranger(&self, _: &Metadata) -> Option<u32> {
        None
    }
}

/// Returns the number of hard links of a file.
#[cfg(unix)]
fn hard_links(found: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(found)
}

#[cfg(not(unix))]
fn hard_links(_: &Metadata) -> u64 {
    1
}

/// Removes the permissions of others from one entry, and returns 1 if it had some, else 0. With `may_be_link` a link is
/// followed, because the store's folder itself may be reached through one.
#[cfg(unix)]
fn tighten_one(path: &Path, found: &Metadata, may_be_link: bool) -> io::Result<u64> {
    use nix::fcntl::OFlag;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mode = found.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(0);
    }
    let mut flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    flags.set(OFlag::O_NOFOLLOW, !may_be_link);
    let mut options = fs::OpenOptions::new();
    let options = options.read(true).custom_flags(flags.bits());
    // The handle stays that of the opened entry, whatever takes its name meanwhile.
    let file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        file => file?,
    };
    file.set_permissions(fs::Permissions::from_mode(mode & 0o7700))?;
    Ok(1)
}

#[cfg(not(unix))]
fn tighten_one(_: &Path, _: &Metadata, _: bool) -> io::Result<u64> {
    Ok(0)
}

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
use super::folder_check::{self, TableLinks};
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

/// Copies a folder that is a store, and opens the copy. `begun` is told the folder of the copy before anything is in
/// it, so that the copy can be removed whatever becomes of this thread.
///
/// # Errors
///
/// When the folder is no store, is in use, can't be read, or is not in order, and when there is no space for the copy.
pub fn open(path: &Path, buffer: u64, begun: impl FnOnce(&Path)) -> Result<Copied, OpenError> {
    open_with(path, buffer, begun, |path| fs4::available_space(path))
}

fn open_with(
    path: &Path,
    buffer: u64,
    begun: impl FnOnce(&Path),
    free_space: impl FnOnce(&Path) -> io::Result<u64>,
) -> Result<Copied, OpenError> {
    let unusable = OpenError::unusable(path);
    if folder::read_format(path)?.is_none() {
        return Err(OpenError::NoStore(path.to_owned()));
    }
    folder_check::check(path, TableLinks::Refused)?;
    let original = lock_out_writers(path)?;
    let temp = std::env::temp_dir();
    let copy = tempfile::Builder::new().prefix("imd-store-").tempdir();
    let copy = copy.map_err(|error| {
        let what = format!("a copy to look at can't be made in {}", temp.display());
        unusable(saying(&error, what))
    })?;
    begun(copy.path());
    let from = absolute(path).map_err(unusable)?;
    let steps = plan(&from, copy.path()).map_err(unusable)?;
    check_room(&steps, &temp, free_space).map_err(unusable)?;
    steps.iter().try_for_each(Step::run).map_err(unusable)?;
    let folder = folder::open_copy(copy.path(), buffer);
    let folder = folder.map_err(|error| error.with_original_path(copy.path(), path))?;
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

/// One thing that is put into the copy.
#[derive(Debug)]
enum Step {
    /// A folder.
    Folder { to: PathBuf },
    /// A file with the same contents.
    File { from: PathBuf, to: PathBuf },
    /// A link to a table.
    Link { from: PathBuf, to: PathBuf },
}

impl Step {
    fn run(&self) -> io::Result<()> {
        match self {
            Step::Folder { to } => fs::create_dir(to)
                .map_err(|error| saying(&error, format!("{} can't be made", to.display()))),
            Step::File { from, to } => copy_file(from, to).map_err(|error| {
                let what = format!("{} can't be copied to {}", from.display(), to.display());
                saying(&error, what)
            }),
            Step::Link { from, to } => link(from, to),
        }
    }
}

/// Returns the steps that copy the parts of a store, and no other entries of its folder.
fn plan(from: &Path, to: &Path) -> io::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if layout::is_part(&entry.file_name()) {
            add_steps(&entry.path(), to.join(entry.file_name()), &mut steps)?;
        }
    }
    Ok(steps)
}

/// Adds the steps that copy a file, or a folder with all its entries.
fn add_steps(from: &Path, to: PathBuf, steps: &mut Vec<Step>) -> io::Result<()> {
    let failed = |error| saying(&error, format!("{} can't be read", from.display()));
    if !fs::symlink_metadata(from).map_err(failed)?.is_dir() {
        let from = from.to_owned();
        steps.push(Step::File { from, to });
        return Ok(());
    }
    steps.push(Step::Folder { to: to.clone() });
    let is_of_tables = from.file_name().is_some_and(|name| name == TABLES);
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if is_litter(&entry.file_name()) {
            continue;
        }
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if is_of_tables {
            steps.push(Step::Link { from, to });
        } else {
            add_steps(&from, to, steps)?;
        }
    }
    Ok(())
}

/// Makes sure, before anything is written, that the files of a copy fit the folder `temp`: other programs need the rest
/// of its disk. If the system can't tell the free space, the copy is tried.
fn check_room(
    steps: &[Step],
    temp: &Path,
    free_space: impl FnOnce(&Path) -> io::Result<u64>,
) -> io::Result<()> {
    let Ok(free) = free_space(temp) else {
        return Ok(());
    };
    let mut needed = 0;
    for step in steps {
        if let Step::File { from, .. } = step {
            let counted = read_chunks(from, |_, bytes| {
                needed += bytes.len() as u64;
                Ok(())
            });
            counted.map_err(|error| saying(&error, format!("{} can't be read", from.display())))?;
        }
    }
    if needed < free {
        return Ok(());
    }
    let temp = temp.display();
    let why =
        format!("a copy to look at takes {needed} bytes, and {temp} has {free} bytes of room left");
    Err(io::Error::new(ErrorKind::StorageFull, why))
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
    let mut to = safe_files::create_new(to)?;
    let len = read_chunks(from, |at, bytes| {
        to.seek(SeekFrom::Start(at))?;
        to.write_all(bytes)
    })?;
    to.set_len(len)
}

/// Gives the parts of a file to `part`, each with its position, except for those that are zero. Returns the length of
/// the file.
fn read_chunks(path: &Path, mut part: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut file = safe_files::open(path, OpenOptions::new().read(true))?;
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let read = file.read(&mut chunk)?;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(at);
        }
        if bytes.iter().any(|&byte| byte != 0) {
            part(at, bytes)?;
        }
        at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::store::{DurableStore, StoreAdmin};

    #[tokio::test]
    async fn a_copy_that_does_not_fit_is_refused_before_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let config = config::Store::default();
        let store = DurableStore::open(folder.path(), &config).unwrap();
        store.close().await.unwrap();
        let mut copy = PathBuf::new();
        let mut open = |free: Result<u64, ErrorKind>| {
            let begun = |path: &Path| {
                assert!(path.is_dir());
                copy = path.to_owned();
            };
            let opened = open_with(folder.path(), config.buffer, begun, |temp| {
                assert_eq!(temp, std::env::temp_dir());
                free.map_err(io::Error::from)
            });
            let result = opened.map(drop).map_err(|error| error.to_string());
            assert!(!copy.exists(), "{copy:?} is left");
            result
        };
        let refused = open(Ok(1_000)).unwrap_err();
        let needed = refused.split("takes ").nth(1).unwrap();
        let needed: u64 = needed.split(' ').next().unwrap().parse().unwrap();
        // The space that a journal has set aside is not copied.
        assert!((1_000..1 << 20).contains(&needed), "{refused}");
        assert!(refused.contains("has 1000 bytes of room left"), "{refused}");
        open(Ok(needed)).unwrap_err();
        open(Ok(needed + 1)).unwrap();
        open(Err(ErrorKind::Unsupported)).unwrap();
    }
}

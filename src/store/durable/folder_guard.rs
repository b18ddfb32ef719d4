//! Notices that a store's folder is gone: removed, moved away, replaced by another, or unmounted.
//!
//! Serves the writer, which checks before it acknowledges a commit with writes of clients, and when free space may be
//! short.
//!
//! The engine writes to open files, which take everything that is written even when they have no name any more. So a
//! write is acknowledged only after the folder was found where it was opened, with the same lock file and journal. That
//! takes two `stat` calls a commit. A folder that is removed after the check can't be protected.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::layout::{ENGINE, FORMAT, ID, KEYSPACES, LOCK};
use super::{checkpoint, wal};

/// The files that a folder must have as long as its store is open.
#[derive(Debug)]
pub struct FolderGuard {
    folder: Known,
    lock: Known,
    /// The number and the file of the newest journal, which gets the next commit.
    journal: Option<(u64, Known)>,
    /// Files that the next start needs. They may be replaced meanwhile, so their identity is not compared.
    needed: Vec<PathBuf>,
}

/// A file, as it was when the store was opened.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    identity: Identity,
}

impl FolderGuard {
    /// Begins to watch a folder whose engine is open. `lock` is the folder's locked lock file.
    ///
    /// # Errors
    ///
    /// The error of the system, when the folder or the lock file can't be examined.
    pub fn begin(folder: &Path, lock: &File) -> io::Result<FolderGuard> {
        let engine = folder.join(ENGINE);
        let mut needed = vec![
            folder.join(FORMAT),
            folder.join(ID),
            checkpoint::path(folder),
            engine.join("version"),
        ];
        for keyspace in fs::read_dir(engine.join(KEYSPACES))? {
            let keyspace = keyspace?;
            if keyspace.file_type()?.is_dir() {
                needed.push(keyspace.path().join("current"));
            }
        }
        let mut guard = FolderGuard {
            folder: Known {
                path: folder.to_owned(),
                identity: identity(&fs::metadata(folder)?),
            },
            lock: Known {
                path: folder.join(LOCK),
                identity: identity(&lock.metadata()?),
            },
            journal: None,
            needed,
        };
        guard.renew();
        Ok(guard)
    }

    /// Takes the newest journal for the one that gets the next commit. Has to be called after the engine was opened
    /// again.
    pub fn renew(&mut self) {
        self.journal = newest_journal(&self.folder.path);
    }

    /// Makes sure that the last commit is where the next start looks for it.
    ///
    /// # Errors
    ///
    /// The sentence that says what is gone.
    pub fn check_commit(&mut self) -> Result<(), String> {
        // If the folder itself is gone or replaced, the error names the folder rather than the lock file in it.
        if let Err(why) = self.lock.check() {
            let folder = self.folder.check();
            return Err(folder.map_or_else(|why| why, |()| why));
        }
        match &self.journal {
            Some((_, journal)) if journal.check().is_ok() => Ok(()),
            _ => self.check_journal(),
        }
    }

    /// Makes sure that everything the next start needs is there, except for the tables.
    ///
    /// # Errors
    ///
    /// As [`check_commit`](Self::check_commit).
    pub fn check_all(&mut self) -> Result<(), String> {
        self.check_commit()?;
        self.check_journal()?;
        for path in &self.needed {
            fs::symlink_metadata(path).map_err(|error| gone(path, &error))?;
        }
        Ok(())
    }

    /// Makes sure that the newest journal is the known one or a newer one: the engine begins a new journal when one is
    /// full, and removes the older one later.
    fn check_journal(&mut self) -> Result<(), String> {
        let found = newest_journal(&self.folder.path);
        match (&self.journal, &found) {
            (Some((last, journal)), Some((number, _))) if number <= last => journal.check(),
            (Some((_, journal)), None) => journal.check(),
            (None, None) => Err(format!(
                "{} has no journal any more",
                self.folder.path.display()
            )),
            (_, Some(_)) => {
                self.journal = found;
                Ok(())
            }
        }
    }
}

impl Known {
    /// Makes sure that the path still leads to this file.
    fn check(&self) -> Result<(), String> {
        let found = fs::metadata(&self.path).map_err(|error| gone(&self.path, &error))?;
        if identity(&found) == self.identity {
            return Ok(());
        }
        let path = self.path.display();
        Err(format!(
            "{path} is not the one that was opened any more: something else is in its place"
        ))
    }
}

fn gone(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!("{path} is gone: it was removed or moved away"),
        _ => format!("{path} can't be reached any more: {error}"),
    }
}

fn newest_journal(folder: &Path) -> Option<(u64, Known)> {
    let (number, path) = wal::paths(&folder.join(ENGINE)).ok()?.pop()?;
    let identity = identity(&fs::metadata(&path).ok()?);
    Some((number, Known { path, identity }))
}

/// The identity of a file, which no other file has at the same time: its file system and its inode.
#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(found: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino())
}

/// Other systems don't remove open files.
#[cfg(not(unix))]
type Identity = ();

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {}

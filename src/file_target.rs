//! Writes a file that a user has named, such as an address file or a snapshot.
//!
//! Serves the program and the files of snapshots.
//!
//! Only a regular file is ever replaced or removed. A pipe or a character device is written to and stays. Anything else
//! is refused, since the user probably meant something else. A symbolic link is followed only to a pipe or a character
//! device (`/dev/stdout` is one). A regular file is never written through a link, and only its owner can read it.

use std::ffi::OsString;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Interval between attempts to open a pipe that has no reader yet. The system offers no event for it.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// A path that can be written to.
#[derive(Debug, Clone)]
pub struct FileTarget {
    path: PathBuf,
    kind: Kind,
    is_synced: bool,
}

/// How a path is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A regular file that exists, or a path at which one can be created.
    Regular,
    /// A pipe or a character device.
    Stream,
}

/// Why a path can't be written to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The path is of a kind that is never written to, such as a folder.
    #[error("{}: {why}", .path.display())]
    Unfit {
        /// The path that the user named.
        path: PathBuf,
        /// What is at the path, and what to do instead, as text for people.
        why: &'static str,
    },
    /// A system call failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The path that the user named.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

impl FileTarget {
    /// Examines `path` without changing anything.
    ///
    /// # Errors
    ///
    /// [`TargetError::Unfit`] if the path is a folder, a socket, a block device, or a symbolic link to anything but a
    /// pipe or a character device; [`TargetError::Io`] if it can't be examined or its folder does not exist.
    pub fn at(path: &Path) -> Result<FileTarget, TargetError> {
        let path = path.to_owned();
        if path.file_name().is_none() {
            let why = "this is no name of a file";
            return Err(TargetError::Unfit { path, why });
        }
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => Some(found.file_type()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && has_folder(&path) => None,
            Err(source) => return Err(TargetError::Io { path, source }),
        };
        match found.map_or(Ok(Kind::Regular), |found| fit(&path, found)) {
            Ok(kind) => Ok(FileTarget {
                path,
                kind,
                is_synced: false,
            }),
            Err(why) => Err(TargetError::Unfit { path, why }),
        }
    }

    /// Syncs a regular file to the disk before it replaces the older one.
    #[must_use]
    pub fn synced(self) -> FileTarget {
        FileTarget {
            is_synced: true,
            ..self
        }
    }

    /// Returns the path that the user named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the path is a pipe or a character device. Writing to it may wait for a reader.
    pub fn is_stream(&self) -> bool {
        self.kind == Kind::Stream
    }

    /// Removes the regular file at the path. Does nothing if there is none, or if the path is a pipe or a character
    /// device.
    ///
    /// # Errors
    ///
    /// The error of the system call.
    pub fn remove(&self) -> io::Result<()> {
        if self.is_stream() {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Writes the file with `write`. Blocks the thread for as long as the disk or the reader of a pipe takes.
    ///
    /// A regular file is written under a temporary name and renamed, so that readers see the old or the new contents
    /// and nothing in between; on an error nothing is left behind. A pipe without a reader is tried for the time
    /// `patience`.
    ///
    /// # Errors
    ///
    /// [`TargetError`] if a system call or `write` fails, if nobody reads the pipe, or if the path has become unfit
    /// since [`at`](Self::at) examined it.
    pub fn write(
        &self,
        patience: Duration,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), TargetError> {
        let failed = |source| TargetError::Io {
            path: self.path.clone(),
            source,
        };
        if self.is_stream() {
            let mut stream = self.open_stream(patience)?;
            return write(&mut stream).map_err(failed);
        }
        let temporary = self.temporary();
        let written = self.write_whole(&temporary, write).map_err(failed);
        // The path is examined once more, since the rename would replace whatever is there by now.
        let written = written.and_then(|()| match FileTarget::at(&self.path)?.kind {
            Kind::Regular => fs::rename(&temporary, &self.path).map_err(failed),
            Kind::Stream => Err(failed(io::ErrorKind::AlreadyExists.into())),
        });
        if written.is_err() {
            // Removing fails if the file was never created, which is no error.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write_whole(
        &self,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = BufWriter::new(options.open(path)?);
        write(&mut out)?;
        let file = out.into_inner()?;
        match self.is_synced {
            true => file.sync_all(),
            false => Ok(()),
        }
    }

    /// Returns an unused path in the same folder, since a rename must not cross file systems.
    fn temporary(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{:016x}.tmp", rand::random::<u64>()));
        self.path.with_file_name(name)
    }

    #[cfg(unix)]
    fn open_stream(&self, patience: Duration) -> Result<File, TargetError> {
        use nix::errno::Errno;
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        use std::os::unix::fs::OpenOptionsExt;
        let path = || self.path.clone();
        let begun = Instant::now();
        let mut options = OpenOptions::new();
        // Otherwise the open call would block until the pipe has a reader.
        options
            .write(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
        loop {
            match options.open(&self.path) {
                Ok(stream) => {
                    // The path may have been replaced since it was examined.
                    let is_still = stream
                        .metadata()
                        .is_ok_and(|found| is_stream(found.file_type()));
                    if !is_still {
                        let why = "this was replaced while it was opened";
                        return Err(TargetError::Unfit { path: path(), why });
                    }
                    // Without the flag O_NONBLOCK, writes wait for a slow reader from now on.
                    fcntl(&stream, FcntlArg::F_SETFL(OFlag::empty())).map_err(|error| {
                        TargetError::Io {
                            path: path(),
                            source: error.into(),
                        }
                    })?;
                    return Ok(stream);
                }
                Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
                    if begun.elapsed() >= patience {
                        let why = "nobody reads this pipe: open it for reading first";
                        return Err(TargetError::Unfit { path: path(), why });
                    }
                    std::thread::sleep(RETRY_EVERY);
                }
                Err(source) => {
                    return Err(TargetError::Io {
                        path: path(),
                        source,
                    });
                }
            }
        }
    }

    #[cfg(not(unix))]
    fn open_stream(&self, _: Duration) -> Result<File, TargetError> {
        let opened = OpenOptions::new().write(true).open(&self.path);
        opened.map_err(|source| TargetError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// Returns whether the folder of a path exists.
fn has_folder(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| folder != &Path::new(""));
    folder.is_none_or(Path::is_dir)
}

/// Returns how a path of this type is written to.
///
/// # Errors
///
/// Why it is not, as text for people.
fn fit(path: &Path, found: FileType) -> Result<Kind, &'static str> {
    if found.is_file() {
        return Ok(Kind::Regular);
    }
    if found.is_symlink() {
        return match fs::metadata(path) {
            Ok(target) if is_stream(target.file_type()) => Ok(Kind::Stream),
            Ok(_) => Err("this is a symbolic link: name what it leads to"),
            Err(_) => Err("this is a symbolic link that leads nowhere: remove it, or name a file"),
        };
    }
    if is_stream(found) {
        return Ok(Kind::Stream);
    }
    match found.is_dir() {
        true => Err("this is a folder: name a file in it"),
        false => Err("this is a socket or a block device: name a file"),
    }
}

#[cfg(unix)]
fn is_stream(found: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    found.is_fifo() || found.is_char_device()
}

#[cfg(not(unix))]
fn is_stream(_: FileType) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    const NOW: Duration = Duration::ZERO;

    fn say(target: &FileTarget, text: &str) -> Result<(), TargetError> {
        target.write(NOW, |out| out.write_all(text.as_bytes()))
    }

    #[test]
    fn a_regular_file_is_replaced_whole_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["one", "another"] {
            say(&FileTarget::at(&path).unwrap(), text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let target = FileTarget::at(&path).unwrap();
        let broken = target.write(NOW, |out| {
            out.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(broken, Err(TargetError::Io { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "another");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        target.remove().unwrap();
        target.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn folders_sockets_and_links_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), "theirs").unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        symlink(at("folder"), at("to-folder")).unwrap();
        for name in ["folder", "socket", "link", "dangling", "to-folder", ".."] {
            let refused = FileTarget::at(&at(name));
            assert!(matches!(refused, Err(TargetError::Unfit { .. })), "{name}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "theirs");
        // Something that is put at the path later is not replaced either.
        let target = FileTarget::at(&at("new")).unwrap();
        symlink(at("nowhere"), at("new")).unwrap();
        assert!(matches!(say(&target, "x"), Err(TargetError::Unfit { .. })));
        assert!(fs::symlink_metadata(at("new")).unwrap().is_symlink());
    }

    #[test]
    fn pipes_and_devices_are_written_through_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        let target = FileTarget::at(&path).unwrap();
        let refused = say(&target, "x").unwrap_err();
        assert!(refused.to_string().contains("nobody reads"), "{refused}");
        let long = "long".repeat(100_000);
        for path in [path.clone(), link] {
            let target = FileTarget::at(&path).unwrap();
            let reader = std::thread::spawn(move || {
                let mut text = String::new();
                File::open(path).unwrap().read_to_string(&mut text).unwrap();
                text
            });
            let patience = Duration::from_secs(60);
            let written = target.write(patience, |out| out.write_all(long.as_bytes()));
            written.unwrap();
            assert_eq!(reader.join().unwrap(), long);
            target.remove().unwrap();
        }
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        let null = FileTarget::at(Path::new("/dev/null")).unwrap();
        say(&null, "x").unwrap();
        null.remove().unwrap();
        assert!(
            fs::metadata("/dev/null")
                .unwrap()
                .file_type()
                .is_char_device()
        );
    }
}

//! Simulates a power cut after a kill. A kill loses nothing that was written, because the kernel still has it; a power cut
//! loses everything that was not synced. So the files are cut back to what had reached the disk.
//!
//! Serves the torture of a folder. A log of strace tells what had reached the disk: of each file, the bytes that were written
//! before its last completed sync began. Two things are not simulated:
//!
//! - Names. A file keeps the name that it has, because the log does not show what a file system would make of a folder that
//!   was not synced.
//! - The file `mark`, which is left as it is. The store writes it after the commits that it counts were synced, so a mark is
//!   never ahead of the disk, and the store has to open with one that is behind.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

use super::kill::MARK;

/// The name of the file that holds the boot id of the machine.
const BOOT: &str = "boot";

/// How far the files of a folder are written, and how far they are synced.
#[derive(Debug, Default)]
pub struct Disk {
    files: HashMap<PathBuf, FileState>,
    /// The files that are open for writing, by descriptor.
    open: HashMap<u32, OpenFile>,
}

/// A file that is open for writing.
#[derive(Debug, Clone, Copy, Default)]
struct OpenFile {
    /// The position of the next write.
    at: u64,
    /// Whether every write goes to the end of the file.
    appends: bool,
}

/// How far one file is written and synced.
#[derive(Debug, Clone, Copy, Default)]
struct FileState {
    /// The end of the bytes that were written.
    end: u64,
    /// The length of the file, which may be more than `end`.
    length: u64,
    /// Whether the length was set beyond the end, to reserve room for later writes.
    has_room: bool,
    /// The bytes up to here are on the disk.
    synced: u64,
}

/// One system call in a log.
struct Call<'a> {
    name: &'a str,
    args: &'a str,
    /// The returned number, or `None` if the call did not return one.
    returned: Option<i64>,
}

impl Disk {
    /// Returns the files of a folder as they are, as if all of them were synced.
    pub fn of(folder: &Path) -> io::Result<Disk> {
        let mut disk = Disk::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let meta = entry.metadata()?;
                if meta.is_dir() {
                    folders.push(entry.path());
                } else {
                    let written = FileState {
                        end: meta.len(),
                        length: meta.len(),
                        synced: meta.len(),
                        has_room: false,
                    };
                    disk.files.insert(entry.path(), written);
                }
            }
        }
        Ok(disk)
    }

    /// Takes over from the end of an earlier run which bytes are not synced: the end of a process syncs nothing.
    ///
    /// How far files are written is not taken over, because the last call of a killed process may be done and not logged.
    pub fn keep_unsynced(&mut self, earlier: &Disk) {
        for (path, written) in &mut self.files {
            if let Some(earlier) = earlier.files.get(path) {
                written.synced = written.synced.min(earlier.synced);
                written.has_room = earlier.has_room;
            }
        }
    }

    /// Applies every call in a log of strace.
    pub fn follow(&mut self, log: &str) {
        // A call during which other threads make calls has two lines, at its begin and at its end. A sync covers only the bytes
        // that were written before it began, so the ends of all files are noted there.
        let mut unfinished: HashMap<&str, (&str, HashMap<PathBuf, u64>)> = HashMap::new();
        for line in log.lines() {
            let Some((pid, rest)) = line.trim_start().split_once(' ') else {
                continue;
            };
            let rest = rest.trim_start();
            if let Some(rest) = rest.strip_suffix("<unfinished ...>") {
                unfinished.insert(pid, (rest, self.ends()));
            } else if rest.starts_with("<...") {
                if let Some(((_, after), (before, ends))) =
                    rest.split_once("resumed>").zip(unfinished.remove(pid))
                {
                    let whole = format!("{before}{after}");
                    if let Some(call) = Call::parse(&whole) {
                        self.apply(&call, Some(&ends));
                    }
                }
            } else if let Some(call) = Call::parse(rest) {
                self.apply(&call, None);
            }
        }
    }

    /// Returns the end of each file.
    fn ends(&self) -> HashMap<PathBuf, u64> {
        let files = self.files.iter();
        files.map(|(path, file)| (path.clone(), file.end)).collect()
    }

    /// Applies one call. `ends` are the ends of the files when it began, if other calls were made meanwhile.
    fn apply(&mut self, call: &Call<'_>, ends: Option<&HashMap<PathBuf, u64>>) {
        let Some(returned) = call.returned.and_then(|n| u64::try_from(n).ok()) else {
            return;
        };
        match call.name {
            "openat" => {
                let Some(path) = call.quoted().next() else {
                    return;
                };
                let is = |flag| call.args.contains(flag);
                if !is("O_WRONLY") && !is("O_RDWR") {
                    return;
                }
                let file = self.files.entry(path.into()).or_default();
                if is("O_TRUNC") {
                    *file = FileState::default();
                }
                let appends = is("O_APPEND");
                if let Ok(fd) = u32::try_from(returned) {
                    self.open.insert(fd, OpenFile { at: 0, appends });
                }
            }
            "write" | "writev" => {
                let Some((fd, path)) = call.fd() else { return };
                let Some(file) = self.files.get_mut(Path::new(path)) else {
                    return;
                };
                let open = self.open.entry(fd).or_default();
                let at = if open.appends { file.length } else { open.at };
                open.at = at + returned;
                file.end = file.end.max(open.at);
                file.length = file.length.max(open.at);
            }
            "lseek" => {
                if let Some((fd, _)) = call.fd() {
                    self.open.entry(fd).or_default().at = returned;
                }
            }
            "ftruncate" => {
                let length = call.args.rsplit(", ").next();
                let length = length.and_then(|length| length.parse().ok());
                if let (Some(file), Some(length)) = (self.file(call), length) {
                    file.length = length;
                    file.has_room = length > file.end;
                    file.end = file.end.min(length);
                    file.synced = file.synced.min(length);
                }
            }
            "fdatasync" | "fsync" => {
                let end = call.fd().and_then(|(_, path)| ends?.get(Path::new(path)));
                if let Some(file) = self.file(call) {
                    file.synced = end.copied().unwrap_or(file.end).min(file.end);
                }
            }
            "rename" | "renameat" | "renameat2" => {
                let mut paths = call.quoted().map(PathBuf::from);
                if let (Some(from), Some(to)) = (paths.next(), paths.next())
                    && let Some(file) = self.files.remove(&from)
                {
                    self.files.insert(to, file);
                }
            }
            "unlink" | "unlinkat" => {
                if let Some(path) = call.quoted().next() {
                    self.files.remove(Path::new(path));
                }
            }
            _ => {}
        }
    }

    /// Returns the file of the descriptor that is the first argument.
    fn file(&mut self, call: &Call<'_>) -> Option<&mut FileState> {
        let (_, path) = call.fd()?;
        self.files.get_mut(Path::new(path))
    }

    /// Returns how many bytes in a folder were written and not synced.
    pub fn unsynced(&self, folder: &Path) -> u64 {
        let files = self.unsynced_in(folder);
        files.map(|(_, file)| file.end - file.synced).sum()
    }

    fn unsynced_in(&self, folder: &Path) -> impl Iterator<Item = (&PathBuf, &FileState)> {
        let files = self.files.iter();
        files.filter(move |(path, file)| {
            path.starts_with(folder) && !path.ends_with(MARK) && file.synced < file.end
        })
    }

    /// Cuts the files in a folder back to their synced bytes. With `torn`, each keeps a random part of the bytes behind them.
    pub fn cut(&self, folder: &Path, mut torn: Option<&mut StdRng>) -> io::Result<()> {
        for (path, file) in self.unsynced_in(folder) {
            let left = match &mut torn {
                Some(rng) => rng.random_range(file.synced..=file.end),
                None => file.synced,
            };
            let on_disk = match OpenOptions::new().write(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                on_disk => on_disk?,
            };
            on_disk.set_len(left)?;
            if file.has_room {
                // The reserved room survives, filled with zeros.
                on_disk.set_len(file.length)?;
            }
        }
        // After a power cut the machine has another boot id.
        let boot = folder.join(BOOT);
        if boot.exists() {
            fs::write(boot, "another")?;
        }
        Ok(())
    }
}

impl<'a> Call<'a> {
    /// Parses `name(args) = returned`.
    fn parse(line: &'a str) -> Option<Call<'a>> {
        let (name, rest) = line.split_once('(')?;
        let (args, returned) = rest.rsplit_once(" = ")?;
        let args = args.trim_end().strip_suffix(')')?.trim_end();
        let number = returned.split([' ', '<']).next()?;
        Some(Call {
            name,
            args,
            returned: number.parse().ok(),
        })
    }

    /// Returns the descriptor that is the first argument, and its path: `5</path>`.
    fn fd(&self) -> Option<(u32, &'a str)> {
        let first = self.args.split(", ").next()?;
        let (fd, path) = first.strip_suffix('>')?.split_once('<')?;
        Some((fd.parse().ok()?, path))
    }

    /// Returns the arguments in quotes, which are paths.
    fn quoted(&self) -> impl Iterator<Item = &'a str> {
        self.args.split('"').skip(1).step_by(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Makes a folder with these files, cuts it back by a log in which `DIR` is the folder, and returns the files that are left.
    fn cut(log: &str, files: &[(&str, &str)], torn: bool) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        let mut disk = Disk::default();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        disk.follow(&log.replace("DIR", folder.to_str().unwrap()));
        let mut rng = StdRng::seed_from_u64(1);
        disk.cut(&folder, torn.then_some(&mut rng)).unwrap();
        let read = |(name, _): &(&str, &str)| {
            let text = fs::read_to_string(folder.join(name)).unwrap();
            ((*name).to_owned(), text)
        };
        files.iter().map(read).collect()
    }

    #[test]
    fn bytes_written_after_the_last_completed_sync_are_lost() {
        let log = r#"
11 openat(AT_FDCWD</>, "DIR/a", O_WRONLY|O_CREAT|O_EXCL, 0666) = 5<DIR/a>
11 write(5<DIR/a>, ""..., 3)       = 3
12 openat(AT_FDCWD</>, "DIR/b", O_WRONLY|O_CREAT|O_EXCL, 0666) = 6<DIR/b>
11 fdatasync(5<DIR/a>)             = 0
12 write(6<DIR/b>, ""..., 4)       = 4
11 write(5<DIR/a>, ""..., 3 <unfinished ...>
12 fsync(6<DIR/b> <unfinished ...>
11 <... write resumed>)            = 3
12 <... fsync resumed>)            = -1 EIO (Input/output error) (INJECTED)
11 fdatasync(5<DIR/a> <unfinished ...>
12 +++ killed by SIGKILL +++
11 <... fdatasync resumed>)        = ?
"#;
        let left = cut(log, &[("a", "abcdef"), ("b", "abcd")], false);
        assert_eq!(
            left,
            [("a".into(), "abc".into()), ("b".into(), String::new())]
        );
    }

    #[test]
    fn a_sync_covers_the_bytes_that_were_written_before_it_began() {
        let log = r#"
11 openat(AT_FDCWD</>, "DIR/a", O_WRONLY|O_CREAT|O_EXCL, 0666) = 5<DIR/a>
11 write(5<DIR/a>, ""..., 3) = 3
12 fsync(5<DIR/a> <unfinished ...>
11 write(5<DIR/a>, ""..., 2) = 2
12 <... fsync resumed>) = 0
"#;
        let left = cut(log, &[("a", "abcde")], false);
        assert_eq!(left, [("a".into(), "abc".into())]);
    }

    #[test]
    fn reserved_room_stays_and_a_renamed_file_keeps_its_state() {
        let log = r#"
11 openat(AT_FDCWD</>, "DIR/new", O_RDWR|O_CREAT|O_EXCL, 0666) = 5<DIR/new>
11 ftruncate(5<DIR/new>, 8) = 0
11 fsync(5<DIR/new>) = 0
11 write(5<DIR/new>, ""..., 2) = 2
11 fdatasync(5<DIR/new>) = 0
11 write(5<DIR/new>, ""..., 2) = 2
11 rename("DIR/new", "DIR/a") = 0
"#;
        let left = cut(log, &[("a", "abcd\0\0\0\0")], false);
        assert_eq!(left, [("a".into(), "ab\0\0\0\0\0\0".into())]);
    }

    #[test]
    fn appended_bytes_count_from_the_end_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        fs::write(folder.join("a"), "old").unwrap();
        let mut disk = Disk::of(&folder).unwrap();
        let log = r#"
11 openat(AT_FDCWD</>, "DIR/a", O_WRONLY|O_APPEND) = 5<DIR/a>
11 write(5<DIR/a>, ""..., 1) = 1
11 fdatasync(5<DIR/a>) = 0
11 write(5<DIR/a>, ""..., 1) = 1
"#;
        disk.follow(&log.replace("DIR", folder.to_str().unwrap()));
        assert_eq!(disk.unsynced(&folder), 1);
        fs::write(folder.join("a"), "old12").unwrap();
        // The next process reads both bytes, but only one of them is on the disk.
        let mut next = Disk::of(&folder).unwrap();
        next.keep_unsynced(&disk);
        assert_eq!(next.unsynced(&folder), 1);
        // A sync by the next process brings the other one to the disk.
        let mut synced = Disk::of(&folder).unwrap();
        synced.keep_unsynced(&disk);
        let log = r#"
11 openat(AT_FDCWD</>, "DIR/a", O_WRONLY|O_APPEND) = 5<DIR/a>
11 fsync(5<DIR/a>) = 0
"#;
        synced.follow(&log.replace("DIR", folder.to_str().unwrap()));
        synced.cut(&folder, None).unwrap();
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "old12");
        next.cut(&folder, None).unwrap();
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "old1");
    }

    #[test]
    fn a_torn_tail_keeps_every_synced_byte() {
        let log = r#"
11 openat(AT_FDCWD</>, "DIR/a", O_WRONLY|O_CREAT|O_EXCL, 0666) = 5<DIR/a>
11 write(5<DIR/a>, ""..., 1) = 1
11 fdatasync(5<DIR/a>) = 0
11 write(5<DIR/a>, ""..., 99) = 99
"#;
        let text = "x".repeat(100);
        let left = cut(log, &[("a", &text)], true);
        assert!((1..=100).contains(&left[0].1.len()), "{left:?}");
    }
}

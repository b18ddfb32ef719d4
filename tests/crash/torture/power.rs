//! Simulates a power cut. After a kill, the kernel still has everything that was written. So the folder is taken back to
//! what had reached the disk.
//!
//! A log of strace says what that is: of every file, the bytes that were written before its last completed sync
//! began. Names are taken as they are: the log shows that folders are synced, not what a file system would make of a
//! folder that is not. The file `mark` is left as it is too, since it is written only after what it speaks of was synced:
//! it is the store that has to live with a mark that is older, and never with one that is ahead.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

use super::kill::MARK;

/// The file with the boot id of the machine.
const BOOT: &str = "boot";

/// How far the files of a folder are written, and how far they are synced.
#[derive(Debug, Default)]
pub struct Disk {
    files: HashMap<PathBuf, Written>,
    open: HashMap<u32, Open>,
}

/// An open file, by its descriptor.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    /// The position of the next write.
    at: u64,
    /// Whether writes always go to the end.
    appends: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Written {
    /// The end of what was written.
    end: u64,
    length: u64,
    /// Whether the length was set, to have room.
    has_room: bool,
    synced: u64,
}

/// One call of a log.
struct Call<'a> {
    name: &'a str,
    args: &'a str,
    /// None when it did not return.
    returned: Option<i64>,
}

impl Disk {
    /// Returns the files of a folder as they are, all of them synced.
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
                    let written = Written {
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

    /// What was not synced in an earlier life is not synced by the death of that. How far it was written is not taken
    /// from there: the last call may have been done, and not logged.
    pub fn keep_unsynced(&mut self, earlier: &Disk) {
        for (path, written) in &mut self.files {
            if let Some(earlier) = earlier.files.get(path) {
                written.synced = written.synced.min(earlier.synced);
                written.has_room = earlier.has_room;
            }
        }
    }

    /// Follows a log of strace.
    pub fn follow(&mut self, log: &str) {
        // A call that others interrupt stands in two lines; what a sync covers was written before it began.
        let mut begun: HashMap<&str, (&str, HashMap<PathBuf, u64>)> = HashMap::new();
        for line in log.lines() {
            let Some((pid, rest)) = line.trim_start().split_once(' ') else {
                continue;
            };
            let rest = rest.trim_start();
            if let Some(rest) = rest.strip_suffix("<unfinished ...>") {
                begun.insert(pid, (rest, self.ends()));
            } else if rest.starts_with("<...") {
                if let Some(((_, after), (before, ends))) =
                    rest.split_once("resumed>").zip(begun.remove(pid))
                {
                    let whole = format!("{before}{after}");
                    if let Some(call) = Call::parse(&whole) {
                        self.take(&call, Some(&ends));
                    }
                }
            } else if let Some(call) = Call::parse(rest) {
                self.take(&call, None);
            }
        }
    }

    fn ends(&self) -> HashMap<PathBuf, u64> {
        let files = self.files.iter();
        files.map(|(path, file)| (path.clone(), file.end)).collect()
    }

    fn take(&mut self, call: &Call<'_>, ends: Option<&HashMap<PathBuf, u64>>) {
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
                    *file = Written::default();
                }
                let appends = is("O_APPEND");
                if let Ok(fd) = u32::try_from(returned) {
                    self.open.insert(fd, Open { at: 0, appends });
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

    fn file(&mut self, call: &Call<'_>) -> Option<&mut Written> {
        let (_, path) = call.fd()?;
        self.files.get_mut(Path::new(path))
    }

    /// Returns how many bytes of a folder were written and not synced.
    pub fn unsynced(&self, folder: &Path) -> u64 {
        let files = self.unsynced_in(folder);
        files.map(|(_, file)| file.end - file.synced).sum()
    }

    fn unsynced_in(&self, folder: &Path) -> impl Iterator<Item = (&PathBuf, &Written)> {
        let files = self.files.iter();
        files.filter(move |(path, file)| {
            path.starts_with(folder) && !path.ends_with(MARK) && file.synced < file.end
        })
    }

    /// Takes the files of a folder back to what was synced; `torn` leaves some of the rest.
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
                // The room that was set aside is still there, and empty.
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
    /// `name(args) = returned`
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

    /// The descriptor that is the first argument, and its path: `5</path>`.
    fn fd(&self) -> Option<(u32, &'a str)> {
        let first = self.args.split(", ").next()?;
        let (fd, path) = first.strip_suffix('>')?.split_once('<')?;
        Some((fd.parse().ok()?, path))
    }

    fn quoted(&self) -> impl Iterator<Item = &'a str> {
        self.args.split('"').skip(1).step_by(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// A log for a folder, and the folder with these files.
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
    fn what_was_written_after_the_last_completed_sync_is_gone() {
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
    fn a_sync_covers_what_was_written_before_it_began() {
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
    fn room_that_was_set_aside_stays_and_a_name_takes_its_file_along() {
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
    fn what_is_appended_goes_behind_what_there_was() {
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
        // The next life finds it all, but the disk has no more of it than before.
        let mut next = Disk::of(&folder).unwrap();
        next.keep_unsynced(&disk);
        assert_eq!(next.unsynced(&folder), 1);
        // Unless it syncs what it has found.
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
    fn a_torn_tail_keeps_what_was_synced() {
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

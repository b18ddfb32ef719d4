//! Files that the command line names to be written: what may be in their place, and when they are removed.
//!
//! For the file of addresses, snapshots and records of frames: only regular files are replaced, and never the file of
//! another daemon.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::process::{Daemon, Program, imd, until, write_config};

/// The file of addresses of a daemon that was killed.
const STALE: &str = r#"{"gateway":"127.0.0.1:1","access":[],"user_api":"http://127.0.0.1:1","group_api":"http://127.0.0.1:1"}"#;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_stale_addresses_file_is_gone_after_a_failed_start() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("addr.json");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let ports = format!(
        "[gateway]\nlisten = \"{addr}\"\n[http]\nuser_listen = \"127.0.0.1:0\"\ngroup_listen = \"127.0.0.1:0\"\n"
    );
    let config = write_config(folder.path(), &ports);
    let no_store = folder.path().join("no/such/folder");
    let wrong = folder.path().join("wrong.toml");
    fs::write(&wrong, "[gateway]\nlisten = 1\n").unwrap();
    for args in [
        &["--config", &config][..],
        &["--config", text(&wrong)],
        &["--access", "3", "--advertise", "a:1"],
        &["--any-port", "--store", text(&no_store)],
    ] {
        for stale in [STALE, "", "anything"] {
            fs::write(&file, stale).unwrap();
            imd(&[args, &["--addr-file", text(&file)]].concat()).failed(64);
            assert!(!file.exists(), "{args:?}");
        }
    }
    // The old file is removed before a wrong RUST_LOG or a low limit of open files is found.
    for script in [
        "RUST_LOG=[[[ exec \"$0\" --any-port --addr-file \"$1\"",
        "ulimit -n 8; exec \"$0\" --any-port --addr-file \"$1\"",
    ] {
        fs::write(&file, STALE).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_imd"), text(&file)])
            .env_remove("RUST_LOG");
        let stderr = Program::run(command).end().failed(64);
        assert!(
            stderr.contains("RUST_LOG") || stderr.contains("limit is 8"),
            "{stderr}"
        );
        assert!(!file.exists(), "{script}");
    }
}

#[test]
fn an_addresses_file_exists_from_the_start_to_the_end_of_its_daemon() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("addr.json");
    for signal in ["-TERM", "-INT", "-HUP"] {
        fs::write(&file, STALE).unwrap();
        let program = Program::start(&["--any-port", "--addr-file", text(&file)]);
        until("no addresses", || {
            fs::read_to_string(&file).is_ok_and(|text| text != STALE)
        });
        imd(&["ready", "--addr-file", text(&file)]).ok();
        program.signal(signal);
        program.end().ok();
        assert!(!file.exists(), "{signal}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_older_daemon_leaves_the_file_of_a_newer_one() {
    let older = Daemon::start(&[]);
    let file = older.addr_file();
    let before = fs::read_to_string(&file).unwrap();
    let newer = Program::start(&["--any-port", "--addr-file", text(&file)]);
    until("no new addresses", || {
        fs::read_to_string(&file).is_ok_and(|text| text != before)
    });
    older.program.signal("-TERM");
    let Daemon {
        program, folder, ..
    } = older;
    program.end().ok();
    imd(&["ready", "--addr-file", text(&file)]).ok();
    newer.signal("-TERM");
    newer.end().ok();
    assert!(!file.exists());
    drop(folder);
}

/// A folder with files that are not regular ones, and must stay as they are.
struct SpecialFiles {
    folder: TempDir,
    _socket: UnixListener,
}

impl SpecialFiles {
    const REFUSED: [&str; 7] = [
        "folder",
        "socket",
        "link",
        "dangling",
        "to-folder",
        "missing/file",
        "file/below",
    ];

    fn new() -> SpecialFiles {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), "theirs").unwrap();
        let socket = UnixListener::bind(at("socket")).unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        symlink(at("folder"), at("to-folder")).unwrap();
        mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        SpecialFiles {
            folder,
            _socket: socket,
        }
    }

    fn path(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_owned()
    }

    /// Returns the kind and the place of every entry.
    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap().flatten();
        let mut entries: Vec<String> = entries
            .map(|entry| {
                let found = fs::symlink_metadata(entry.path()).unwrap();
                format!("{:?} {:?} {}", entry.path(), found.file_type(), found.ino())
            })
            .collect();
        entries.sort();
        entries.push(fs::read_to_string(self.path("file")).unwrap());
        entries
    }

    /// Reads the pipe to its end, as soon as a program writes to it.
    fn read_pipe(&self) -> thread::JoinHandle<String> {
        let pipe = self.path("pipe");
        thread::spawn(move || {
            let mut text = String::new();
            fs::File::open(pipe)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            text
        })
    }
}

#[test]
fn an_addresses_file_replaces_and_removes_only_regular_files() {
    let special = SpecialFiles::new();
    let before = special.entries();
    for name in SpecialFiles::REFUSED {
        let store = special.path("store");
        let args = [
            "--any-port",
            "--store",
            &store,
            "--addr-file",
            &special.path(name),
        ];
        let error = imd(&args).failed(64);
        assert!(error.contains("--addr-file"), "{name}: {error}");
    }
    assert_eq!(special.entries(), before, "no store was made either");

    // With a device, or a pipe that nobody reads, a daemon serves and stops as usual.
    for target in ["/dev/null", &special.path("pipe")] {
        let mut daemon = Program::start(&["--any-port", "--addr-file", target]);
        daemon.line_with("Ready");
        daemon.signal("-TERM");
        daemon.end().ok();
    }
    assert!(
        fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );

    let mut daemon = Program::start(&["--any-port", "--addr-file", &special.path("pipe")]);
    daemon.line_with("Ready");
    let read = special.read_pipe().join().unwrap();
    let addresses: imd::daemon::Addresses = serde_json::from_str(&read).unwrap();
    imd(&["ready", "--admin", &addresses.admin.unwrap()]).ok();
    daemon.signal("-TERM");
    daemon.end().ok();
    assert_eq!(special.entries(), before);

    let mut daemon = Program::start(&["--any-port", "--addr-file", "/dev/stdout"]);
    daemon.line_with("\"gateway\":");
    daemon.signal("-TERM");
    daemon.end().ok();
}

#[cfg(target_os = "linux")]
#[test]
fn addresses_that_cannot_be_written_to_a_device_end_the_daemon() {
    let error = imd(&["--any-port", "--addr-file", "/dev/full"]).failed(1);
    assert!(
        error.contains("--addr-file /dev/full: No space left"),
        "{error}"
    );
}

#[test]
fn a_snapshot_replaces_only_regular_files() {
    let special = SpecialFiles::new();
    let before = special.entries();
    let daemon = Daemon::start(&[]);
    daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
    let save = |target: &str| daemon.imd(&["snapshot", "save", target]);
    for name in SpecialFiles::REFUSED {
        save(&special.path(name)).failed(64);
    }
    let unread = save(&special.path("pipe")).failed(64);
    assert!(unread.contains("nobody reads this pipe"), "{unread}");
    save("/dev/null").ok();
    let reader = special.read_pipe();
    save(&special.path("pipe")).ok();
    let read = reader.join().unwrap();
    assert_eq!(special.entries(), before);

    let printed = save("/dev/stdout").ok();
    assert_eq!(printed.len(), read.lines().count());
    let file = daemon.folder.path().join("snapshot");
    save(text(&file)).ok();
    assert_eq!(
        fs::read_to_string(&file).unwrap().lines().count(),
        printed.len()
    );
    daemon.imd(&["snapshot", "load", text(&file)]).ok();
    #[cfg(target_os = "linux")]
    {
        let full = save("/dev/full").failed(1);
        assert!(full.contains("/dev/full: No space left"), "{full}");
    }
}

#[test]
fn a_record_is_a_new_regular_file() {
    let special = SpecialFiles::new();
    let before = special.entries();
    let daemon = Daemon::start(&[]);
    let names = SpecialFiles::REFUSED.iter().chain(&["file", "pipe"]);
    for name in names {
        let error = daemon.imd(&["record", "--for", "1ms", "--to", &special.path(name)]);
        let error = error.failed(64);
        assert!(error.contains("--to"), "{name}: {error}");
    }
    daemon.imd(&["record", "--to", "/dev/null"]).failed(64);
    assert_eq!(special.entries(), before);
}

//! What other users of the machine can see of a store, and what happens if they have put something into its folder.
//!
//! Files are made for their owner alone under any umask. Links in the place of files are tested in `durable/planted`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::process::{Daemon, Ended, Program, imd};

/// Runs the program with this umask.
fn under(umask: &str, args: &[&str]) -> Program {
    Program::start_after(&format!("umask {umask}"), args)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Returns the permissions of a folder and of everything in it.
fn modes(path: &Path) -> Vec<(PathBuf, u32, bool)> {
    let found = fs::symlink_metadata(path).unwrap();
    let mut all = vec![(
        path.to_owned(),
        found.permissions().mode() & 0o777,
        found.is_dir(),
    )];
    if found.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            all.extend(modes(&entry.unwrap().path()));
        }
    }
    all
}

fn assert_private(path: &Path, umask: &str) {
    for (path, mode, is_folder) in modes(path) {
        let expected = if is_folder { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{} under umask {umask}", path.display());
    }
}

#[test]
fn files_are_created_for_their_owner_alone_under_any_umask() {
    for umask in ["000", "022", "077"] {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (data, addresses) = (at("data"), at("addr.json"));
        let args = [
            "--any-port",
            "--store",
            text(&data),
            "--addr-file",
            text(&addresses),
        ];
        let mut daemon = under(umask, &args);
        daemon.line_with("Ready");
        let run = |args: &[&str]| -> Vec<String> {
            let args = [args, &["--addr-file", text(&addresses)]].concat();
            under(umask, &args).end().ok()
        };
        run(&["send", "--from", "1", "--to", "2", "x"]);
        run(&["snapshot", "save", text(&at("snapshot"))]);
        run(&["snapshot", "load", "--yes", text(&at("snapshot"))]);
        run(&["record", "--for", "1ms", "--to", text(&at("record"))]);
        assert_private(&data, umask);
        for file in [&addresses, &at("snapshot"), &at("record")] {
            assert_private(file, umask);
        }
        daemon.signal("-TERM");
        daemon.end().ok();
        assert_private(&data, umask);
        under(umask, &["store", "compact", text(&data)]).end().ok();
        assert_private(&data, umask);
    }
}

#[test]
fn exec_leaves_the_umask_of_its_command_unchanged() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let args = ["exec", "--store", text(&data), "--", "sh", "-c", "umask"];
    for (umask, printed) in [("027", "0027"), ("000", "0000")] {
        assert_eq!(under(umask, &args).end().ok(), [printed]);
        assert_private(&data, umask);
    }
}

#[test]
fn an_older_folder_is_closed_to_other_users_with_a_warning() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    Daemon::start(&["--store", text(&data)]).stop();
    for (path, _, is_folder) in modes(&data) {
        let mode = if is_folder { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut daemon = Program::start(&["--any-port", "--store", text(&data)]);
    daemon.line_with("Ready");
    daemon.log_with("for their owner alone");
    assert_private(&data, "of the test");
    daemon.signal("-TERM");
    daemon.end().ok();
    // The warning comes once.
    let mut daemon = Program::start(&["--any-port", "--store", text(&data)]);
    daemon.line_with("Ready");
    daemon.signal("-TERM");
    let Ended { code, err, .. } = daemon.end();
    assert_eq!(code, Some(0));
    assert!(!err.contains("for their owner alone"), "{err}");
}

#[test]
fn foreign_entries_in_the_folder_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    Daemon::start(&["--store", text(&data)]).stop();
    let theirs = folder.path().join("theirs");
    for name in [
        "boot",
        "making",
        "lock",
        "mark",
        "format",
        "id",
        "engine/0.jnl",
    ] {
        for is_pipe in [false, true] {
            let path = data.join(name);
            let kept = fs::read(&path).ok();
            let _ = fs::remove_file(&path);
            fs::write(&theirs, "years of work").unwrap();
            if is_pipe {
                mkfifo(&path, Mode::S_IRWXU).unwrap();
            } else {
                symlink(&theirs, &path).unwrap();
            }
            for args in [
                &["--any-port", "--store", text(&data)][..],
                &["store", "check", text(&data)],
                &["store", "dump", text(&data)],
                &["store", "compact", text(&data)],
                &["exec", "--store", text(&data), "--", "true"],
            ] {
                let error = imd(args).failed(64);
                assert!(error.contains(text(&path)), "{args:?}: {error}");
            }
            assert_eq!(fs::read_to_string(&theirs).unwrap(), "years of work");
            fs::remove_file(&path).unwrap();
            if let Some(bytes) = kept {
                fs::write(&path, bytes).unwrap();
            }
        }
    }
    Daemon::start(&["--store", text(&data)]).stop();
}

#[test]
fn a_folder_that_is_removed_stops_the_daemon() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let daemon = Daemon::start(&["--store", text(&data)]);
    let send = ["send", "--from", "1", "--to", "2", "x"];
    daemon.imd(&send).ok();
    fs::remove_dir_all(&data).unwrap();
    daemon.imd(&send).failed(1);
    let error = daemon.program.end().failed(1);
    assert!(
        error.contains(&format!("{} is gone", data.display())),
        "{error}"
    );
    assert!(!data.exists());
}

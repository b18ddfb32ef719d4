//! The durable store of a daemon: what survives a kill and a stop, where its folder is, and the commands of `imd
//! store`.
//!
//! The store by itself is tested in `durable`. Here is how the flags, the config and the home folder name it, and what
//! a person is told of it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Daemon, Ended, Program, imd, write_config};
use tempfile::TempDir;

fn path(folder: &TempDir) -> String {
    folder.path().join("data").to_str().unwrap().to_owned()
}

#[test]
fn messages_survive_a_kill_and_a_stop() {
    let folder = TempDir::new().unwrap();
    let data = path(&folder);
    let daemon = Daemon::start(&["--store", &data]);
    assert!(daemon.banner[0].ends_with(&format!("store {data} (new)")));
    daemon
        .imd(&["register", "--uid", "1", "--name", "ann"])
        .ok();
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "one"])
        .ok();
    daemon.program.signal("-KILL");
    assert_eq!(daemon.program.end().code, None);

    let daemon = Daemon::start(&["--store", &data]);
    assert!(daemon.banner[0].ends_with(&format!("store {data}")));
    let again = daemon.imd(&["register", "--uid", "1"]);
    assert!(again.failed(1).contains("94001"));
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "two"])
        .ok();
    daemon.stop();

    let daemon = Daemon::start(&["--store", &data]);
    let inbox = daemon.imd(&["sync", "--uid", "2"]).json();
    let rows: Vec<_> = inbox
        .iter()
        .map(|m| (m["version"].as_i64(), m["text"].as_str()))
        .collect();
    assert_eq!(rows, [(Some(1), Some("one")), (Some(2), Some("two"))]);
    daemon.stop();
}

#[test]
fn flags_take_precedence_over_the_config() {
    let folder = TempDir::new().unwrap();
    let (data, other) = (path(&folder), folder.path().join("other"));
    let config = write_config(folder.path(), &format!("[store]\npath = {data:?}\n"));
    let memory = Daemon::start(&["--config", &config, "--memory"]);
    assert!(memory.banner[0].ends_with("store memory"));
    memory.stop();
    let moved = Daemon::start(&["--config", &config, "--store", other.to_str().unwrap()]);
    moved.stop();
    assert!(other.is_dir() && !fs::exists(&data).unwrap());
    Daemon::start(&["--config", &config]).stop();
    assert!(fs::exists(&data).unwrap());
    let both = imd(&["--memory", "--store", "x"]).failed(64);
    assert!(both.contains("cannot be used with"), "{both}");
}

#[test]
fn a_folder_that_can_not_be_used_is_reported_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let data = path(&folder);
    let daemon = Daemon::start(&["--store", &data]);
    let start = |data: &str| imd(&["--any-port", "--store", data]).failed(64);
    let taken = start(&data);
    assert!(
        taken.contains("in use by another imd") && taken.contains("--store"),
        "{taken}"
    );
    for command in [&["check"][..], &["dump"], &["compact"]] {
        let refused = imd(&[&["store"], command, &[&data]].concat()).failed(64);
        assert!(refused.contains("in use by another imd"), "{refused}");
    }
    daemon.stop();
    let missing = start(&format!("{data}-not/there"));
    assert!(
        missing.contains("No such file") && missing.contains("--memory"),
        "{missing}"
    );
    fs::write(folder.path().join("data/format"), "imd store, format 99\n").unwrap();
    let newer = start(&data);
    assert!(
        newer.contains("has format 99") && newer.contains("newer imd"),
        "{newer}"
    );
    let foreign = imd(&["store", "check", folder.path().to_str().unwrap()]).failed(64);
    assert!(foreign.contains("is no store of imd"), "{foreign}");
}

#[test]
fn a_folder_can_be_checked_printed_and_compacted() {
    let folder = TempDir::new().unwrap();
    let data = path(&folder);
    let daemon = Daemon::start(&["--store", &data]);
    daemon
        .imd(&["register", "--uid", "1", "--name", "ann", "--pw", "secret"])
        .ok();
    let group = daemon
        .imd(&["group", "create", "--uid", "1", "--name", "team"])
        .json();
    let gid = group[0]["gid"].as_str().unwrap().to_owned();
    daemon
        .imd(&["group", "join", "--uid", "2", "--gid", &gid])
        .ok();
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "hello"])
        .ok();
    daemon
        .imd(&["send", "--from", "2", "--group", &gid, "all"])
        .ok();
    daemon.imd(&["sync", "--uid", "2"]).ok();
    daemon.stop();

    let checked = imd(&["store", "check", &data]).ok();
    assert_eq!(checked[1], "users 1   groups 1   members 2");
    assert_eq!(
        checked[2],
        "inboxes 2   entries 3   group texts 1   message ids 2"
    );
    assert_eq!(checked[3], "All of it was read, and it is whole.");

    let dumped = imd(&["store", "dump", &data]);
    let text = dumped.out.concat();
    assert!(!text.contains("secret") && !text.contains("argon2"));
    let all = dumped.json();
    let of_type = |name: &str| all.iter().filter(|item| item["type"] == name).count();
    assert_eq!(
        (
            of_type("user"),
            of_type("group"),
            of_type("inbox"),
            of_type("entry")
        ),
        (1, 1, 2, 3)
    );
    let twos = imd(&["store", "dump", &data, "--uid", "2"]).json();
    let rows: Vec<_> = twos
        .iter()
        .map(|item| (item["type"].as_str().unwrap(), item["msg"].as_str()))
        .collect();
    assert_eq!(
        rows,
        [
            ("inbox", None),
            ("entry", Some("hello")),
            ("entry", Some("all"))
        ]
    );
    assert_eq!(twos[0]["total"], 2);
    assert_eq!(twos[2]["groupID"], gid.as_str());

    let compacted = imd(&["store", "compact", &data]).ok();
    assert!(compacted[0].contains("bytes before, "), "{compacted:?}");
    assert_eq!(imd(&["store", "check", &data]).ok()[1..], checked[1..]);
}

#[test]
fn a_damaged_folder_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let data = path(&folder);
    let daemon = Daemon::start(&["--store", &data]);
    for text in ["one", "two", "three"] {
        daemon.imd(&["send", "--from", "1", "--to", "2", text]).ok();
    }
    daemon.program.signal("-KILL");
    daemon.program.end();
    let journal = folder.path().join("data/engine/0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let at = bytes.windows(3).position(|part| part == b"two").unwrap();
    bytes[at] ^= 1;
    fs::write(&journal, &bytes).unwrap();

    let refused = imd(&["--any-port", "--store", &data]).failed(64);
    assert!(
        refused.contains("is damaged") && refused.contains("Bring back a copy"),
        "{refused}"
    );
    assert!(fs::read(&journal).unwrap() == bytes, "nothing was changed");
    let checked = imd(&["store", "check", &data]).failed(64);
    assert!(checked.contains("is damaged"), "{checked}");
}

/// Starts the program in the folder `cwd`, with this home folder.
fn start_in(cwd: &Path, home: Option<&Path>, args: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
    command.args(["--any-port"]).args(args).current_dir(cwd);
    command.env_remove("RUST_LOG").env_remove("HOME");
    if let Some(home) = home {
        command.env("HOME", home);
    }
    Program::run(command)
}

/// Returns the first line of the banner, and stops the program.
fn store_line(mut program: Program) -> String {
    let line = program.line_with("imd ");
    program.line_with("Ready in");
    program.signal("-TERM");
    assert_eq!(program.end().code, Some(0));
    line
}

#[test]
fn the_default_folder_is_in_the_home_folder_and_in_the_banner() {
    let folder = TempDir::new().unwrap();
    let (home, cwd) = (folder.path().join("home"), folder.path().join("cwd"));
    fs::create_dir_all(&home).unwrap();
    fs::create_dir_all(&cwd).unwrap();
    let cwd = cwd.canonicalize().unwrap();
    let config = |path: &str| write_config(folder.path(), &format!("[store]\npath = {path:?}\n"));
    let first_line = |args: &[&str]| store_line(start_in(&cwd, Some(&home), args));
    let data = home.join("data");
    let line = first_line(&["--config", &config("~/data")]);
    assert!(
        line.ends_with(&format!("store {} (new)", data.display())),
        "{line}"
    );
    let line = first_line(&["--store", "~/data"]);
    assert!(
        line.ends_with(&format!("store {}", data.display())),
        "{line}"
    );
    let line = first_line(&["--store", "./~"]);
    assert!(
        line.ends_with(&format!("store {} (new)", cwd.join("~").display())),
        "{line}"
    );
    fs::remove_dir_all(cwd.join("~")).unwrap();
    let all = fs::read_dir(&home).unwrap().count();
    assert_eq!((all, fs::read_dir(&cwd).unwrap().count()), (1, 0));

    let config = config("~bob/data");
    let refused = start_in(&cwd, Some(&home), &["--config", &config]).end();
    let refused = refused.failed(64);
    assert!(
        refused.contains(&format!("{config}:2: store.path: ~bob/data")),
        "{refused}"
    );
    let refused = start_in(&cwd, Some(&home), &["--store", "~bob/data"]).end();
    assert!(refused.failed(64).contains("--store ~bob/data"));
    let refused = start_in(&cwd, Some(Path::new("relative")), &["--store", "~/data"]).end();
    let refused = refused.failed(64);
    assert!(
        refused.contains("HOME") && refused.contains("--store"),
        "{refused}"
    );
    assert_eq!(fs::read_dir(&cwd).unwrap().count(), 0);
}

#[test]
fn an_error_of_the_folder_names_the_flag_or_key_that_has_set_it() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("foreign")).unwrap();
    fs::write(at("foreign/notes.txt"), "mine").unwrap();
    let mut wrong = vec![
        (at("file"), "it is no folder"),
        (at("no/such/parent"), "No such file"),
        (at("foreign"), "\"notes.txt\""),
        (String::new(), "names no folder"),
        ("  ".to_owned(), "blank"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(at("gone"), at("link")).unwrap();
        wrong.push((at("link"), "a link to"));
    }
    for (path, why) in wrong {
        let config = write_config(
            folder.path(),
            &format!("seed = 1\n[store]\npath = {path:?}\n"),
        );
        let refused = imd(&["--any-port", "--config", &config]).failed(64);
        let place = format!("{config}:3: store.path: ");
        assert!(
            refused.contains(&place) && refused.contains(why),
            "{refused}"
        );
        if path.is_empty() {
            // The command line itself refuses this value.
            continue;
        }
        let refused = imd(&["--any-port", "--store", &path]).failed(64);
        assert!(
            refused.contains("--store") && refused.contains(why),
            "{refused}"
        );
        // The flag takes precedence over the config.
        let other = format!("[store]\npath = {:?}\n", at("other"));
        let config = write_config(folder.path(), &other);
        let refused = imd(&["--any-port", "--config", &config, "--store", &path]).failed(64);
        assert!(
            !refused.contains(&config) && refused.contains(why),
            "{refused}"
        );
    }
    assert_eq!(fs::read_to_string(at("foreign/notes.txt")).unwrap(), "mine");
}

#[test]
fn a_disk_with_too_little_space_is_reported_everywhere() {
    let folder = TempDir::new().unwrap();
    let data = path(&folder);
    let config = format!("[store]\npath = {data:?}\nmin_free = {}\n", u64::MAX / 4);
    let config = write_config(folder.path(), &config);
    let daemon = Daemon::start(&["--config", &config]);
    let says = |text: &str| text.contains("store.min_free");
    assert!(
        daemon.banner.iter().any(|line| says(line)),
        "{:?}",
        daemon.banner
    );
    let ready = daemon.imd(&["ready"]).failed(1);
    assert!(says(&ready), "{ready}");
    let refused = daemon
        .imd(&["send", "--from", "1", "--to", "2", "a"])
        .failed(1);
    assert!(refused.contains("90001") && says(&refused), "{refused}");
    let refused = daemon.imd(&["register", "--uid", "1"]).failed(1);
    assert!(says(&refused), "{refused}");
    daemon.program.signal("-TERM");
    let log = daemon.program.end().err;
    assert!(says(&log), "{log}");
}

/// Returns the path, the contents, the time of change and the write permission of every file in a folder.
fn fingerprint(folder: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime, bool)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::metadata(&path).unwrap();
            let bytes = if data.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            found.push((
                path,
                bytes,
                data.modified().unwrap(),
                data.permissions().readonly(),
            ));
        }
    }
    found.sort();
    found
}

fn set_writable(folder: &Path, writable: bool) {
    let paths = fingerprint(folder).into_iter().map(|(path, ..)| path);
    for path in paths.chain([folder.to_owned()]) {
        let is_dir = path.is_dir();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = match (is_dir, writable) {
                (true, true) => 0o755,
                (true, false) => 0o555,
                (false, true) => 0o644,
                (false, false) => 0o444,
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Runs a command that puts its temporary files into this folder, which must be empty afterwards.
fn with_temp(temp: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
    command
        .args(args)
        .env("TMPDIR", temp)
        .env_remove("RUST_LOG");
    let ended = Program::run(command).end();
    assert_eq!(fs::read_dir(temp).unwrap().count(), 0, "its copy is left");
    ended
}

#[test]
fn an_inspection_changes_no_byte_of_the_folder() {
    let folder = TempDir::new().unwrap();
    let (data, temp) = (path(&folder), folder.path().join("temp"));
    fs::create_dir(&temp).unwrap();
    // The store has a table on disk, and its last run was killed.
    let daemon = Daemon::start(&["--store", &data]);
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "one"])
        .ok();
    daemon.stop();
    let daemon = Daemon::start(&["--store", &data]);
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "two"])
        .ok();
    daemon.program.signal("-KILL");
    daemon.program.end();
    let data = Path::new(&data);
    let mut journals: Vec<_> = fingerprint(data)
        .into_iter()
        .map(|(path, ..)| path)
        .collect();
    journals.retain(|path| path.extension().is_some_and(|ext| ext == "jnl"));
    let journal = journals.pop().unwrap();
    let tables = data.join("engine/keyspaces/1/tables");
    let table = fs::read_dir(&tables)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let damages: [(&str, &dyn Fn()); 4] = [
        ("as it is", &|| ()),
        ("without its lock", &|| {
            fs::remove_file(data.join("lock")).unwrap()
        }),
        ("with a journal that is torn", &|| {
            let mut bytes = fs::read(&journal).unwrap();
            let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
            bytes.truncate(end + 1);
            bytes.extend([1, 5, 0, 0]);
            fs::write(&journal, bytes).unwrap();
        }),
        ("with a table that is left over", &|| {
            fs::copy(&table, tables.join("99999")).unwrap();
        }),
    ];
    for (how, damage) in damages {
        damage();
        for writable in [true, false] {
            set_writable(data, writable);
            let before = fingerprint(data);
            let dir = data.to_str().unwrap();
            let checked = with_temp(&temp, &["store", "check", dir]).ok();
            assert_eq!(
                checked[2], "inboxes 1   entries 2   group texts 0   message ids 2",
                "{how}"
            );
            let all = with_temp(&temp, &["store", "dump", dir]).ok();
            assert!(all.concat().contains("two"), "{how}: {all:?}");
            assert!(
                fingerprint(data) == before,
                "{how}, writable {writable}: it was changed"
            );
            set_writable(data, true);
        }
    }
}

#[test]
fn an_inspection_reports_what_it_needs() {
    let folder = TempDir::new().unwrap();
    let data = path(&folder);
    let daemon = Daemon::start(&["--store", &data]);
    let commands = [&["check"][..], &["dump"], &["compact"]];
    let run =
        |command: &[&str], data: &str| imd(&[&["store"], command, &[data]].concat()).failed(64);
    for command in commands {
        let refused = run(command, &data);
        assert!(
            refused.contains("in use") && refused.contains("snapshot save"),
            "{refused}"
        );
        assert!(!refused.contains("--memory"), "{refused}");
    }
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "one"])
        .ok();
    daemon.stop();
    for command in commands {
        for wrong in [
            format!("{data}/format"),
            format!("{data}-not"),
            folder.path().to_str().unwrap().into(),
        ] {
            let refused = run(command, &wrong);
            assert!(
                refused.contains(&wrong) && !refused.contains("--memory"),
                "{refused}"
            );
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
    command
        .args(["store", "check", &data])
        .env("TMPDIR", folder.path().join("no/such"));
    let refused = Program::run(command).end().failed(64);
    assert!(
        refused.contains("TMPDIR") && refused.contains("no/such"),
        "{refused}"
    );
    // One bit of it is flipped. The error names the folder, not the copy of it.
    let mark = folder.path().join("data/mark");
    let mut bytes = fs::read(&mark).unwrap();
    bytes[0] ^= 1;
    bytes[4_096] ^= 1;
    fs::write(&mark, bytes).unwrap();
    let refused = run(&["check"], &data);
    assert!(refused.contains(&format!("{data} is damaged")), "{refused}");
}

#[test]
fn a_dump_that_is_ended_by_a_signal_removes_its_copy() {
    let folder = TempDir::new().unwrap();
    let (data, temp) = (path(&folder), folder.path().join("temp"));
    fs::create_dir(&temp).unwrap();
    let daemon = Daemon::start(&["--store", &data]);
    // The text is longer than a pipe can hold.
    let text = "x".repeat(30_000);
    for _ in 0..10 {
        daemon
            .imd(&["send", "--from", "1", "--to", "2", &text])
            .ok();
    }
    daemon.stop();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
    command.args(["store", "dump", &data]).env("TMPDIR", &temp);
    let mut dump = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    dump.stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 1);
    let pid = dump.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(dump.wait().unwrap().code(), Some(1));
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 0);
}

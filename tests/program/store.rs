use std::fs;

use crate::process::{Daemon, imd, write_config};
use serde_json::Value;
use tempfile::TempDir;

fn path(folder: &TempDir) -> String {
    folder.path().join("data").to_str().unwrap().to_owned()
}

fn json(lines: &[String]) -> Vec<Value> {
    let parse = |line: &String| serde_json::from_str(line).unwrap();
    lines.iter().map(parse).collect()
}

#[test]
fn what_was_sent_is_there_after_a_kill_and_after_a_stop() {
    let folder = TempDir::new().unwrap();
    let data = path(&folder);
    let daemon = Daemon::start(&["--store", &data]);
    assert!(daemon.banner[0].ends_with(&format!("store {data}")));
    daemon
        .imd(&["register", "--uid", "1", "--name", "ann"])
        .ok();
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "one"])
        .ok();
    daemon.program.signal("-KILL");
    assert_eq!(daemon.program.end().code, None);

    let daemon = Daemon::start(&["--store", &data]);
    let again = daemon.imd(&["register", "--uid", "1"]);
    assert!(again.failed(1).contains("94001"));
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "two"])
        .ok();
    daemon.stop();

    let daemon = Daemon::start(&["--store", &data]);
    let inbox = json(&daemon.imd(&["sync", "--uid", "2"]).ok());
    let rows: Vec<_> = inbox
        .iter()
        .map(|m| (m["version"].as_i64(), m["text"].as_str()))
        .collect();
    assert_eq!(rows, [(Some(1), Some("one")), (Some(2), Some("two"))]);
    daemon.stop();
}

#[test]
fn flags_count_more_than_the_config() {
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
fn a_folder_that_cant_be_used_is_said_with_what_to_do() {
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
    let group = json(
        &daemon
            .imd(&["group", "create", "--uid", "1", "--name", "team"])
            .ok(),
    );
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

    let all = imd(&["store", "dump", &data]).ok();
    assert!(!all.concat().contains("secret") && !all.concat().contains("argon2"));
    let all = json(&all);
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
    let twos = json(&imd(&["store", "dump", &data, "--uid", "2"]).ok());
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

//! Texts as shells, editors and other users write them: hyphens, control characters, byte order marks, line ends.
//!
//! Nothing that another user wrote controls the terminal of the reader, and files from other systems are read or
//! refused with their name.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use imd::Config;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Daemon, Ended, Program, imd, until, write_config};

/// Returns the texts in the inbox of user 2.
fn texts(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.imd(&["sync", "--uid", "2"]).json();
    let text = |line: &Value| line["text"].as_str().unwrap().to_owned();
    lines.iter().map(text).collect()
}

/// A fault whose name the command line could not express could not be ended.
#[test]
fn a_fault_with_any_valid_name_is_listed_and_ended_by_it() {
    let daemon = Daemon::start(&["--manual-clock"]);
    let admin = daemon.addresses().admin.unwrap();
    let longest = "\u{e9}".repeat(64);
    for name in [
        "/",
        "//",
        "a/b",
        "../x",
        "/..",
        "...",
        "%",
        "%2F",
        "%2e%2e",
        "%00",
        "?",
        "#",
        "&",
        "+",
        " ",
        " a ",
        ";",
        "\\",
        "\"",
        "{name}",
        "*",
        "-",
        "-x",
        "--",
        "--all",
        "--help",
        "-h",
        "null",
        "\u{65e5}\u{672c}",
        "\u{202e}",
        "\u{a0}",
        &longest,
    ] {
        let given = format!("--name={name}");
        let add = ["fault", "add", "--at", "notify", "--drop", &given];
        assert_eq!(daemon.imd(&add).json()[0]["name"], name);
        assert_eq!(daemon.imd(&["fault", "ls"]).json()[0]["name"], name);
        imd(&["fault", "rm", "--admin", &admin, "--", name]).ok();
        assert!(daemon.imd(&["fault", "ls"]).ok().is_empty(), "{name}");
    }
    let longer = "x".repeat(129);
    for name in ["", ".", "..", "\n", "\u{85}", &longer] {
        let given = format!("--name={name}");
        let add = ["fault", "add", "--at", "notify", "--drop", &given];
        let stderr = daemon.imd(&add).failed(64);
        assert!(stderr.contains("name"), "{name:?}: {stderr}");
    }
}

const SEND: [&str; 5] = ["send", "--from", "1", "--to", "2"];

#[test]
fn a_message_may_begin_with_a_hyphen() {
    let daemon = Daemon::start(&[]);
    let all = [
        "-1",
        "-",
        "--",
        "-x",
        "--x=y",
        "--help me",
        "-help",
        "-secret",
        "--tokens",
        "-h me",
        "—",
    ];
    let sent = all.iter().filter(|text| !["-", "--"].contains(*text));
    for text in sent.clone() {
        daemon.imd(&[&SEND[..], &[text]].concat()).ok();
    }
    // Behind `--`, an option of the command is text, and so is another `--`.
    let file = daemon.addr_file();
    let at = ["--addr-file", file.to_str().unwrap(), "--"];
    for text in ["--help", "-h", "--token", "--token=x", "--"] {
        imd(&[&SEND[..], &at, &[text]].concat()).ok();
    }
    let mut expected: Vec<&str> = sent.copied().collect();
    expected.extend(["--help", "-h", "--token", "--token=x", "--"]);
    assert_eq!(texts(&daemon), expected);
    // In front of the text, where people look for options, an option is one.
    assert!(
        imd(&["send", "--help"])
            .ok()
            .iter()
            .any(|line| line.contains("--msg-id"))
    );
    let two = daemon
        .imd(&[&SEND[..], &["one", "-two"]].concat())
        .failed(64);
    assert!(two.contains("unexpected argument"), "{two}");
}

#[test]
fn the_value_of_an_option_may_begin_with_a_hyphen() {
    let daemon = Daemon::start(&[]);
    for (uid, name, pw) in [
        ("1", "-x", "-secret"),
        ("2", "--name", "--pw"),
        ("3", "-", "--"),
    ] {
        let register = ["register", "--uid", uid, "--name", name, "--pw", pw];
        daemon.imd(&register).ok();
    }
    let names: Vec<Value> = daemon.imd(&["users"]).json();
    let names: Vec<&str> = names
        .iter()
        .map(|user| user["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["-x", "--name", "-"]);
    daemon
        .imd(&["group", "create", "--uid", "1", "--name", "-team"])
        .ok();
    assert_eq!(daemon.imd(&["groups"]).json()[0]["name"], "-team");

    let token = ["send", "--from", "1", "--to", "2", "x", "--token", "-wrong"];
    assert!(daemon.imd(&token).failed(1).contains("93002"));
    daemon
        .imd(&[&SEND[..], &["once", "--msg-id", "-id"]].concat())
        .ok();
    daemon
        .imd(&[&SEND[..], &["twice", "--msg-id", "-id"]].concat())
        .ok();
    assert_eq!(texts(&daemon), ["once"]);

    let add = [
        "fault", "add", "--at", "notify", "--drop", "--name", "-lost",
    ];
    daemon.imd(&add).ok();
    daemon.imd(&["fault", "rm", "-lost"]).ok();
    assert!(daemon.imd(&["fault", "ls"]).ok().is_empty());
    // The error says that the name is invalid, not that there is no such option.
    let stderr = daemon.imd(&["access", "add", "-four"]).failed(64);
    assert!(stderr.contains("must begin with a letter"), "{stderr}");
    // The error says that the number is invalid, not that there is no such option.
    for args in [
        &["sync", "--uid", "-5"][..],
        &["token", "-5"],
        &["inboxes", "-5"],
    ] {
        let refused = imd(args).failed(64);
        assert!(refused.contains("-5 is not in 1.."), "{refused}");
    }
}

#[test]
fn a_text_comes_from_stdin() {
    let daemon = Daemon::start(&[]);
    let send = |bytes: &[u8]| {
        let mut program = daemon.spawn(&[&SEND[..], &["-"]].concat());
        program.write_bytes(bytes);
        program.end()
    };
    for bytes in [
        &b"one\n"[..],
        b"two\r\n",
        b"--three",
        b"four\n\n",
        b"\xef\xbb\xbffive\n",
        b"",
    ] {
        send(bytes).ok();
    }
    assert_eq!(
        texts(&daemon),
        ["one", "two", "--three", "four\n", "five", ""]
    );
    let refused = send(&utf16("six\n")).failed(64);
    assert!(refused.contains("stdin: this is UTF-16"), "{refused}");
}

/// One character of each kind that a terminal obeys, or that misleads a reader.
const UNSAFE: &str =
    "\u{1b}]0;x\u{7}\u{7f}\u{85}\u{9b}\u{200e}\u{202e}\u{2028}\u{2066}\u{feff}\u{e0041}";

/// Checks that there is only harmless text and line ends.
#[track_caller]
fn assert_harmless(printed: &str) {
    let is_harmless =
        |c: char| c == '\n' || !(c.is_control() || (!c.is_ascii() && UNSAFE.contains(c)));
    assert!(printed.chars().all(is_harmless), "{printed:?}");
    assert!(printed.contains("canary"), "{printed}");
}

#[test]
fn texts_of_other_users_do_not_control_the_terminal() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, record) = (path("data"), path("talk.rec"));
    let daemon = Daemon::start(&["--store", &data]);
    let text = format!("canary{UNSAFE}");
    let send = [&SEND[..], &[&text, "--msg-id", &text]].concat();
    for args in [&["tail"][..], &["tail", "--json"]] {
        let mut tail = daemon.spawn(args);
        daemon.until_recording(true);
        daemon.imd(&send).ok();
        assert_harmless(&tail.line_with("canary"));
        tail.signal("-KILL");
        tail.end();
        daemon.until_recording(false);
    }
    let mut recorder = daemon.spawn(&["record", "--to", &record]);
    recorder.line_with("Recording to");
    daemon
        .imd(&["register", "--uid", "1", "--name", &text])
        .ok();
    daemon
        .imd(&["group", "create", "--uid", "1", "--name", &text])
        .ok();
    daemon.imd(&send).ok();
    // The record is complete when it has both frames, which may be shortly after the sender is answered.
    let recorded = || fs::read_to_string(&record).unwrap();
    until("a frame is missing", || {
        recorded().matches("SendP2PMsg").count() == 2
    });
    recorder.signal("-INT");
    recorder.end().ok();
    // The refusal gives the replay a difference to report.
    let refusal = ["--cmd", "SendP2PMsg", "--error", "90001"];
    daemon
        .imd(&[&["fault", "add", "--at", "access.reply"], &refusal[..]].concat())
        .ok();
    // The name of a fault may not have control characters, but may have the other ones.
    let name = text.replace(char::is_control, "");
    let fault = [
        "fault", "add", "--at", "notify", "--uid", "99", "--drop", "--name", &name,
    ];
    let mut shown = vec![daemon.imd(&fault)];
    for args in [
        &["sync", "--uid", "2"][..],
        &["users"],
        &["groups"],
        &["inboxes", "2"],
        &["fault", "ls"],
        &["state"],
        &["wait", "--since", "0", "--cmd", "SendP2PMsg"],
        &["replay", &record, "--timeout", "10s"],
        &["replay", &record, "--timeout", "10s", "--json"],
    ] {
        shown.push(daemon.imd(args));
    }
    let failed = [
        daemon.imd(&["fault", "rm", &format!("{text}!")]),
        daemon.imd(&["access", "kill", &text]),
        daemon.imd(&["snapshot", "load", &text]),
        imd(&["check", "--config", &text]),
        imd(&[&text]),
        imd(&["send", "--from", &text]),
        imd(&["ready", "--admin", &text]),
        imd(&["sync", "--uid", "1", "--gateway", &text]),
    ];
    assert!(failed.iter().all(|ended| ended.code != Some(0)));
    shown.extend(failed);
    daemon.stop();
    shown.push(imd(&["store", "dump", &data]));
    let toml = format!(
        "[[user]]\nuid = 7\nname = \"{}\"\n",
        text.replace(|c: char| c.is_ascii_control(), "")
    );
    let config = write_config(folder.path(), &toml);
    let checked = imd(&["check", "--config", &config]);
    let printed = checked.out.join("\n");
    assert_eq!(
        Config::from_toml(&printed, "").unwrap(),
        Config::from_toml(&toml, "").unwrap()
    );
    shown.push(checked);
    for ended in shown {
        assert_harmless(&format!("{}\n{}", ended.out.join("\n"), ended.err));
    }
}

fn utf16(text: &str) -> Vec<u8> {
    let text = format!("\u{feff}{text}");
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Returns the text in the encodings and line ends of other systems: a name, the bytes, and whether `imd` reads them.
fn as_elsewhere(text: &str) -> Vec<(&'static str, Vec<u8>, bool)> {
    let crlf = text.replace('\n', "\r\n");
    let big_endian = text.encode_utf16().flat_map(u16::to_be_bytes);
    vec![
        ("CRLF", crlf.clone().into_bytes(), true),
        (
            "a byte order mark",
            format!("\u{feff}{text}").into_bytes(),
            true,
        ),
        ("both", format!("\u{feff}{crlf}").into_bytes(), true),
        ("UTF-16", utf16(&crlf), false),
        ("UTF-16", big_endian.collect(), false),
        // A single line has no line ends that could differ.
        (
            "CR",
            text.replace('\n', "\r").into_bytes(),
            text.lines().count() == 1,
        ),
    ]
}

/// Rewrites a file in each of these ways, and runs the attempt.
fn with_each_encoding(file: &Path, attempt: impl Fn() -> Ended) {
    let text = fs::read_to_string(file).unwrap();
    for (name, bytes, is_read) in as_elsewhere(&text) {
        fs::write(file, bytes).unwrap();
        let ended = attempt();
        if is_read {
            assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
        } else {
            assert_ne!(ended.code, Some(0), "{name}");
            assert!(ended.err.contains(name), "{name}: {}", ended.err);
        }
    }
    fs::write(file, text).unwrap();
}

#[test]
fn files_from_other_systems_are_read_or_refused_as_such() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config = write_config(
        folder.path(),
        "[session]\nidle = \"90s\"\n[idgen]\nmachine = 3\n",
    );
    with_each_encoding(&path("imd.toml"), || {
        let checked = imd(&["check", "--config", &config]);
        assert!(checked.code != Some(0) || checked.out.contains(&"machine = 3".to_owned()));
        checked
    });

    let daemon = Daemon::start(&[]);
    let record = path("talk.rec");
    let mut recorder = daemon.spawn(&["record", "--to", record.to_str().unwrap()]);
    recorder.line_with("Recording to");
    daemon.imd(&["register", "--uid", "1", "--pw", "x"]).ok();
    daemon.imd(&[&SEND[..], &["hello"]].concat()).ok();
    recorder.signal("-INT");
    recorder.end().ok();
    with_each_encoding(&record, || {
        daemon.imd(&["replay", record.to_str().unwrap()])
    });

    let snapshot = path("saved.jsonl");
    let file = snapshot.to_str().unwrap();
    daemon.imd(&["snapshot", "save", file]).ok();
    with_each_encoding(&snapshot, || daemon.imd(&["snapshot", "load", file]));
    assert_eq!(texts(&daemon), ["hello"]);

    with_each_encoding(&daemon.addr_file(), || daemon.imd(&["ready"]));
}

#[test]
fn a_script_for_the_chat_may_come_from_windows() {
    let daemon = Daemon::start(&[]);
    let chat = |script: &[u8]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
        command
            .args(["chat", "--uid", "1", "--addr-file"])
            .arg(daemon.addr_file());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(script).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let output = command.stdin(file).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, stderr) = chat(b"\xef\xbb\xbf/to 2 one\r\ntwo\r\n");
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(texts(&daemon), ["one", "two"]);
    let (code, stderr) = chat(&utf16("/to 2 three\r\n"));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("stdin: this is UTF-16"), "{stderr}");
}

#[test]
fn a_clap_error_keeps_its_form() {
    let plain = Program::start(&["bogus"]).end().failed(64);
    let stderr = Program::start(&["bogus\u{1b}[1m"]).end().failed(64);
    for error in [plain, stderr] {
        assert!(
            error.starts_with("error: unrecognized subcommand 'bogus"),
            "{error}"
        );
        assert!(error.contains("\nUsage: imd"), "{error}");
    }
}

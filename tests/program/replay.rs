//! `imd record` and `imd replay`: the frames of clients are recorded, and sent again to another stack.
//!
//! Proves docs/replay.md: which differences of the answers are reported, and which records are refused, whole or
//! damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Daemon, Ended, imd, write_config};
use crate::support::chance::chance;

/// A record, with the folder that holds it.
struct Recorded {
    folder: TempDir,
    path: String,
}

/// Records a conversation of two users. The record is complete when the stack has ended.
fn recorded(flags: &[&str]) -> Recorded {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("talk.rec").to_str().unwrap().to_owned();
    let daemon = Daemon::start(&[]);
    let mut record = daemon.spawn(&[&["record", "--to", &path], flags].concat());
    record.line_with("Recording to");
    let mut bob = daemon.spawn(&["chat", "--uid", "2"]);
    bob.line_with("You are 2");
    let send = ["send", "--from", "1", "--to", "2", "hello"];
    daemon.imd(&send).ok();
    bob.line_with("hello");
    let refused = daemon.imd(&[&send[..], &["--token", "wrong"]].concat());
    refused.failed(1);
    bob.write("/to 1 and you");
    bob.line_with("stored");
    bob.end().ok();
    daemon.imd(&["sync", "--uid", "1"]).ok();
    daemon.stop();
    assert!(record.end().ok()[1].ends_with("frames are recorded."));
    Recorded { folder, path }
}

impl Recorded {
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.path).unwrap();
        assert!(text.ends_with('\n'));
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Replays the record to a stack that answers everything.
    fn to(&self, daemon: &Daemon, flags: &[&str]) -> Ended {
        self.within("60s", daemon, flags)
    }

    /// Replays the record to a stack that leaves out some answers, for which the replay waits in vain.
    fn in_part_to(&self, daemon: &Daemon, flags: &[&str]) -> Ended {
        self.within("3s", daemon, flags)
    }

    fn within(&self, timeout: &str, daemon: &Daemon, flags: &[&str]) -> Ended {
        let replay = ["replay", &self.path, "--timeout", timeout];
        daemon.imd(&[&replay, flags].concat())
    }
}

/// Returns what a replay has printed that found a difference.
fn different(ended: Ended) -> String {
    assert_eq!(ended.code, Some(1), "{:?}\n{}", ended.out, ended.err);
    ended.out.join("\n")
}

fn alike(ended: Ended) {
    let out = ended.ok();
    assert_eq!(out.len(), 1, "{out:?}");
    assert!(out[0].ends_with(" alike, 0 different"), "{out:?}");
    assert!(!out[0].starts_with("0 requests"), "{out:?}");
}

#[test]
fn a_new_stack_answers_a_replay_like_the_recorded_one() {
    let record = recorded(&[]);
    let mode = fs::metadata(&record.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds tokens");
    let lines = record.lines();
    assert_eq!(
        (&lines[0]["format"], &lines[0]["version"]),
        (&"imd-record".into(), &1.into())
    );
    let sent = lines
        .iter()
        .find(|line| line["frame"]["msg"] == "hello")
        .unwrap();
    assert_eq!(
        (&sent["what"], &sent["cmd"]),
        (&"in".into(), &"SendP2PMsg".into())
    );
    assert!(sent["bytes"].as_str().unwrap().starts_with("08a39c01"));

    alike(record.to(&Daemon::start(&[]), &[]));
    alike(record.to(&Daemon::start(&[]), &["--speed", "100"]));
    let daemon = Daemon::start(&[]);
    let access = daemon.addresses().access[0].addr.clone();
    alike(imd(&[
        "replay",
        &record.path,
        "--access",
        &access,
        "--gateway",
        "127.0.0.1:1",
    ]));
    // Messages that are sent again under the same ids are stored only once.
    let report = different(record.in_part_to(&daemon, &[]));
    assert!(
        report.contains("recorded  \"a notify\"\n  got       \"none\""),
        "{report}"
    );
}

#[test]
fn differences_by_a_fault_are_reported() {
    let record = recorded(&[]);
    let token = imd(&["token", "1"]).ok().remove(0);
    let report = |fault: &str| {
        let daemon = Daemon::start(&[]);
        let add = ["fault", "add", "--times", "1", "--at"];
        let fault: Vec<&str> = add.into_iter().chain(fault.split(' ')).collect();
        daemon.imd(&fault).ok();
        let report = different(record.in_part_to(&daemon, &[]));
        assert!(!report.contains(&token), "{report}");
        report
    };
    let refused = report("access.reply --uid 1 --cmd SendP2PMsg --error 90001");
    assert!(
        refused.contains(", uid 1: SendP2PMsg\n  request   {"),
        "{refused}"
    );
    assert!(
        refused.contains("differs   errCode: 0, got 90001"),
        "{refused}"
    );
    assert!(refused.ends_with("alike, 1 different"), "{refused}");
    let lost = report("access.reply --uid 1 --cmd SendP2PMsg --drop");
    assert!(lost.contains("got       \"no reply\""), "{lost}");
    let twice = report("access.reply --uid 1 --cmd SendP2PMsg --duplicate");
    assert!(twice.contains("recorded  \"nothing\""), "{twice}");
    let reset = report("access.reply --uid 1 --cmd SendP2PMsg --reset");
    assert!(reset.contains(": SendP2PMsg\n"), "{reset}");
    let silent = report("notify --uid 2 --drop");
    assert!(
        silent.contains("recorded  \"a notify\"\n  got       \"none\""),
        "{silent}"
    );
    let gap = report("store.read --uid 2 --gap");
    assert!(
        gap.contains("differs   Msgs: \"1 entries\", got \"0 entries\""),
        "{gap}"
    );
}

#[test]
fn differences_by_a_quirk_are_reported_unless_they_are_ignored() {
    let record = recorded(&[]);
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[quirks]\nno_msg_id_in_replies = true\n");
    let start = || Daemon::start(&["--config", &config]);
    let ended = record.to(&start(), &["--json"]);
    let lines: Vec<Value> = different(ended)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let differ = lines[0]["differ"].as_array().unwrap();
    assert!(
        differ
            .iter()
            .any(|it| it["field"] == "msgID" && it["got"] == "")
    );
    assert_eq!(lines[0]["cmd"], "SendP2PMsg");
    assert_eq!(lines.last().unwrap()["different"], 2);
    let ids = "SendP2PMsg.msgID,SendP2PMsg.sourceUID,SendP2PMsg.targetUID";
    alike(record.to(&start(), &["--ignore", ids]));
}

#[test]
fn logins_get_fresh_tokens() {
    let record = recorded(&[]);
    let config = write_config(record.folder.path(), "[auth]\nsalt = \"another\"\n");
    let start = || Daemon::start(&["--config", &config]);
    let report = different(record.in_part_to(&start(), &[]));
    assert!(
        report.contains("differs   errCode: 0, got 93002"),
        "{report}"
    );
    alike(record.to(&start(), &["--config", &config]));
    let daemon = start();
    for uid in ["1", "2"] {
        daemon
            .imd(&["register", "--uid", uid, "--pw", "secret"])
            .ok();
    }
    let wrong = record.to(&daemon, &["--pw", "wrong"]).failed(1);
    assert!(wrong.contains("94003"), "{wrong}");
    alike(record.to(&daemon, &["--pw", "secret"]));
    let one = record.to(&daemon, &["--token", "x"]).failed(64);
    assert!(one.contains("the record has several"), "{one}");
}

#[test]
fn the_sessions_of_one_user_can_be_recorded_alone() {
    let record = recorded(&["--uid", "1"]);
    let lines = record.lines();
    let cmds: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["cmd"].as_str())
        .collect();
    assert_eq!(cmds[..4], ["Login", "Login", "SendP2PMsg", "SendP2PMsg"]);
    assert!(lines[1..].iter().all(|line| line["server"] != "gateway"));
    assert!(lines.iter().all(|line| line["uid"] != 2));
    let token = imd(&["token", "1"]).ok().remove(0);
    // Without the other user's messages, the inbox is empty.
    let daemon = Daemon::start(&[]);
    let report = different(record.in_part_to(&daemon, &["--token", &token]));
    assert!(
        report.contains("\"1 entries\", got \"0 entries\""),
        "{report}"
    );
}

#[test]
fn users_who_were_logged_in_before_the_recording_are_logged_in_first() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("late.rec").to_str().unwrap().to_owned();
    let daemon = Daemon::start(&[]);
    let mut bob = daemon.spawn(&["chat", "--uid", "2"]);
    bob.line_with("You are 2");
    let mut record = daemon.spawn(&["record", "--to", &path, "--uid", "2"]);
    record.line_with("Recording to");
    bob.write("/to 2 to myself");
    bob.line_with("to myself");
    bob.end().ok();
    daemon.stop();
    record.end().ok();
    let record = Recorded { folder, path };
    assert!(record.lines().iter().all(|line| line["cmd"] != "Login"));
    alike(record.to(&Daemon::start(&[]), &["--speed", "10"]));
}

#[test]
fn a_record_ends_on_a_signal_or_after_a_number_of_frames() {
    let folder = TempDir::new().unwrap();
    let daemon = Daemon::start(&[]);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (one, few) = (path("one"), path("few"));
    let mut record = daemon.spawn(&["record", "--to", &one]);
    record.line_with("Recording to");
    let mut counted = daemon.spawn(&["record", "--to", &few, "--count", "3"]);
    counted.line_with("Recording to");
    daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
    assert_eq!(counted.end().ok()[1], "3 frames are recorded.");
    let frames = fs::read_to_string(&few).unwrap();
    assert_eq!(frames.matches("\"bytes\"").count(), 3);
    record.signal("-INT");
    record.end().ok();
    let again = daemon.imd(&["record", "--to", &few]).failed(64);
    assert!(
        again.contains("few is there already") && again.contains("--force"),
        "{again}"
    );
    daemon
        .imd(&["record", "--to", &few, "--force", "--for", "1ms"])
        .ok();
    assert!(!fs::read_to_string(&few).unwrap().contains("\"bytes\""));
    daemon
        .imd(&["record", "--to", &path("none"), "--for", "1ms"])
        .ok();
    let config = write_config(folder.path(), "[journal]\ncapture = \"off\"\n");
    let off = Daemon::start(&["--config", &config]);
    let nothing = off.imd(&["record", "--to", &path("off")]).failed(64);
    assert!(nothing.contains("this stack records nothing"), "{nothing}");
}

/// Writes a record with these lines: the number of the session, the server, the kind of event, and the bytes of a
/// frame.
fn written(path: &str, lines: &[(u64, &str, &str, &str)]) {
    let mut text = r#"{"format":"imd-record","version":1,"imd":"0.1.0"}"#.to_owned() + "\n";
    for (session, server, what, bytes) in lines {
        let frame = match *bytes {
            "" => String::new(),
            bytes => format!(r#","bytes":"{bytes}""#),
        };
        text += &format!(
            r#"{{"us":0,"session":{session},"server":"{server}","what":"{what}"{frame}}}"#
        );
        text += "\n";
    }
    fs::write(path, text).unwrap();
}

/// A ping before the login. Its answer has no text.
const PING: &str = "08a29c01";
const NOT_LOGGED_IN: &str = "08a29c0110cbd605";

#[test]
fn requests_that_were_sent_far_ahead_are_all_compared() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ahead.rec").to_str().unwrap().to_owned();
    let mut lines = vec![(1, "access-1", "opened", "")];
    lines.extend([(1, "access-1", "in", PING); 3_000]);
    lines.extend([(1, "access-1", "out", NOT_LOGGED_IN); 3_000]);
    lines.push((1, "access-1", "closed", ""));
    written(&path, &lines);
    let replay = ["replay", &path, "--ignore", "errStr"];
    let out = Daemon::start(&[]).imd(&replay).ok();
    assert_eq!(
        out,
        ["3000 requests; of what the server said, 3000 alike, 0 different"]
    );
}

#[test]
fn a_replay_that_can_not_go_on_still_reports_its_totals() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("two.rec").to_str().unwrap().to_owned();
    let session = |id| {
        [
            (id, "access-1", "opened", ""),
            (id, "access-1", "in", PING),
            (id, "access-1", "out", NOT_LOGGED_IN),
            (id, "access-1", "closed", ""),
        ]
    };
    written(&path, &[session(1), session(2)].concat());
    let daemon = Daemon::start(&[]);
    let replay = |flags: &[&str]| {
        let at = ["fault", "add", "--at", "gateway.reply", "--nth", "2"];
        let refused = ["--error", "92001", "--name", "none"];
        daemon.imd(&[&at[..], &refused].concat()).ok();
        let replay = ["replay", &path, "--ignore", "errStr"];
        let ended = daemon.imd(&[&replay[..], flags].concat());
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        assert!(ended.err.contains("line 6: gateway"), "{}", ended.err);
        daemon.imd(&["fault", "rm", "none"]).ok();
        ended.out
    };
    let report = "1 requests; of what the server said, 1 alike, 0 different";
    assert_eq!(replay(&[]), [report]);
    let report: Value = serde_json::from_str(&replay(&["--json"])[0]).unwrap();
    assert_eq!(
        (&report["requests"], &report["alike"]),
        (&1.into(), &1.into())
    );
    assert!(
        report["error"].as_str().unwrap().contains("line 6"),
        "{report}"
    );
}

#[test]
fn a_pipe_is_refused_as_a_record() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    // No program writes into the pipe.
    let refused = imd(&["replay", path.to_str().unwrap()]).failed(64);
    assert!(refused.contains("no regular file"), "{refused}");
}

#[test]
fn a_damaged_record_is_refused_before_anything_is_sent() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("bad.rec").to_str().unwrap().to_owned();
    let replay = |text: &str| {
        fs::write(&path, text).unwrap();
        // Nothing listens on port 1.
        imd(&["replay", &path, "--gateway", "127.0.0.1:1"])
    };
    let header = r#"{"format":"imd-record","version":1,"imd":"0.1.0"}"#;
    let good = r#"{"us":0,"session":1,"server":"access-1","what":"opened"}"#;
    for (text, says) in [
        ("hello\n".to_owned(), "line 1: this is no record"),
        (format!("{header}\n{good}\n{{\"us\":"), "line 3: EOF"),
        (format!("{header}\n{good}\n\u{0}\n"), "line 3: "),
    ] {
        let error = replay(&text).failed(64);
        assert!(error.contains(&path) && error.contains(says), "{error}");
    }
    let nowhere = replay(&format!("{header}\n{good}\n")).failed(1);
    assert!(nowhere.contains("line 2: gateway 127.0.0.1:1"), "{nowhere}");
    let missing = imd(&["replay", "no-such.rec"]).failed(64);
    assert!(missing.contains("no-such.rec"), "{missing}");
}

/// Damages a record as a disk, an editor or an attacker would.
fn damage(text: &str, chance: &mut StdRng) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
    for _ in 0..chance.random_range(1..=3) {
        let at = chance.random_range(0..lines.len());
        let other = chance.random_range(0..lines.len());
        match chance.random_range(0..8) {
            0 => drop(lines.remove(at)),
            1 => lines.swap(at, other),
            2 => lines.insert(at, lines[other].clone()),
            3 => lines.truncate(at.max(1)),
            4 => {
                let half = lines[at].len() / 2;
                lines[at].truncate(half);
            }
            // Changes a digit of a time, an id or a frame.
            5 | 6 => {
                let digits: Vec<_> = (0..lines[at].len())
                    .filter(|&place| lines[at][place].is_ascii_digit())
                    .collect();
                if let Some(&place) = digits.get(chance.random_range(0..digits.len().max(1))) {
                    lines[at][place] = chance.random_range(b'0'..=b'9');
                }
            }
            _ => {
                let place = chance.random_range(0..lines[at].len().max(1));
                if let Some(byte) = lines[at].get_mut(place) {
                    *byte ^= 1 << chance.random_range(0..8);
                }
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.join(&b'\n')
}

#[test]
fn a_record_that_is_damaged_anywhere_is_replayed_or_refused_with_its_line() {
    let record = recorded(&[]);
    let text = fs::read_to_string(&record.path).unwrap();
    let daemon = Daemon::start(&[]);
    let mut chance = chance();
    for round in 0..6 {
        let running: Vec<_> = (0..6)
            .map(|n| {
                let path = record.folder.path().join(format!("{round}-{n}.rec"));
                fs::write(&path, damage(&text, &mut chance)).unwrap();
                let path = path.to_str().unwrap().to_owned();
                let speed = ["--timeout", "100ms", "--speed", "1000000"];
                let replay = daemon.spawn(&[&["replay", &path][..], &speed].concat());
                (path, replay)
            })
            .collect();
        for (path, replay) in running {
            let Ended { code, out, err } = replay.end();
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            let report = format!("{code:?}\n{out:?}\n{err}\n--- of\n{text}");
            assert!(!err.contains("panicked"), "{report}");
            match code {
                Some(0) => assert!(out[0].contains("0 different"), "{report}"),
                // The replay reports a difference, or the line at which it could not go on.
                Some(1) => assert!(!out.is_empty() || err.contains("line "), "{report}"),
                Some(64) => assert!(err.contains(&path) && err.contains("line "), "{report}"),
                _ => panic!("{report}"),
            }
        }
    }
    // The stack serves as before.
    daemon.imd(&["send", "--from", "8", "--to", "9", "x"]).ok();
    daemon.imd(&["reset"]).ok();
    alike(record.to(&daemon, &[]));
}

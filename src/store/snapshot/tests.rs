//! Tests the format of a snapshot's file, and which files are refused.

use super::check::Checked;
use super::*;
use std::io::Read;

use crate::id::{GroupId, MsgId, Uid, Version};

/// The lines of a small store's file, as a user might write them by hand: without checksums.
const BY_HAND: [&str; 7] = [
    r#"{"imd_snapshot":{"format":1,"newest":9}}"#,
    r#"{"user":{"uid":1,"name":"ann","password_hash":"hash"}}"#,
    r#"{"group":{"gid":50,"name":"team","owner":1,"members":[1,2]}}"#,
    r#"{"inbox":{"uid":2,"read":1,"removed":0,"total":2}}"#,
    r#"{"message":{"kind":"p2p","source":1,"msg_id":"a","text":"hi, \"check\":\"","sent_at":8,"receivers":[2],"places":[[2,1]]}}"#,
    r#"{"message":{"kind":"group","source":1,"group":50,"msg_id":"a","text":"hi","sent_at":9,"receivers":[1,2],"places":[[2,2]]}}"#,
    r#"{"end":{"lines":6}}"#,
];

/// Returns a file of these lines.
fn by_hand(lines: &[&str]) -> Vec<u8> {
    (lines.join("\n") + "\n").into_bytes()
}

/// Returns the file of [`BY_HAND`] as `imd` writes it: with checksums.
fn file() -> Vec<u8> {
    let mut file = Vec::new();
    let snapshot = Snapshot::read(&by_hand(&BY_HAND)).unwrap();
    snapshot.write(&mut file).unwrap();
    file
}

/// Returns the error of [`BY_HAND`] with one line replaced. `line` counts from 1.
fn refused(line: usize, text: &str) -> LoadError {
    let mut lines = BY_HAND;
    lines[line - 1] = text;
    Snapshot::read(&by_hand(&lines)).unwrap_err()
}

#[test]
fn a_file_reads_back_as_the_same_snapshot_with_and_without_checksums() {
    let file = file();
    let snapshot = Snapshot::read(&file).unwrap();
    assert!(snapshot == Snapshot::read(&by_hand(&BY_HAND)).unwrap());
    let text = String::from_utf8(file).unwrap();
    assert!(
        text.lines().all(|line| line.contains(r#","check":""#)),
        "{text}"
    );
    // The last line is complete without a line end.
    assert!(Snapshot::read(text.trim_end().as_bytes()).unwrap() == snapshot);
}

/// The time must not grow with the square of the receivers: this test would not end if each place were looked up in a
/// list.
#[test]
fn a_message_with_300_000_receivers_is_read_in_reasonable_time() {
    let uids: Vec<Uid> = (1..=300_000).map(Uid).collect();
    let mut checked = Checked::new(1).unwrap();
    let group = Group {
        gid: GroupId(50),
        name: String::new(),
        owner: Some(Uid(1)),
        members: uids.clone(),
    };
    checked.group(group).unwrap();
    for &uid in &uids {
        let ends = InboxSummary {
            uid,
            read: Version(0),
            trimmed_through: Version(0),
            total: Version(1),
        };
        checked.inbox(ends).unwrap();
    }
    let message = Message::new(Kind::Group, Uid(1), Some(GroupId(50)), MsgId("a"), "hi", 1);
    let places: Vec<_> = uids.iter().map(|&uid| (uid, Version(1))).collect();
    checked.message(message, uids, &places).unwrap();
    assert!(checked.finish().is_ok());
}

#[test]
fn an_empty_snapshot_reads_back_from_its_file() {
    let mut file = Vec::new();
    Snapshot::default().write(&mut file).unwrap();
    assert!(Snapshot::read(&file).unwrap() == Snapshot::default());
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused_with_its_last_line() {
    let file = file();
    for end in 0..file.len() - 1 {
        let error = Snapshot::read(&file[..end]).unwrap_err();
        let whole = file[..end].iter().filter(|&&byte| byte == b'\n').count();
        assert!([whole, whole + 1].contains(&error.line), "{end}: {error}");
    }
}

#[test]
fn every_flipped_bit_is_found_in_its_line() {
    let file = file();
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = Snapshot::read(&damaged).unwrap_err();
        let line = 1 + file[..bit / 8]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        assert!(
            error.line == line || error.line == line + 1,
            "{bit}: {error}"
        );
    }
}

#[test]
fn an_error_does_not_quote_the_file() {
    let error = refused(
        2,
        r#"{"user":{"uid":1,"name":"ann","password_hash":secret}}"#,
    );
    assert_eq!(error.to_string(), "line 2: it can't be read, at column 47");
    let error = refused(
        2,
        r#"{"user":{"uid":1,"name":"ann","password_hash":"hush","salt":1}}"#,
    );
    assert!(!error.why.contains("hush"), "{error}");
}

#[test]
fn a_file_of_another_kind_and_one_of_a_newer_format_have_different_errors() {
    for none in ["", "hello", "{}", "[1]", r#"{"user":{}}"#] {
        let error = Snapshot::read(none.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 1: this is no snapshot of imd");
    }
    let newer = refused(1, r#"{"imd_snapshot":{"format":2,"newest":9,"more":[]}}"#);
    assert!(
        newer.why.contains("format 2") && newer.why.contains("use a newer imd"),
        "{newer}"
    );
}

#[test]
fn an_inconsistent_file_is_refused_with_its_line() {
    let long = "x".repeat(70_000);
    let message =
        |fields: &str| format!(r#"{{"message":{{"kind":"p2p","source":1,"sent_at":8,{fields}}}}}"#);
    let cases = [
        (
            1,
            r#"{"imd_snapshot":{"format":1,"newest":9223372036854775807}}"#.into(),
            "no time",
        ),
        (
            1,
            r#"{"imd_snapshot":{"format":1,"newest":2199023255551}}"#.into(),
            "no time",
        ),
        (
            2,
            r#"{"user":{"uid":0,"name":"","password_hash":""}}"#.into(),
            "uid 0 is not positive",
        ),
        (3, BY_HAND[1].into(), "user 1 is there twice"),
        (
            2,
            r#"{"user":{"uid":1,"name":"","password_hash":"$argon2id$v=19$m=4194304,t=50,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}"#.into(),
            "has m=4194304",
        ),
        (
            2,
            r#"{"user":{"uid":1,"name":"","password_hash":"$2b$31$AAAAAAAAAAAAAAAAAAAAAA"}}"#.into(),
            "argon2id in PHC form",
        ),
        (
            2,
            format!(
                r#"{{"user":{{"uid":1,"name":"","password_hash":"{}"}}}}"#,
                "x".repeat(1 << 20)
            ),
            "has 1048576 bytes",
        ),
        (
            3,
            r#"{"group":{"gid":50,"name":"","owner":1,"members":[1,1]}}"#.into(),
            "1 stands there twice",
        ),
        (
            4,
            r#"{"inbox":{"uid":2,"read":3,"removed":0,"total":2}}"#.into(),
            "do not fit together",
        ),
        (
            4,
            r#"{"inbox":{"uid":2,"read":1,"removed":-1,"total":2}}"#.into(),
            "do not fit together",
        ),
        (
            5,
            message(r#""msg_id":"a","text":"","receivers":[2],"places":[[2,3]]"#),
            "does not have version 3",
        ),
        (
            5,
            message(r#""msg_id":"a","text":"","receivers":[2],"places":[[3,1]]"#),
            "3 did not receive it",
        ),
        (
            5,
            message(r#""msg_id":"a","text":"","receivers":[3],"places":[[3,1]]"#),
            "no inbox of 3",
        ),
        (
            5,
            message(r#""msg_id":"a","text":"","receivers":[2,3],"places":[]"#),
            "do not fit the kind",
        ),
        (
            5,
            message(r#""msg_id":"","text":"","receivers":[2],"places":[]"#),
            "msg_id is empty",
        ),
        (
            5,
            message(r#""msg_id":"a","text":"hi","receivers":[2],"places":[]"#),
            "has no text",
        ),
        (
            5,
            message(&format!(
                r#""msg_id":"a","text":"{long}","receivers":[2],"places":[[2,1]]"#
            )),
            "fit no page",
        ),
        (6, BY_HAND[4].into(), "is there twice"),
        (
            6,
            message(r#""msg_id":"b","text":"","receivers":[2],"places":[[2,1]]"#),
            "version 1 of the inbox of 2 is there twice",
        ),
        (
            3,
            r#"{"group":{"gid":51,"name":"","owner":1,"members":[]}}"#.into(),
            "there is no group 50",
        ),
        (
            7,
            r#"{"end":{"lines":5}}"#.into(),
            "6 lines came before, and it says 5",
        ),
        (6, BY_HAND[0].into(), "belongs elsewhere"),
    ];
    for (line, text, expected) in cases {
        let error = refused(line, &text);
        assert!(error.why.contains(expected), "{text}: {error}");
        let is_there = error.line == line || expected.contains("no group");
        assert!(is_there, "{error}");
    }
    let mut lacking = BY_HAND.to_vec();
    lacking.remove(5);
    lacking[5] = r#"{"end":{"lines":5}}"#;
    let error = Snapshot::read(&by_hand(&lacking)).unwrap_err();
    assert_eq!(error.to_string(), "line 6: the inbox of 2 lacks 1 entries");
    let behind = [&BY_HAND[..], &[BY_HAND[1]]].concat();
    let error = Snapshot::read(&by_hand(&behind)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 8: there is something behind the last line"
    );
}

#[test]
fn a_file_with_crlf_or_a_byte_order_mark_is_the_same_snapshot() {
    let file = by_hand(&BY_HAND);
    let snapshot = Snapshot::read(&file).unwrap();
    let mut with_checks = Vec::new();
    snapshot.write(&mut with_checks).unwrap();
    for file in [file, with_checks] {
        let text = String::from_utf8(file).unwrap();
        let crlf = text.replace('\n', "\r\n");
        for same in [
            format!("\u{feff}{text}"),
            crlf.clone(),
            format!("\u{feff}{crlf}"),
        ] {
            assert!(Snapshot::read(same.as_bytes()).unwrap() == snapshot);
        }
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let error = Snapshot::read(&utf16).unwrap_err().to_string();
        assert!(error.starts_with("line 1: this is UTF-16"), "{error}");
        let error = Snapshot::read(text.replace('\n', "\r").as_bytes()).unwrap_err();
        assert!(error.why.contains("CR alone"), "{error}");
    }
}

#[test]
fn a_line_that_is_too_long_is_refused_before_it_is_read_to_its_end() {
    let endless = || std::io::repeat(b'x').take(1 << 30);
    for (before, line) in [(String::new(), 1), (format!("{}\n", BY_HAND[0]), 2)] {
        let mut file = std::io::BufReader::new(before.as_bytes().chain(endless()));
        let error = Snapshot::read_from(&mut file).unwrap_err();
        assert_eq!(error.line, line);
        assert!(error.why.contains("longer than"), "{error}");
        let unread = file.get_ref().get_ref().1.limit();
        assert!(unread > 1_000_000_000, "{unread} of {} are left", 1 << 30);
    }
}

#[test]
fn a_list_that_is_too_long_is_not_read_to_its_end() {
    let members = vec!["7"; (1 << 20) + 1].join(",");
    let line =
        format!(r#"{{"group":{{"gid":50,"name":"","owner":1,"members":[{members},"end"]}}}}"#);
    let why = refused(3, &line).why;
    assert!(why.contains("a list has more than 1048576 items"), "{why}");
    // The error is not that of the item of another type, which follows the limit.
    let column = why
        .rsplit_once(' ')
        .and_then(|(_, column)| column.parse().ok());
    assert!(
        column.is_some_and(|column: usize| column <= line.len() - 8),
        "{why}"
    );
}

//! Snapshots that somebody wrote to do harm: each is refused with the number of the bad line, and nothing of it is
//! loaded.

use serde_json::Value;
use tempfile::TempDir;

use crate::admin::{asked, call, get};
use crate::support::{ephemeral, start, user, user_with_mail};

/// The snapshot of a small store, by line, without checksums, as a person would write it.
const GOOD: [&str; 8] = [
    r#"{"imd_snapshot":{"format":1,"newest":9}}"#,
    r#"{"user":{"uid":1,"name":"ann","password_hash":""}}"#,
    r#"{"group":{"gid":50,"name":"team","owner":1,"members":[1,2]}}"#,
    r#"{"inbox":{"uid":2,"read":1,"removed":0,"total":2}}"#,
    r#"{"message":{"kind":"p2p","source":1,"msg_id":"a","text":"hi","sent_at":8,"receivers":[2],"places":[[2,1]]}}"#,
    r#"{"message":{"kind":"group","source":1,"group":50,"msg_id":"a","text":"hi","sent_at":9,"receivers":[1,2],"places":[[2,2]]}}"#,
    r#"{"message":{"kind":"ack","source":2,"msg_id":"a","text":"","sent_at":9,"receivers":[1],"places":[]}}"#,
    r#"{"end":{"lines":7}}"#,
];

/// Returns the snapshot with one line replaced by `text`, which may be several lines or none.
fn with(line: usize, text: &str) -> Vec<u8> {
    let mut lines = GOOD.map(str::to_owned);
    lines[line - 1] = text.to_owned();
    (lines.join("\n") + "\n").into_bytes()
}

/// Returns the snapshot with a part of one line replaced.
fn changed(line: usize, from: &str, to: &str) -> Vec<u8> {
    assert!(GOOD[line - 1].contains(from), "{from}");
    with(line, &GOOD[line - 1].replace(from, to))
}

/// Returns each bad snapshot, with the number of the line by which it is refused.
fn files() -> Vec<(usize, Vec<u8>)> {
    let deep = "[".repeat(100_000);
    let long = "x".repeat(100_000);
    let many = (1..=1_000)
        .map(|uid| uid.to_string())
        .collect::<Vec<_>>()
        .join(",");
    let max = i64::MAX.to_string();
    let whole = GOOD.join("\n") + "\n";
    let mut files = vec![
        // The first line.
        (1, changed(1, "imd_snapshot", "snapshot")),
        (1, changed(1, "\"format\":1", "\"format\":0")),
        (1, changed(1, "\"format\":1", "\"format\":2")),
        (1, changed(1, "\"format\":1", "\"format\":-1")),
        (1, changed(1, "\"format\":1", "\"format\":1.0")),
        (1, changed(1, "\"format\":1", "\"format\":\"1\"")),
        (
            1,
            changed(1, "\"format\":1", "\"format\":99999999999999999999"),
        ),
        (1, changed(1, "\"format\":1,", "")),
        (1, changed(1, ",\"newest\":9", "")),
        (1, changed(1, "9", "-1")),
        (1, changed(1, "9", &max)),
        (1, changed(1, "9", "1e3")),
        (1, changed(1, "9", "null")),
        (1, changed(1, "}}", ",\"newest\":8}}")),
        (1, changed(1, "}}", "},\"user\":{}}")),
        (1, with(1, "")),
        (1, with(1, GOOD[1])),
        (1, with(1, &deep)),
        (2, with(1, &format!("{}\n{}", GOOD[0], GOOD[0]))),
        // Users.
        (2, changed(2, "1", "0")),
        (2, changed(2, "1", "-1")),
        (2, changed(2, "1", "1.5")),
        (2, changed(2, "1", "true")),
        (2, changed(2, "1", "9223372036854775808")),
        (2, changed(2, "\"uid\":1", "\"uid\":1,\"uid\":2")),
        (2, changed(2, "\"ann\"", "[]")),
        (2, changed(2, "\"ann\"", "\"\\ud800\"")),
        (2, changed(2, "\"ann\"", "\"a\u{0}n\"")),
        (2, changed(2, "ann\"", "ann")),
        (2, changed(2, ",\"name\":\"ann\"", "")),
        (2, changed(2, "}}", ",\"admin\":true}}")),
        (2, changed(2, "user", "root")),
        (2, changed(2, "{\"user\"", "{\"user\":{},\"user\"")),
        (2, changed(2, "}}", "}} x")),
        (2, changed(2, "}}", "}}{}")),
        (2, changed(2, "{\"user\"", "[{\"user\"")),
        (2, with(2, &deep)),
        (2, with(2, "null")),
        (2, with(2, "{}")),
        (2, with(2, "NaN")),
        (2, with(2, "")),
        (3, with(2, &format!("{}\n{}", GOOD[1], GOOD[1]))),
        // Groups.
        (3, changed(3, "50", "0")),
        (3, changed(3, "50", "-50")),
        (3, changed(3, "\"owner\":1", "\"owner\":-1")),
        (3, changed(3, "[1,2]", "[1,2,1]")),
        (3, changed(3, "[1,2]", "[0]")),
        (3, changed(3, "[1,2]", "[1,[2]]")),
        (3, changed(3, "[1,2]", "{\"1\":2}")),
        (3, changed(3, "[1,2]", &format!("[{many},{many}]"))),
        (3, changed(3, "[1,2]", &deep)),
        (4, with(3, &format!("{}\n{}", GOOD[2], GOOD[2]))),
        // Inboxes.
        (4, changed(4, "\"uid\":2", "\"uid\":0")),
        (4, changed(4, "\"read\":1", "\"read\":3")),
        (4, changed(4, "\"read\":1", "\"read\":-1")),
        (4, changed(4, "\"removed\":0", "\"removed\":2")),
        (4, changed(4, "\"removed\":0", "\"removed\":-1")),
        (4, changed(4, "\"total\":2", "\"total\":0")),
        (4, changed(4, "\"total\":2", &format!("\"total\":{max}"))),
        (5, with(4, &format!("{}\n{}", GOOD[3], GOOD[3]))),
        // Messages.
        (5, changed(5, "p2p", "shout")),
        (5, changed(5, "p2p", "group")),
        (5, changed(5, "\"source\":1", "\"source\":0")),
        (5, changed(5, "\"source\":1", "\"source\":1,\"group\":50")),
        (5, changed(5, "\"a\"", "\"\"")),
        (5, changed(5, "\"hi\"", &format!("\"{long}\""))),
        (5, changed(5, "\"a\"", &format!("\"{long}\""))),
        (
            5,
            changed(5, "\"sent_at\":8", &format!("\"sent_at\":{max}")),
        ),
        (5, changed(5, "\"receivers\":[2]", "\"receivers\":[]")),
        (5, changed(5, "\"receivers\":[2]", "\"receivers\":[2,2]")),
        (5, changed(5, "\"receivers\":[2]", "\"receivers\":[-2]")),
        (5, changed(5, "[[2,1]]", "[[2,1],[2,1]]")),
        (5, changed(5, "[[2,1]]", "[[2,0]]")),
        (5, changed(5, "[[2,1]]", "[[2,3]]")),
        (5, changed(5, "[[2,1]]", "[[9,1]]")),
        (5, changed(5, "[[2,1]]", "[[2]]")),
        (5, changed(5, "[[2,1]]", "[]")),
        (5, changed(5, "[[2,1]]", &deep)),
        (6, changed(6, "\"group\":50", "\"group\":51")),
        (6, changed(6, "[[2,2]]", "[[2,1]]")),
        (6, with(6, GOOD[4])),
        (7, changed(7, "[1]", "[1,2]")),
        // The last line, and lines behind it.
        (8, changed(8, "7", "6")),
        (8, changed(8, "7", "18446744073709551615")),
        (8, changed(8, "7", "-1")),
        (8, with(8, GOOD[1].replace('1', "9").as_str())),
        (9, with(8, &format!("{}\n{}", GOOD[7], GOOD[7]))),
        (9, with(8, &format!("{}\n\n", GOOD[7]))),
        (
            7,
            (whole
                .replace(&format!("{}\n", GOOD[5]), "")
                .replace("\"lines\":7", "\"lines\":6"))
            .into_bytes(),
        ),
        // The file as a whole.
        (1, b"\n".to_vec()),
        (1, vec![0; 100_000]),
        (1, vec![b'\n'; 100_000]),
        (1, b"PK\x03\x04 no snapshot".to_vec()),
        (1, whole.replace('\n', "\r").into_bytes()),
        (1, whole.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        (1, whole.replace('\n', "").into_bytes()),
    ];
    let mut damaged = whole.clone().into_bytes();
    let at = whole.find("ann").unwrap();
    damaged[at] = 0xff;
    files.push((2, damaged));
    files
}

#[tokio::test]
async fn every_bad_snapshot_is_refused_with_its_line_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    for store in [None, Some(folder.path().join("data"))] {
        let mut config = ephemeral().manual_clock();
        config.store.path = store;
        let imd = start(config).await;
        let mut ann = user(&imd, 1).await;
        assert_eq!(ann.p2p(1, "a", "hello").await.err_code, 0);
        assert_eq!(ann.notified().await, (0, 1));
        let before = get(&imd, "/v1/snapshot").await;
        let addr = imd.admin_addr().unwrap();
        for (line, file) in files() {
            let name = String::from_utf8_lossy(&file)
                .lines()
                .nth(line - 1)
                .map(|line| format!("{line:.200}"));
            let head = format!("PUT /v1/snapshot?confirm=true HTTP/1.1\r\nhost: {addr}");
            let (status, answer) = asked(addr, &head, &file).await;
            let why = answer["error"].as_str().unwrap_or_default();
            assert_eq!(status, 400, "{name:?}: {answer}");
            let is_there = why.starts_with(&format!("line {line}: "));
            assert!(is_there, "line {line}: {name:?}: {why}");
            assert!(
                why.len() < 500 && !why.contains("\"hi\""),
                "{name:?}: {why}"
            );
        }
        assert_eq!(get(&imd, "/v1/snapshot").await, before);
        ann.ping().await;
        assert_eq!(ann.p2p(1, "b", "hello").await.err_code, 0);
        assert_eq!(ann.notified().await, (0, 2));
        // A valid snapshot is still taken.
        let good = Value::String(GOOD.join("\n"));
        let (status, answer) = call(&imd, "PUT", "/v1/snapshot?confirm=true", good).await;
        assert_eq!(status, 200, "{answer}");
        user_with_mail(&imd, 2, (1, 2)).await;
    }
}

//! Commands that list the contents of a running stack, and commands that wait for something in it.
//!
//! Each prints lines that scripts can read, and joins the parts in which the admin API gives a list out.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use imd::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Daemon, Program, imd};

#[tokio::test]
async fn the_contents_of_a_stack_are_printed_line_by_line() {
    let daemon = Daemon::start(&[]);
    daemon
        .imd(&["register", "--uid", "1", "--name", "ann"])
        .ok();
    daemon
        .imd(&["group", "create", "--uid", "1", "--name", "team"])
        .ok();
    for text in ["one", "two"] {
        daemon.imd(&["send", "--from", "1", "--to", "2", text]).ok();
    }
    let mut bob = Client::connect(daemon.addresses().gateway).await.unwrap();
    let token = imd::service::salted_token(2, imd::config::PUBLIC_SALT);
    bob.login(2, &token).await.unwrap();

    let users = daemon.imd(&["users"]).json();
    assert_eq!(
        (&users[0]["uid"], &users[0]["name"]),
        (&1.into(), &"ann".into())
    );
    assert_eq!(
        (&users[1]["uid"], &users[1]["online"]),
        (&2.into(), &true.into())
    );
    let groups = daemon.imd(&["groups"]).json();
    assert_eq!((groups.len(), &groups[0]["name"]), (1, &"team".into()));
    let inboxes = daemon.imd(&["inboxes"]).json();
    assert_eq!(
        (&inboxes[0]["uid"], &inboxes[0]["stored"]),
        (&2.into(), &2.into())
    );
    let entries = daemon.imd(&["inboxes", "2"]).json();
    let texts: Vec<_> = entries.iter().map(|entry| entry["msg"].as_str()).collect();
    assert_eq!(texts, [Some("one"), Some("two")]);
    assert!(daemon.imd(&["inboxes", "7"]).ok().is_empty());
    let sessions = daemon.imd(&["sessions"]).json();
    assert!(
        sessions.iter().any(|session| session["uid"] == 2),
        "{sessions:?}"
    );
    let servers = daemon.imd(&["access", "ls"]).json();
    let names: Vec<_> = servers
        .iter()
        .map(|server| server["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["access-1", "access-2", "access-3"]);
    assert!(servers.iter().all(|server| server["state"] == "running"));
}

#[test]
fn a_list_is_printed_to_its_end() {
    let daemon = Daemon::start(&["--memory"]);
    // The users come from a snapshot, because to register them one by one would hash as many passwords.
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("many.jsonl");
    let mut text = "{\"imd_snapshot\":{\"format\":1,\"newest\":0}}\n".to_owned();
    for uid in 1..=2_000 {
        let hash = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        text +=
            &format!("{{\"user\":{{\"uid\":{uid},\"name\":\"\",\"password_hash\":\"{hash}\"}}}}\n");
    }
    text += "{\"end\":{\"lines\":2001}}\n";
    std::fs::write(&file, text).unwrap();
    daemon
        .imd(&["snapshot", "load", file.to_str().unwrap()])
        .ok();
    // As many as fill exactly two parts.
    let uids: Vec<i64> = daemon
        .imd(&["users"])
        .json()
        .iter()
        .map(|user| user["uid"].as_i64().unwrap())
        .collect();
    assert_eq!(uids, (1..=2_000).collect::<Vec<_>>());
}

#[test]
fn faults_and_the_members_of_a_group_are_printed_to_the_end() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("imd.toml");
    let members: Vec<i64> = (1..=1_101).collect();
    let mut config = format!("[[group]]\ngid = 5\nmembers = {members:?}\n");
    config += "[[group]]\ngid = 6\nmembers = [1, 2]\n";
    // As many as fill exactly two parts.
    for n in 0..2_000 {
        config += &format!("[[fault]]\nname = \"f & {n}\"\nat = \"notify\"\ndrop = true\n");
    }
    std::fs::write(&file, config).unwrap();
    let daemon = Daemon::start(&["--memory", "--config", file.to_str().unwrap()]);
    let groups = daemon.imd(&["groups"]).json();
    let of = |group: &Value, key: &str| group[key].as_array().unwrap().clone();
    assert_eq!(of(&groups[0], "members"), members);
    let texts: Vec<String> = members.iter().map(i64::to_string).collect();
    assert_eq!(of(&groups[0], "members_str"), texts);
    assert_eq!(of(&groups[1], "members"), [1, 2]);
    assert!(groups.iter().all(|group| group.get("next").is_none()));
    let names = daemon.imd(&["fault", "ls"]).json();
    let names: Vec<_> = names.iter().map(|fault| fault["name"].clone()).collect();
    let expected: Vec<_> = (0..2_000).map(|n| format!("f & {n}")).collect();
    assert_eq!(names, expected);
}

/// Starts an admin API of another version, which says in its own way where a list goes on.
fn paging(next: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 1024];
            let n = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..n]).into_owned();
            let body = match request.contains("after=0&") {
                true => format!("{{\"users\":[{{\"uid\":7}}],\"next\":{next}}}"),
                false => "{\"users\":[{\"uid\":8}]}".to_owned(),
            };
            let head = format!("content-length: {}\r\nconnection: close", body.len());
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").unwrap();
        }
    });
    addr
}

#[test]
fn a_list_goes_on_after_a_number_or_a_string() {
    for (next, count) in [("7", 2), ("\"7\"", 2), ("null", 1), ("0", 1), ("\"0\"", 1)] {
        let listed = imd(&["users", "--admin", &paging(next)]).ok();
        assert_eq!(listed.len(), count, "{next}: {listed:?}");
    }
}

#[test]
fn a_wait_finds_an_event_that_has_passed() {
    let daemon = Daemon::start(&[]);
    let mark = daemon.imd(&["mark"]).ok();
    daemon
        .imd(&["send", "--from", "7", "--to", "2", "hello"])
        .ok();
    let wait = ["wait", "--uid", "7", "--cmd", "SendP2PMsg", "--what", "in"];
    let since = ["--since", mark[0].as_str(), "--timeout", "60s"];
    let seen = daemon.imd(&[&wait[..], &since].concat()).json();
    assert_eq!(seen[0]["frame"]["msg"], "hello");
    let late = daemon
        .imd(&["wait", "--uid", "99", "--timeout", "10ms"])
        .failed(1);
    assert!(late.contains("not seen within 10ms"), "{late}");
    // A mark of a daemon that has recorded more events.
    let other = daemon.imd(&["wait", "--since", "1000"]).failed(1);
    assert!(
        other.contains("since: 1000 is beyond the newest event"),
        "{other}"
    );
    let bare = daemon.imd(&["wait", "--timeout", "5"]).failed(64);
    assert!(bare.contains("such as 5s"), "{bare}");
}

#[test]
fn a_stack_is_waited_for_until_it_is_ready() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("addr.json");
    let file = file.to_str().unwrap();
    let mut waiting = Program::start(&["ready", "--wait", "60s", "--addr-file", file]);
    assert!(waiting.is_running());
    let _daemon = Program::start(&["--any-port", "--addr-file", file]);
    waiting.end().ok();
    imd(&["ready", "--addr-file", file, "--wait"]).ok();

    let nowhere = ["ready", "--wait", "200ms", "--admin", "http://127.0.0.1:1"];
    let error = imd(&nowhere).failed(1);
    assert!(
        error.contains("not ready within 200ms: ") && error.contains("Nothing listens there"),
        "{error}"
    );
    // An error that no wait can mend is reported at once.
    imd(&["ready", "--wait", "60s", "--admin", "ftp://127.0.0.1:1"]).failed(64);
    imd(&["ready", "--wait", "60s", "--config", "/no/such.toml"]).failed(64);
}

#[test]
fn a_message_is_sent_once_under_its_own_id() {
    let daemon = Daemon::start(&[]);
    let send = [
        "send", "--from", "1", "--to", "2", "--msg-id", "my id", "hello",
    ];
    for _ in 0..2 {
        assert_eq!(daemon.imd(&send).json()[0]["msg_id"], "my id");
    }
    assert_eq!(daemon.imd(&["sync", "--uid", "2"]).ok().len(), 1);
}

#[test]
fn a_sync_beyond_the_end_of_an_inbox_is_reported() {
    let daemon = Daemon::start(&[]);
    let sync = |after: &str| daemon.imd(&["sync", "--uid", "2", "--after", after]);
    let empty = sync("5");
    assert!(
        empty.out.is_empty() && empty.err.contains("the inbox is empty"),
        "{}",
        empty.err
    );
    for text in ["one", "two"] {
        daemon.imd(&["send", "--from", "1", "--to", "2", text]).ok();
    }
    for (after, count) in [("0", 2), ("1", 1), ("2", 0)] {
        let ended = sync(after);
        assert_eq!(
            (ended.out.len(), ended.err.as_str()),
            (count, ""),
            "{after}"
        );
    }
    for after in ["3", "99", "9223372036854775807"] {
        let ended = sync(after);
        assert!(ended.out.is_empty(), "{:?}", ended.out);
        assert!(
            ended.err.contains("the inbox ends at version 2"),
            "{}",
            ended.err
        );
        ended.ok();
    }
    // A message that comes later is printed all the same.
    let mut follow = daemon.spawn(&["sync", "--uid", "2", "--after", "99", "--follow"]);
    follow.log_with("the inbox ends at version 2");
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "three"])
        .ok();
    assert!(follow.line().contains("three"));
}

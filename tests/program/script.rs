//! `imd register`, `group`, `send` and `sync` in scripts: what they print, how they find the stack, and how they end.
//!
//! A script uses them in place of a client. What they do when nobody listens is tested in `errors`.

use serde_json::Value;

use crate::process::{Daemon, imd, write_config};
use crate::proxy::{behind_a_proxy, direct};
use tempfile::TempDir;

#[test]
fn a_script_registers_groups_sends_and_syncs() {
    let daemon = Daemon::start(&[]);
    let quiet: [String; 0] = [];
    let register = ["register", "--uid", "1", "--name", "Ann", "--pw", "a&b=c"];
    assert_eq!(daemon.imd(&register).ok(), quiet);
    let again = daemon.imd(&register).failed(1);
    assert!(
        again.starts_with("imd: ") && again.contains("94001"),
        "{again}"
    );

    let created = daemon
        .imd(&["group", "create", "--uid", "1", "--name", "us"])
        .json();
    let gid = created[0]["gid"].as_str().unwrap().to_owned();
    let join = ["group", "join", "--uid", "2", "--gid", &gid];
    assert_eq!(daemon.imd(&join).ok(), quiet);

    let sent = daemon
        .imd(&["send", "--from", "1", "--to", "2", "hello\nyou \u{1b}[1m"])
        .json();
    let gateway = daemon.addresses().gateway;
    let group = ["send", "--from", "1", "--group", &gid];
    imd(&[&group[..], &["--gateway", &gateway, "--", "-all"]].concat()).json();

    let lines = daemon.imd(&["sync", "--uid", "2"]).json();
    assert_eq!(lines.len(), 2);
    let first = &lines[0];
    assert_eq!(first["version"], 1);
    assert_eq!(first["kind"], "p2p");
    assert_eq!(first["from"], 1);
    assert_eq!(first["group"], Value::Null);
    assert_eq!(first["msg_id"], sent[0]["msg_id"]);
    assert_eq!(first["text"], "hello\nyou \u{1b}[1m");
    assert!(first["sent_at"].as_i64().unwrap() > 1_600_000_000_000);
    assert_eq!(
        (&lines[1]["group"], &lines[1]["text"]),
        (&Value::from(gid.as_str()), &Value::from("-all"))
    );
    assert_eq!(
        daemon
            .imd(&["sync", "--uid", "2", "--after", "1"])
            .json()
            .len(),
        1
    );

    let quit = ["group", "quit", "--uid", "2", "--gid", &gid];
    assert_eq!(daemon.imd(&quit).ok(), quiet);
    let refused = daemon
        .imd(&["send", "--from", "2", "--group", &gid, "x"])
        .failed(1);
    assert!(
        refused.contains("95002") && refused.contains("imd group join"),
        "{refused}"
    );
    let unknown = daemon
        .imd(&["send", "--from", "2", "--group", "9", "x"])
        .failed(1);
    assert!(unknown.contains("95001"), "{unknown}");
}

#[test]
fn sync_reads_every_page() {
    let daemon = Daemon::start(&[]);
    let text = "x".repeat(30_000);
    for _ in 0..5 {
        daemon
            .imd(&["send", "--from", "1", "--to", "2", &text])
            .ok();
    }
    let versions: Vec<i64> = daemon
        .imd(&["sync", "--uid", "2"])
        .json()
        .iter()
        .map(|line| line["version"].as_i64().unwrap())
        .collect();
    assert_eq!(versions, [1, 2, 3, 4, 5]);
}

#[test]
fn follow_prints_what_is_sent_later_until_a_signal() {
    let daemon = Daemon::start(&[]);
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "before"])
        .ok();
    let mut follow = daemon.spawn(&["sync", "--uid", "2", "--follow"]);
    assert!(follow.line().contains("before"));
    for text in ["later", "latest"] {
        daemon.imd(&["send", "--from", "1", "--to", "2", text]).ok();
        assert!(follow.line().contains(text));
    }
    follow.signal("-TERM");
    assert_eq!(follow.end().ok().len(), 3);
}

#[tokio::test]
async fn follow_goes_on_after_a_lost_connection() {
    let (proxy, daemon) = behind_a_proxy();
    let mut ann = direct(&daemon, 1).await;
    let mut follow = daemon.spawn(&["sync", "--uid", "2", "--follow"]);
    ann.send_p2p(2, "before").await.unwrap();
    assert!(follow.line().contains("before"));
    proxy.go_down();
    follow.log_with("connection lost");
    ann.send_p2p(2, "meanwhile").await.unwrap();
    proxy.go_up();
    follow.log_with("connected again");
    assert!(follow.line().contains("meanwhile"));
    follow.signal("-INT");
    assert_eq!(follow.end().ok().len(), 2);
}

#[test]
fn follow_ends_when_nobody_reads_or_another_session_takes_over() {
    let daemon = Daemon::start(&[]);
    let mut command = std::process::Command::new("sh");
    let script = "\"$0\" sync --uid 2 --follow --addr-file \"$1\" | head -n 1; echo done";
    let (bin, file) = (env!("CARGO_BIN_EXE_imd"), daemon.addr_file());
    command.args(["-c", script, bin]).arg(file);
    let mut piped = crate::process::Program::run(command);
    daemon.imd(&["send", "--from", "1", "--to", "2", "a"]).ok();
    piped.line_with("\"a\"");
    // The command notices without another message that nobody reads its stdout.
    piped.line_with("done");
    assert_eq!(piped.end().err, "");

    daemon.imd(&["send", "--from", "1", "--to", "3", "a"]).ok();
    let mut follow = daemon.spawn(&["sync", "--uid", "3", "--follow"]);
    follow.line_with("\"a\"");
    daemon.imd(&["sync", "--uid", "3"]).ok();
    assert!(follow.end().failed(1).contains("93004"));
}

/// Returns a command that sends a message, with these flags.
fn with<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["send", "--from", "1", "--to", "2", "x"], flags].concat()
}

#[test]
fn addresses_come_from_flag_file_or_config_in_this_order() {
    let daemon = Daemon::start(&[]);
    let addresses = daemon.addresses();
    let folder = TempDir::new().unwrap();
    let text = format!("[gateway]\nlisten = \"{}\"\n", addresses.gateway);
    let config = write_config(folder.path(), &text);
    imd(&with(&["--gateway", &addresses.gateway])).ok();
    imd(&with(&["--config", &config])).ok();
    // The file of addresses takes precedence over the config, and a flag over both.
    let wrong = folder.path().join("wrong.json");
    let json = r#"{"gateway":"127.0.0.1:1","access":[],"user_api":"http://127.0.0.1:1","group_api":"http://127.0.0.1:1"}"#;
    std::fs::write(&wrong, json).unwrap();
    let wrong = wrong.to_str().unwrap();
    let error = imd(&with(&["--config", &config, "--addr-file", wrong])).failed(1);
    assert!(error.contains("127.0.0.1:1:"), "{error}");
    imd(&with(&[
        "--addr-file",
        wrong,
        "--gateway",
        &addresses.gateway,
    ]))
    .ok();
    let url = addresses.user_api.as_str();
    imd(&[
        "register",
        "--uid",
        "5",
        "--addr-file",
        wrong,
        "--user-api",
        url,
    ])
    .ok();
    let open = write_config(folder.path(), "[gateway]\nlisten = \"127.0.0.1:0\"\n");
    let error = imd(&with(&["--config", &open])).failed(64);
    assert!(error.contains("--addr-file"), "{error}");
}

#[test]
fn errors_tell_what_is_missing_and_what_to_do() {
    let error = imd(&[
        "send",
        "--from",
        "1",
        "--to",
        "2",
        "x",
        "--gateway",
        "127.0.0.1:1",
    ])
    .failed(1);
    assert!(
        error.contains("127.0.0.1:1") && error.contains("--gateway"),
        "{error}"
    );
    let error = imd(&["register", "--uid", "1", "--user-api", "http://127.0.0.1:1"]).failed(1);
    assert!(
        error.contains("http://127.0.0.1:1/x/user/register"),
        "{error}"
    );
    let error = imd(&["register", "--uid", "1", "--user-api", "ftp://x"]).failed(64);
    assert!(error.contains("no scheme"), "{error}");
    let daemon = Daemon::start(&[]);
    let wrong = daemon.addresses().gateway;
    let url = format!("http://{wrong}");
    imd(&["register", "--uid", "1", "--user-api", &url]).failed(1);
}

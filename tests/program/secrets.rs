//! What no log may show, at any level: passwords, tokens, and the texts of messages.
//!
//! One test does everything that has a secret with a daemon that logs all it can, and looks for the secrets in the log.

use imd::proto::Cmd;

use crate::process::{Daemon, Program, imd, socket_addr};
use crate::support::http::request;
use crate::support::{Wire, raw_frame};

#[tokio::test]
async fn no_token_password_or_text_reaches_a_log() {
    let daemon = Daemon::start_with(&["--any-port"], |args| {
        Program::start_logging(args, "trace")
    });
    let file = daemon.addr_file();
    let file = ["--addr-file", file.to_str().unwrap()];
    let start = |args: &[&str]| Program::start_logging(&[args, &file].concat(), "trace");
    let token = imd(&["token", "1"]).ok().remove(0);
    let mut logs = Vec::new();
    let mut run = |args: &[&str]| {
        logs.push(start(args).end().err);
    };
    run(&["register", "--uid", "1", "--pw", "canary-password"]);
    run(&["send", "--from", "1", "--to", "2", "canary-text"]);
    run(&["send", "--from", "1", "--group", "9", "canary-text"]);
    run(&[
        "send",
        "--from",
        "1",
        "--to",
        "2",
        "x",
        "--token",
        "canary-token",
    ]);
    run(&["sync", "--uid", "2"]);
    let mut chat = start(&["chat", "--uid", "1"]);
    chat.write("/to 1 canary-text");
    chat.line_with("v1] you: canary-text");
    chat.write("/canary-text");
    logs.push(chat.end().failed(1));
    let admin = daemon.addresses().admin.unwrap();
    let admin = socket_addr(&admin);
    for (method, path, body) in [
        (
            "POST",
            "/v1/users",
            r#"{"uid": 50, "pw": "canary-password"}"#,
        ),
        (
            "POST",
            "/v1/messages",
            r#"{"from": 1, "to": 2, "text": "canary-text"}"#,
        ),
        ("GET", "/v1/inboxes/2", ""),
        ("GET", "/v1/users/1/token", ""),
        ("GET", "/v1/snapshot", ""),
        ("GET", "/v1/journal?bytes=true", ""),
        ("PUT", "/v1/snapshot", "canary-text"),
    ] {
        let token = "authorization: Bearer canary-token";
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {admin}\r\n{token}");
        let answer = request(admin, &head, body).await;
        let is_expected = match method {
            "PUT" => answer.status == 400,
            _ => (200..300).contains(&answer.status),
        };
        assert!(is_expected, "{path}: {answer:?}");
    }
    // The gateway does not know this command.
    let mut stranger = Wire::connect(daemon.addresses().gateway.parse().unwrap()).await;
    stranger.raw(&raw_frame(&[8, 7])).await;
    stranger.error(Cmd::ErrServer, 10001).await;
    daemon.program.signal("-TERM");
    let ended = daemon.program.end();
    for (event, span) in [
        ("login refused", &["request{session=", "cmd=\"Login\"}"][..]),
        ("refused code=95001", &["session=", "uid=1"]),
        ("bad frame", &["request{session=", "}"]),
    ] {
        let mut lines = ended.err.lines();
        let is_logged =
            |line: &str| line.contains(event) && span.iter().all(|part| line.contains(part));
        assert!(lines.any(is_logged), "{event} in:\n{}", ended.err);
    }
    logs.push(ended.err);
    for log in logs {
        for secret in ["canary-password", "canary-text", "canary-token", &token] {
            assert!(!log.contains(secret), "{secret} in:\n{log}");
        }
    }
}

//! `imd chat`: what a person types and reads, over lost connections and restarts of the server too.
//!
//! Here stdin and stdout are pipes. Chats in a terminal, with a line editor, are tested in `terminal`.

use imd::{Client, Config};
use tempfile::TempDir;

use crate::process::{Daemon, Program, write_config};
use crate::proxy::{behind_a_proxy, direct};
use crate::support::ports::reserved;

fn chat(daemon: &Daemon, uid: &str) -> Program {
    let mut chat = daemon.spawn(&["chat", "--uid", uid]);
    chat.line_with(&format!("You are {uid}"));
    chat
}

#[test]
fn two_people_chat() {
    let daemon = Daemon::start(&[]);
    let (mut ann, mut bob) = (chat(&daemon, "321"), chat(&daemon, "654"));
    ann.write("/to 654 hello");
    ann.line_with("to 654: stored");
    let line = bob.line_with("hello");
    assert!(line.ends_with("Z v1] 321: hello"), "{line}");
    // Without a receiver, a line goes to the user whose message came last, or to whom this user has written since.
    bob.write("hello yourself");
    assert!(
        ann.line_with("yourself")
            .ends_with("v1] 654: hello yourself")
    );
    ann.write("how are you?");
    assert!(bob.line_with("how").ends_with("v2] 321: how are you?"));

    let created = daemon
        .imd(&["group", "create", "--uid", "321"])
        .ok()
        .remove(0);
    let created: serde_json::Value = serde_json::from_str(&created).unwrap();
    let gid = created["gid"].as_str().unwrap();
    daemon
        .imd(&["group", "join", "--uid", "654", "--gid", gid])
        .ok();
    ann.write(&format!("/group {gid} all of you"));
    let line = bob.line_with("all of you");
    assert!(
        line.ends_with(&format!("v3] 321 in group {gid}: all of you")),
        "{line}"
    );
    ann.close_stdin();
    ann.end().ok();
    bob.write("/quit");
    bob.end().ok();
}

#[test]
fn a_script_is_carried_out_in_order_and_reports_refusals() {
    let daemon = Daemon::start(&[]);
    let mut script = daemon.spawn(&["chat", "--uid", "1"]);
    for line in [
        "/help",
        "hello",
        "/to 2 one",
        "",
        "two",
        "/nonsense",
        "/group 99 x",
        "/to 1 me",
    ] {
        script.write(line);
    }
    let ended = script.end();
    let out = ended.out.join("\n");
    assert!(out.contains("/group GID TEXT"), "{out}");
    assert!(out.contains("refused: to whom?"), "{out}");
    assert!(out.contains("refused: there is no /nonsense"), "{out}");
    assert!(out.contains("95001"), "{out}");
    assert!(
        out.contains("v1] you: me"),
        "what was notified is shown: {out}"
    );
    assert!(ended.failed(1).contains("3 lines were refused"));
    let texts: Vec<String> = daemon.imd(&["sync", "--uid", "2"]).ok();
    assert!(texts[0].contains("one") && texts[1].contains("two") && texts.len() == 2);

    let mut good = daemon.spawn(&["chat", "--uid", "1"]);
    good.write("/to 2 three");
    good.end().ok();
}

#[test]
fn a_script_whose_reader_has_gone_reports_the_lines_that_it_left_out() {
    let daemon = Daemon::start(&[]);
    let script = "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo \"/to 2 $i\"; done | \
                  { \"$0\" chat --uid 1 --addr-file \"$1\"; echo \"code $?\" >&2; } | head -n 1";
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_imd")])
        .arg(daemon.addr_file());
    let ended = Program::run(command).end();
    assert_eq!(ended.out.len(), 1);
    assert!(
        ended.err.contains("were not carried out") && ended.err.ends_with("code 1"),
        "{}",
        ended.err
    );
}

#[test]
fn a_message_can_not_control_the_terminal() {
    let daemon = Daemon::start(&[]);
    let mut bob = chat(&daemon, "2");
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "a\u{1b}]0;x\u{7}\nb"])
        .ok();
    let line = bob.line_with("1: a");
    assert!(line.ends_with("1: a\\u{1b}]0;x\\u{7}\\nb"), "{line}");
}

#[tokio::test]
async fn an_acceptance_is_shown() {
    let daemon = Daemon::start(&[]);
    let mut ann = chat(&daemon, "1");
    ann.write("/to 2 hello");
    ann.line_with("stored");
    let mut bob = Client::connect(daemon.addresses().gateway).await.unwrap();
    bob.login(2, &imd::service::salted_token(2, imd::config::PUBLIC_SALT))
        .await
        .unwrap();
    let page = bob.sync(0, 0).await.unwrap();
    bob.accept(1, &page.messages[0].msg_id).await.unwrap();
    let id = &page.messages[0].msg_id;
    let line = ann.line_with("accepted");
    assert!(line.ends_with(&format!("v1] 2 accepted {id}")), "{line}");
}

#[test]
fn a_refused_login_says_why_and_ends() {
    let daemon = Daemon::start(&[]);
    let error = daemon
        .imd(&["chat", "--uid", "1", "--token", "wrong"])
        .failed(1);
    assert!(
        error.contains("93002") && error.contains("--token"),
        "{error}"
    );
}

#[test]
fn a_second_login_ends_the_first_chat() {
    let daemon = Daemon::start(&[]);
    let first = chat(&daemon, "1");
    let mut second = chat(&daemon, "1");
    assert!(first.end().failed(1).contains("93004"));
    second.write("/to 2 x");
    second.line_with("stored");
}

#[test]
fn a_signal_ends_a_chat() {
    let daemon = Daemon::start(&[]);
    let chat = chat(&daemon, "1");
    chat.signal("-TERM");
    chat.end().ok();
}

#[tokio::test]
async fn after_a_lost_connection_it_catches_up() {
    let (proxy, daemon) = behind_a_proxy();
    let mut bob = chat(&daemon, "2");
    let mut ann = direct(&daemon, 1).await;
    ann.send_p2p(2, "before").await.unwrap();
    bob.line_with("before");
    proxy.go_down();
    bob.line_with("Connection lost");
    for text in ["missed one", "missed two"] {
        ann.send_p2p(2, text).await.unwrap();
    }
    // The line is kept, and carried out when the connection is back.
    bob.write("/to 1 from below");
    proxy.go_up();
    bob.line_with("Connected again");
    assert!(bob.line().contains("v2] 1: missed one"));
    assert!(bob.line().contains("v3] 1: missed two"));
    assert_eq!(bob.line(), "You missed 2 messages.");
    assert_eq!(bob.line(), "to 1: stored");
    bob.close_stdin();
    bob.end().ok();
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_stored_once() {
    let (proxy, daemon) = behind_a_proxy();
    let mut ann = chat(&daemon, "1");
    proxy.lose_next_answer();
    ann.write("/to 2 once");
    ann.line_with("Connection lost");
    ann.line_with("Sending your last message again");
    ann.line_with("to 2: stored");
    let inbox = direct(&daemon, 2).await.sync(0, 0).await.unwrap();
    assert_eq!(inbox.messages.len(), 1);
}

#[test]
fn a_chat_survives_a_restart_of_the_server() {
    let folder = TempDir::new().unwrap();
    let mut config = Config::ephemeral();
    config.access.resize(1);
    config.gateway.listen = reserved();
    config.access.0[0].listen = reserved();
    let config = write_config(folder.path(), &config.to_toml().unwrap());
    let start = || Daemon::start_with(&["--config", &config], Program::start);
    let daemon = start();
    let mut bob = chat(&daemon, "2");
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "first life"])
        .ok();
    bob.line_with("v1] 1: first life");
    daemon.stop();
    bob.line_with("Connection lost");
    bob.line_with("Not yet");
    let daemon = start();
    bob.line_with("Connected again");
    bob.line_with("You missed nothing");
    // The store was in memory, so versions begin at 1 again.
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "second life"])
        .ok();
    bob.line_with("v1] 1: second life");
}

/// The notify of what was unread comes some time after the login, and a script may have ended by then.
#[test]
fn a_script_shows_what_was_unread_at_its_start() {
    let daemon = Daemon::start(&[]);
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "before"])
        .ok();
    let script = daemon.spawn(&["chat", "--uid", "2"]);
    let out = script.end().ok();
    assert!(
        out.iter().any(|line| line.ends_with("v1] 1: before")),
        "{out:?}"
    );
}

/// The server pushes each message, notifies of it, and brings it in a page. It is shown once, with its version if that is
/// known: the first push comes before the chat knows how far its user has read.
#[test]
fn messages_that_are_pushed_too_are_shown_once() {
    const SENT: usize = 20;
    let folder = TempDir::new().unwrap();
    let mut config = Config::ephemeral();
    config.delivery.push = true;
    let config = write_config(folder.path(), &config.to_toml().unwrap());
    let daemon = Daemon::start_with(&["--config", &config], Program::start);
    let (mut ann, mut bob) = (chat(&daemon, "1"), chat(&daemon, "2"));
    let mut follow = daemon.spawn(&["sync", "--uid", "3", "--follow"]);
    for n in 0..SENT {
        for to in ["2", "3"] {
            ann.write(&format!("/to {to} number {n}."));
            ann.line_with(&format!("to {to}: stored"));
        }
    }
    for n in 0..SENT {
        let (line, text) = (bob.line(), format!("1: number {n}."));
        assert!(line.ends_with(&text), "{line}");
        let version = format!(" v{}]", n + 1);
        assert!(n == 0 || line.contains(&version), "{line}");
        let line: serde_json::Value = serde_json::from_str(&follow.line()).unwrap();
        assert_eq!(line["version"], n + 1);
        assert_eq!(line["text"], format!("number {n}."));
    }
    bob.write("/quit");
    assert_eq!(bob.end().ok().len(), SENT + 1);
    follow.signal("-TERM");
    assert_eq!(follow.end().ok().len(), SENT);
}

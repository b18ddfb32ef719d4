//! Making a running stack fail from a shell, and commands beside a private one.

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Daemon, Program, imd, write_config};

fn json(line: &str) -> Value {
    serde_json::from_str(line).expect(line)
}

#[test]
fn access_servers_die_and_serve_again() {
    let daemon = Daemon::start(&[]);
    let told = |what: &str| json(&daemon.imd(&["access", what, "access-1"]).ok()[0]);
    for (what, state) in [
        ("pause", "paused"),
        ("resume", "running"),
        ("kill", "killed"),
        ("restart", "running"),
        ("stop", "stopped"),
    ] {
        assert_eq!(told(what)["state"], state);
    }
    let added = daemon.imd(&["access", "add", "access-9"]).ok();
    assert_eq!(json(&added[0])["name"], "access-9");
    let missing = daemon.imd(&["access", "kill", "nobody"]).failed(64);
    assert!(
        missing.contains("there is no access server \"nobody\""),
        "{missing}"
    );
    let state = daemon.imd(&["state"]).ok().join("\n");
    assert_eq!(json(&state)["access"][0]["state"], "stopped");
}

#[test]
fn a_fault_loses_a_message_until_it_is_ended() {
    let daemon = Daemon::start(&[]);
    let add = [
        "fault",
        "add",
        "--name",
        "full",
        "--at",
        "store.write",
        "--uid",
        "1",
        "--error",
        "90001",
    ];
    assert_eq!(json(&daemon.imd(&add).ok()[0])["name"], "full");
    let send = ["send", "--from", "1", "--to", "2", "hello"];
    let refused = daemon.imd(&send).failed(1);
    assert!(refused.contains("90001"), "{refused}");
    let listed = daemon.imd(&["fault", "ls"]).ok();
    let listed = json(&listed[0]);
    assert_eq!(
        (&listed["name"], &listed["hits"]),
        (&"full".into(), &1.into())
    );
    let again = daemon.imd(&add).failed(1);
    assert!(again.contains("there is a fault of the name"), "{again}");
    daemon.imd(&["fault", "rm", "full"]).ok();
    daemon.imd(&send).ok();
    let wrong = daemon.imd(&["fault", "add", "--at", "notify"]).failed(64);
    assert!(wrong.contains("a fault does one thing"), "{wrong}");
    daemon.imd(&["fault", "rm"]).ok();
}

#[test]
fn time_is_moved_where_the_config_has_it_stand() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[clock]\nkind = \"manual\"\n");
    let daemon = Daemon::start(&["--config", &config]);
    let now = |args: &[&str]| json(&daemon.imd(args).ok()[0])["now_ms"].as_u64().unwrap();
    let before = now(&["clock", "show"]);
    assert_eq!(now(&["clock", "advance", "15s"]), before + 15_000);
    assert_eq!(now(&["clock", "skew", "-1000"]), before + 15_000);
    let real = Daemon::start(&[]);
    let refused = real.imd(&["clock", "advance", "1s"]).failed(1);
    assert!(refused.contains("kind = \"manual\""), "{refused}");
}

#[test]
fn frames_are_seen_as_they_pass() {
    let daemon = Daemon::start(&[]);
    daemon.imd(&["ready"]).ok();
    for args in [
        &["tail", "--cmd", "SendP2PMsg"][..],
        &["tail", "--json", "--uid", "7"],
    ] {
        let mut tail = daemon.spawn(args);
        // Frames are recorded as soon as somebody reads them.
        let records =
            || json(&daemon.imd(&["state"]).ok().join("\n"))["journal"]["records"] == true;
        assert!((0..1_000).any(|_| records()));
        daemon
            .imd(&["send", "--from", "7", "--to", "2", "hello"])
            .ok();
        let line = tail.line_with("hello");
        if args.contains(&"--json") {
            assert_eq!(json(&line)["frame"]["msg"], "hello");
        } else {
            assert!(line.contains("uid 7 <- SendP2PMsg"), "{line}");
        }
        tail.signal("-KILL");
        assert_eq!(tail.end().code, None);
        assert!((0..1_000).any(|_| !records()));
    }
}

#[test]
fn a_command_beside_a_private_stack_finds_it_and_gives_its_code() {
    let program = env!("CARGO_BIN_EXE_imd");
    let script = format!(
        "set -e; test -n \"$IMD_GATEWAY\"; test -n \"$IMD_USER_API\"; test -n \"$IMD_GROUP_API\"; \
         {program} ready; {program} send --gateway $IMD_GATEWAY --from 1 --to 2 hello; \
         {program} state | grep '\"stored\": 1'; exit $1"
    );
    imd(&["exec", "--", "sh", "-c", &script, "sh", "0"]).ok();
    let told = imd(&["exec", "--", "sh", "-c", &script, "sh", "7"]).failed(7);
    assert!(
        told.contains("stored 1   delivered 0   pending 1"),
        "{told}"
    );
    let missing = imd(&["exec", "--", "no-such-command"]).failed(127);
    assert!(missing.contains("no-such-command"), "{missing}");
}

#[test]
fn signals_are_passed_on_to_the_command() {
    let script =
        "trap 'echo told; exit 3' TERM; echo ready; while :; do read -r line || exit 9; done";
    let mut exec = Program::start(&["exec", "--", "sh", "-c", script]);
    assert_eq!(exec.line(), "ready");
    exec.signal("-TERM");
    exec.line_with("told");
    assert_eq!(exec.end().code, Some(3));
}

#[test]
fn a_stack_that_is_not_there_is_said() {
    let nowhere = imd(&["ready", "--admin", "http://127.0.0.1:1"]).failed(1);
    assert!(nowhere.contains("http://127.0.0.1:1/readyz"), "{nowhere}");
}

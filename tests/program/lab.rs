//! The commands of the lab: those that make a running stack fail, and those that run beside a private stack.
//!
//! They are clients of the admin API. What a fault does is tested in `lab`; here is how the command line asks for it
//! and prints the result.

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Daemon, Ended, Program, imd, write_config};

fn json(line: &str) -> Value {
    serde_json::from_str(line).expect(line)
}

/// Returns the error of a command that the stack has refused.
fn refused(ended: Ended) -> String {
    assert_ne!(ended.code, Some(0), "{}", ended.err);
    ended.err
}

#[test]
fn access_servers_are_killed_and_restarted() {
    let daemon = Daemon::start(&[]);
    let printed = |what: &str| json(&daemon.imd(&["access", what, "access-1"]).ok()[0]);
    for (what, state) in [
        ("pause", "paused"),
        ("resume", "running"),
        ("kill", "killed"),
        ("restart", "running"),
        ("stop", "stopped"),
    ] {
        assert_eq!(printed(what)["state"], state);
    }
    let again = refused(daemon.imd(&["access", "stop", "access-1"]));
    assert!(again.contains("access-1 is stopped"), "{again}");
    let reserved = refused(daemon.imd(&["access", "add", "gateway"]));
    assert!(reserved.contains("\"gateway\""), "{reserved}");
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
fn the_address_of_the_web_client_is_printed() {
    let daemon = Daemon::start(&[]);
    let admin = daemon.addresses().admin.unwrap();
    let page = [format!("{admin}/demo/")];
    assert_eq!(daemon.imd(&["demo", "--print"]).ok(), page);
    // A browser that can't be opened is no failure.
    let host = admin.trim_start_matches("http://");
    let mut demo = std::process::Command::new(env!("CARGO_BIN_EXE_imd"));
    demo.args(["demo", "--admin", host])
        .env("DISPLAY", ":0")
        .env("PATH", "/nowhere");
    assert_eq!(Program::run(demo).end().ok(), page);
    let other = daemon.addresses().user_api;
    let wrong = imd(&["demo", "--admin", &other]).failed(1);
    assert!(wrong.contains("this is the user API"), "{wrong}");
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
    let all = daemon.imd(&["fault", "rm"]).failed(64);
    assert!(all.contains("--all"), "{all}");
    daemon
        .imd(&["fault", "add", "--at", "notify", "--drop"])
        .ok();
    daemon.imd(&["fault", "rm", "--all"]).ok();
    assert!(daemon.imd(&["fault", "ls"]).ok().is_empty());
}

#[test]
fn a_flag_stops_the_clock_of_a_daemon_and_of_a_private_stack() {
    let daemon = Daemon::start(&["--manual-clock"]);
    let now = || json(&daemon.imd(&["clock", "show"]).ok()[0])["now_ms"].as_u64();
    let before = now().unwrap();
    daemon.imd(&["clock", "advance", "15s"]).ok();
    assert_eq!(now(), Some(before + 15_000));
    let imd = env!("CARGO_BIN_EXE_imd");
    let advance = [
        "exec",
        "--manual-clock",
        "--",
        imd,
        "clock",
        "advance",
        "15s",
    ];
    Program::start(&advance).end().ok();
}

#[test]
fn a_write_that_a_fault_refuses_is_no_failure_of_the_store_in_the_log() {
    let daemon = Daemon::start_with(&["--any-port"], |args| Program::start_logging(args, "info"));
    let fault = "fault add --name full --at store.write --uid 7 --error 94001";
    let fault: Vec<&str> = fault.split(' ').collect();
    daemon.imd(&fault).ok();
    let printed = refused(daemon.imd(&["register", "--uid", "7", "--pw", "x"]));
    assert!(printed.contains("94001"), "{printed}");
    daemon.program.signal("-TERM");
    let log = daemon.program.end().err;
    assert!(log.contains("full") && log.contains("store.write"), "{log}");
    assert!(!log.contains("the store has failed"), "{log}");
}

#[test]
fn a_size_on_the_command_line_may_have_a_unit() {
    let daemon = Daemon::start(&[]);
    let add = |size: &str| {
        let at = ["fault", "add", "--at", "gateway.reply", "--throttle", size];
        daemon.imd(&at)
    };
    add("16KiB").ok();
    let listed = daemon.imd(&["fault", "ls"]).ok();
    assert_eq!(json(&listed[0])["throttle"], 16_384);
    for (size, says) in [
        ("16Kbit", "write a number, and behind it B, KiB"),
        ("1.5KiB", "write a whole number"),
        ("-1KiB", "a size can't be negative"),
        ("16EiB", "a size is less than 16EiB"),
    ] {
        let printed = add(size).failed(64);
        let places = ["throttle: ", size, says];
        assert!(
            places.iter().all(|part| printed.contains(part)),
            "{printed}"
        );
    }
    let bench = |size: &str| imd(&["bench", "p2p", "--users=2", "--count=2", "--size", size]);
    bench("1KiB").ok();
    for (size, says) in [
        ("33KiB", "33792 is more than 32768, or 32KiB"),
        ("1MX", "write a number, and behind it B, KiB"),
    ] {
        let printed = bench(size).failed(64);
        assert!(
            printed.contains("--size") && printed.contains(says),
            "{printed}"
        );
    }
}

/// Values that no stack would accept are refused without asking one.
#[test]
fn a_number_of_a_fault_that_is_out_of_bounds_is_refused_with_the_bounds() {
    for (flags, why) in [
        (
            "--drop --probability NaN",
            "probability: NaN must be more than 0 and at most 1",
        ),
        (
            "--drop --probability inf",
            "probability: inf must be more than 0 and at most 1",
        ),
        (
            "--drop --probability -0.1",
            "probability: -0.1 must be more than 0 and at most 1",
        ),
        (
            "--drop --probability 2",
            "probability: 2 must be more than 0 and at most 1",
        ),
        (
            "--drop --times 0",
            "times: 0 must be a whole number from 1 to",
        ),
        (
            "--drop --times -1",
            "times: -1 must be a whole number from 1 to",
        ),
        ("--drop --nth 0", "nth: 0 must be a whole number from 1 to"),
        (
            "--drop --after 1e3",
            "after: 1e3 must be a whole number from 0 to",
        ),
        (
            "--drop --uid -1",
            "uid: -1 must be a whole number from 1 to",
        ),
        (
            "--drop --session x",
            "session: \"x\" must be a whole number from 1 to",
        ),
        (
            "--drop --for 0s",
            "for: 0s must be more than 0s and at most 365 days",
        ),
        ("--delay -1s", "delay: \"-1s\" must be a duration such as"),
        ("--delay 400d", "must be more than 0s and at most 365 days"),
        ("--delay 5", "delay: 5 must be a duration such as"),
        (
            "--throttle 0",
            "throttle: 0 must be a whole number from 1 to",
        ),
        (
            "--slice 99999999999999999999",
            "must be a whole number from 1 to",
        ),
        ("--error 0", "must be an error code of the contract"),
        (
            "--drop --cmd Notify",
            "cmd: Notify never passes access.reply",
        ),
        (
            "--drop --direction in",
            "direction: in never passes access.reply",
        ),
    ] {
        let all = format!("fault add --at access.reply {flags}");
        let all: Vec<&str> = all.split(' ').collect();
        let printed = imd(&all).failed(64);
        assert!(printed.contains(why), "{flags}: {printed}");
    }
    let daemon = Daemon::start(&[]);
    let add = [
        "fault", "add", "--at", "notify", "--drop", "--access", "acess-1",
    ];
    let printed = refused(daemon.imd(&add));
    assert!(printed.contains("did you mean \"access-1\"?"), "{printed}");
}

#[test]
fn a_manual_clock_is_advanced_and_skewed() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[clock]\nkind = \"manual\"\n");
    let daemon = Daemon::start(&["--config", &config]);
    let now = |args: &[&str]| json(&daemon.imd(args).ok()[0])["now_ms"].as_u64().unwrap();
    let before = now(&["clock", "show"]);
    assert_eq!(now(&["clock", "advance", "15s"]), before + 15_000);
    let unix = |args: &[&str]| json(&daemon.imd(args).ok()[0])["unix_ms"].as_i64().unwrap();
    let wall = unix(&["clock", "show"]);
    assert_eq!(unix(&["clock", "skew", "-5s"]), wall - 5_000);
    assert_eq!(unix(&["clock", "skew", "1h"]), wall - 5_000 + 3_600_000);
    assert_eq!(now(&["clock", "show"]), before + 15_000);
    for (args, says) in [
        (["clock", "skew", "1000"], "such as 1000s or 1000ms"),
        (["clock", "skew", "-1000"], "such as 1000s or 1000ms"),
        (["clock", "advance", "15"], "such as 15s"),
        (["clock", "advance", "-15s"], "negative"),
    ] {
        let refused = daemon.imd(&args).failed(64);
        assert!(refused.contains(says), "{refused}");
    }
    let real = Daemon::start(&[]);
    let refused = real.imd(&["clock", "advance", "1s"]).failed(1);
    assert!(refused.contains("kind = \"manual\""), "{refused}");
}

#[test]
fn tail_prints_frames_as_they_pass() {
    let daemon = Daemon::start(&[]);
    daemon.imd(&["ready"]).ok();
    for args in [
        &["tail", "--cmd", "SendP2PMsg"][..],
        &["tail", "--json", "--uid", "7"],
    ] {
        let mut tail = daemon.spawn(args);
        daemon.until_recording(true);
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
        daemon.until_recording(false);
    }
}

#[test]
fn exec_runs_a_command_beside_a_private_stack_and_returns_its_code() {
    let program = env!("CARGO_BIN_EXE_imd");
    let script = format!(
        "set -e; test -n \"$IMD_GATEWAY\"; test -n \"$IMD_USER_API\"; test -n \"$IMD_GROUP_API\"; \
         {program} ready; {program} send --gateway $IMD_GATEWAY --from 1 --to 2 hello; \
         {program} state | grep '\"stored\": 1'; exit $1"
    );
    imd(&["exec", "--", "sh", "-c", &script, "sh", "0"]).ok();
    let printed = imd(&["exec", "--", "sh", "-c", &script, "sh", "7"]).failed(7);
    assert!(
        printed.contains("stored 1   delivered 0   pending 1"),
        "{printed}"
    );
    let missing = imd(&["exec", "--", "no-such-command"]).failed(127);
    assert!(missing.contains("no-such-command"), "{missing}");
}

#[test]
fn signals_are_passed_on_to_the_command() {
    // A shell runs its trap between two commands. So it sleeps again and again for a moment: it would not notice a
    // signal in the middle of a long wait.
    let script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.02; done";
    let mut exec = Program::start(&["exec", "--", "sh", "-c", script]);
    assert_eq!(exec.line(), "ready");
    exec.signal("-TERM");
    exec.line_with("told");
    assert_eq!(exec.end().code, Some(3));
}

#[test]
fn a_stack_that_is_not_running_is_reported() {
    let nowhere = imd(&["ready", "--admin", "http://127.0.0.1:1"]).failed(1);
    assert!(nowhere.contains("http://127.0.0.1:1/readyz"), "{nowhere}");
}

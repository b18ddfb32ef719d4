//! The exit code of every command, and what it does when its stdout can't be written: the table and the rule in
//! docs/command-line.md.

use std::collections::BTreeSet;
use std::io::pipe;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Daemon, Ended, Program, commands, imd, until};

const IMD: &str = env!("CARGO_BIN_EXE_imd");

/// What is wrong with stdout.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stdout {
    /// Every write fails, as on a full disk. Only Linux has a device for this.
    #[cfg(target_os = "linux")]
    Full,
    /// A pipe whose reader has closed its end.
    Gone,
    /// Closed before the program starts.
    Closed,
}

const STDOUTS: &[Stdout] = &[
    #[cfg(target_os = "linux")]
    Stdout::Full,
    Stdout::Gone,
    Stdout::Closed,
];

fn start(args: &[String], stdout: Stdout) -> Program {
    let redirect = match stdout {
        #[cfg(target_os = "linux")]
        Stdout::Full => "> /dev/full",
        Stdout::Closed => ">&-",
        Stdout::Gone => {
            let mut command = Command::new(IMD);
            let (reader, writer) = pipe().unwrap();
            drop(reader);
            command.args(args).env_remove("RUST_LOG").stdout(writer);
            return Program::run_unread(command);
        }
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("exec \"$0\" \"$@\" {redirect}"), IMD])
        .args(args)
        .env_remove("RUST_LOG");
    Program::run(command)
}

/// A stack with data of every kind, and the files that commands take.
struct World {
    daemon: Daemon,
    store: TempDir,
}

impl World {
    fn new() -> World {
        let store = TempDir::new().unwrap();
        let folder = store.path().join("data");
        Daemon::start(&["--store", folder.to_str().unwrap()]).stop();
        let daemon = Daemon::start(&[]);
        for uid in ["1", "2"] {
            daemon.imd(&["register", "--uid", uid]).ok();
        }
        daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
        daemon
            .imd(&[
                "fault", "add", "--name", "kept", "--at", "notify", "--drop", "--uid", "99",
            ])
            .ok();
        let world = World { daemon, store };
        let world_snapshot = world.path("snapshot");
        world
            .daemon
            .imd(&["snapshot", "save", &world_snapshot])
            .ok();
        let record = ["exec", "--", "sh", "-c"];
        let script = format!(
            "{IMD} record --to {record} --count 6 & until test -s {record}; do :; done; \
             {IMD} send --from 1 --to 2 x; wait",
            record = world.path("record")
        );
        imd(&[&record[..], &[&script]].concat()).ok();
        world
    }

    fn path(&self, name: &str) -> String {
        self.store.path().join(name).to_str().unwrap().to_owned()
    }

    /// Splits a command line into words, and replaces the placeholders by files and addresses of this stack.
    fn args(&self, line: &str) -> Vec<String> {
        let addresses = self.daemon.addresses();
        let file = self.daemon.addr_file().to_str().unwrap().to_owned();
        let words = line.split_whitespace().map(|word| {
            word.replace("@FILE", &file)
                .replace("@GATEWAY", &addresses.gateway)
                .replace("@DIR", self.store.path().to_str().unwrap())
        });
        words.collect()
    }
}

/// Commands that succeed, those that print something and those that print nothing.
const PRINTING: [&str; 22] = [
    "--help",
    "--version",
    "help",
    "send --help",
    "fault add --help",
    "check",
    "token 1",
    "group create --uid 1 --addr-file @FILE",
    "send --from 1 --to 2 x --addr-file @FILE",
    "sync --uid 2 --addr-file @FILE",
    "store check @DIR/data",
    "store compact @DIR/data",
    "bench gateway --users=1 --count=1",
    "bench --addr @GATEWAY gateway --users=1 --count=1 --json",
    "demo --print --addr-file @FILE",
    "access pause access-1 --addr-file @FILE",
    "access resume access-1 --addr-file @FILE",
    "fault ls --addr-file @FILE",
    "fault add --at notify --drop --addr-file @FILE",
    "clock show --addr-file @FILE",
    "state --addr-file @FILE",
    "record --to @DIR/STDOUT --for 1ms --addr-file @FILE",
];

const SILENT: [&str; 7] = [
    "group join --uid 2 --gid 1 --addr-file @FILE",
    "snapshot save @DIR/again --force --addr-file @FILE",
    "snapshot load @DIR/again --addr-file @FILE",
    "ready --addr-file @FILE",
    "fault rm kept --addr-file @FILE",
    "reset --addr-file @FILE",
    "exec -- true",
];

#[test]
fn a_failing_stdout_is_a_failure_and_a_closed_pipe_is_none() {
    let world = World::new();
    for &stdout in STDOUTS {
        for line in PRINTING {
            let line = line.replace("STDOUT", &format!("{stdout:?}"));
            let ended = start(&world.args(&line), stdout).end();
            let is_full = format!("{stdout:?}") == "Full";
            let expected = i32::from(is_full);
            assert_eq!(
                ended.code,
                Some(expected),
                "{line} {stdout:?}: {}",
                ended.err
            );
            if is_full {
                let message = "imd: stdout: No space left on device";
                assert!(ended.err.contains(message), "{line}: {}", ended.err);
            } else {
                assert_eq!(ended.err, "", "{line} {stdout:?}");
            }
        }
    }
    for line in SILENT {
        for &stdout in STDOUTS {
            // A command that can succeed only once runs with the first kind of stdout alone.
            if line.contains("--gid") || (line.contains("kept") && stdout != STDOUTS[0]) {
                continue;
            }
            let ended = start(&world.args(line), stdout).end();
            assert_eq!(
                (ended.code, ended.err.as_str()),
                (Some(0), ""),
                "{line} {stdout:?}"
            );
        }
    }
}

#[test]
fn commands_that_run_until_a_signal_keep_the_rule_for_stdout() {
    let world = World::new();
    for &stdout in STDOUTS {
        let is_full = format!("{stdout:?}") == "Full";
        // A daemon serves even if its banner can't be written.
        let file = world.path(&format!("addr-{stdout:?}"));
        let daemon = start(
            &world.args(&format!("--any-port --addr-file {file}")),
            stdout,
        );
        until("it does not start", || std::fs::exists(&file).unwrap());
        imd(&["ready", "--addr-file", &file]).ok();
        daemon.signal("-TERM");
        let ended = daemon.end();
        assert_eq!(
            ended.code,
            Some(i32::from(is_full)),
            "{stdout:?}: {}",
            ended.err
        );

        for line in [
            "tail --addr-file @FILE",
            "sync --uid 2 --follow --addr-file @FILE",
        ] {
            let running = start(&world.args(line), stdout);
            running.wait_until_it_handles_signals();
            if stdout == Stdout::Closed {
                running.signal("-TERM");
            } else if is_full && line.starts_with("tail") {
                // A command that follows the journal needs an event to print. It notices by itself that nobody reads
                // its stdout.
                world.daemon.until_recording(true);
                world
                    .daemon
                    .imd(&["send", "--from", "1", "--to", "3", "x"])
                    .ok();
            }
            let ended = running.end();
            assert_eq!(
                ended.code,
                Some(i32::from(is_full)),
                "{line} {stdout:?}: {}",
                ended.err
            );
        }
        // A line of a script that was not carried out counts as a failure.
        let mut chat = start(&world.args("chat --uid 1 --addr-file @FILE"), stdout);
        chat.close_stdin();
        let ended = chat.end();
        let expected = i32::from(stdout != Stdout::Closed);
        assert_eq!(ended.code, Some(expected), "{stdout:?}: {}", ended.err);
    }
}

#[test]
fn the_exit_code_tells_how_the_work_went_although_the_reader_has_gone() {
    let world = World::new();
    let add = "fault add --at access.request --cmd SendP2PMsg --error 90001 --addr-file @FILE";
    start(&world.args(add), Stdout::Closed).end().ok();
    let replay = "replay @DIR/record --addr-file @FILE";
    for stdout in [Stdout::Gone, Stdout::Closed] {
        let ended = start(&world.args(replay), stdout).end();
        assert_eq!(ended.code, Some(1), "{stdout:?}: {}", ended.err);
    }
    assert_eq!(
        start(&world.args("exec -- false"), Stdout::Gone).end().code,
        Some(1)
    );
}

/// Command lines with a mistake of the caller, for each command.
const WRONG: [&str; 73] = [
    "--no-such-flag",
    "no-such-command",
    "--config @DIR/missing",
    "--config @DIR",
    "--access 0",
    "--log-format xml check",
    "--addr-file @DIR",
    "--addr-file @DIR/no/folder",
    "--any-port --store @DIR/no/folder",
    "check --config @DIR/missing",
    "check --config @DIR/record",
    "ca",
    "ca path --config @DIR/missing",
    "token",
    "token x",
    "token 1 --config @DIR/missing",
    "register --uid 0",
    "register --uid 1 --user-api ftp://127.0.0.1:1",
    "register --uid 1 --addr-file @DIR/missing",
    "group create",
    "group join --uid 1",
    "group quit --uid 1 --gid x",
    "send --from 1 x",
    "send --from 1 --to 2 x --gateway nowhere",
    "send --from 1 --to 2 x --gateway http://127.0.0.1:1/",
    "send --from 1 --to 2 x --gateway 127.0.0.1:99999",
    "send --from 1 --to 2 x --addr-file @DIR/record",
    "sync --uid x",
    "sync --uid 1 --after -1",
    "chat",
    "chat --uid 1 --gateway :1",
    "store check @DIR/missing",
    "store dump @DIR/record",
    "store compact @DIR",
    "bench nothing",
    "bench --users 0",
    "bench --addr nowhere",
    "bench --addr 127.0.0.1:1 --share-cores",
    "bench --config @DIR/missing",
    "demo --admin nowhere",
    "exec",
    "exec --config @DIR/missing -- true",
    "exec --store @DIR/no/folder -- true",
    "access kill",
    "access kill nobody --addr-file @FILE",
    "access add gate/way --addr-file @FILE",
    "fault add",
    "fault add --at nowhere --drop --addr-file @FILE",
    "fault add --at notify --addr-file @FILE",
    "fault add --at notify --drop --cmd nothing --addr-file @FILE",
    "fault add --at notify --delay soon --addr-file @FILE",
    "fault rm nothing --addr-file @FILE",
    "clock advance soon",
    "clock skew x",
    "snapshot load @DIR/missing --addr-file @FILE",
    "snapshot load @DIR/record --addr-file @FILE",
    "snapshot save @DIR/no/folder --addr-file @FILE",
    "tail --cmd nothing --addr-file @FILE",
    "tail --server nothing --addr-file @FILE",
    "record --addr-file @FILE",
    "record --to @DIR/record --addr-file @FILE",
    "replay @DIR/missing",
    "state --admin nowhere",
    "mark --admin nowhere",
    "users --admin nowhere",
    "groups --admin nowhere",
    "inboxes x",
    "sessions --admin nowhere",
    "wait --timeout soon",
    "wait --cmd nothing --addr-file @FILE",
    "wait --server nothing --addr-file @FILE",
    "ready --wait soon",
    "reset --admin nowhere",
];

/// Valid command lines that fail, because nothing listens on port 1.
const FAILING: [&str; 21] = [
    "register --uid 1 --addr-file @FILE",
    "register --uid 1 --user-api http://127.0.0.1:1",
    "group create --uid 1 --group-api http://127.0.0.1:1",
    "group join --uid 1 --gid 9 --addr-file @FILE",
    "group quit --uid 1 --gid 9 --addr-file @FILE",
    "send --from 1 --to 2 x --gateway 127.0.0.1:1",
    "send --from 1 --to 2 x --token wrong --addr-file @FILE",
    "sync --uid 1 --gateway 127.0.0.1:1",
    "chat --uid 1 --gateway 127.0.0.1:1",
    "bench gateway --addr 127.0.0.1:1 --users=1 --count=1",
    "demo --admin http://127.0.0.1:1",
    "access kill access-1 --admin http://127.0.0.1:1",
    "fault add --name kept --at notify --drop --uid 99 --addr-file @FILE",
    "fault ls --admin http://127.0.0.1:1",
    "clock advance 1s --addr-file @FILE",
    "reset --admin http://127.0.0.1:1",
    "snapshot save @DIR/x --admin http://127.0.0.1:1",
    "state --admin http://127.0.0.1:1",
    "tail --admin http://127.0.0.1:1",
    "record --to @DIR/x --admin http://127.0.0.1:1",
    "ready --admin http://127.0.0.1:1",
];

#[test]
fn mistakes_of_the_caller_exit_with_64_and_failures_with_1() {
    let world = World::new();
    let run = |line: &str| {
        let args = world.args(line);
        imd(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for (lines, code) in [(&WRONG[..], 64), (&FAILING, 1)] {
        for line in lines {
            let Ended {
                code: found, err, ..
            } = run(line);
            assert_eq!(found, Some(code), "{line}: {err}");
            assert!(!err.is_empty(), "{line}");
        }
    }
    let long = "x".repeat(70_000);
    let send = ["send", "--from", "1", "--to", "2", &long];
    world.daemon.imd(&send).failed(64);
    let stderr = imd(&["fault", "rm", ""]).failed(64);
    assert!(stderr.contains("a value is required"), "{stderr}");
    let stderr = imd(&["bench", "--secs", "2s"]).failed(64);
    assert!(stderr.contains("--for 2s"), "{stderr}");
    let replay = ["replay", &world.path("record"), "--gateway", "127.0.0.1:1"];
    imd(&replay).failed(1);
}

#[test]
fn every_command_is_in_the_table() {
    let commands = commands();
    let lines = WRONG
        .iter()
        .filter_map(|line| line.split_whitespace().next());
    let lines: BTreeSet<String> = lines.map(str::to_owned).collect();
    let missing: Vec<_> = commands.difference(&lines).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

//! `imd exec`: a command that runs beside a private stack, and ends with it.
//!
//! Proves `cli/lab/exec`: what the command inherits, which signals reach it, and that no process is left behind.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::process::{DEADLINE, Daemon, Ended, Program, imd, until, write_config};
use crate::terminal::Terminal;

const IMD: &str = env!("CARGO_BIN_EXE_imd");

#[test]
fn every_client_command_inside_finds_the_private_stack_and_its_salt() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), "[auth]\nsalt = \"mine\"\n");
    let script = format!(
        "set -e; {IMD} register --uid 1; gid=$({IMD} group create --uid 1 | tr -dc 0-9); \
         {IMD} group join --uid 2 --gid $gid; {IMD} group quit --uid 2 --gid $gid; \
         {IMD} send --from 1 --to 2 hello; {IMD} sync --uid 2; echo '/to 2 again' | {IMD} chat --uid 1; \
         {IMD} token 1; {IMD} ready; {IMD} fault ls; {IMD} clock show; {IMD} state; \
         {IMD} bench --addr $IMD_GATEWAY --users 2 --count 4 --json"
    );
    let out = imd(&["exec", "--config", &config, "--", "sh", "-c", &script]).ok();
    let out = out.join("\n");
    assert!(
        out.contains("\"text\":\"hello\"") && out.contains("to 2: stored"),
        "{out}"
    );
    let token = imd(&["token", "1", "--config", &config]).ok().remove(0);
    assert!(out.contains(&token), "{token} is not in: {out}");
}

#[test]
fn a_flag_takes_precedence_over_the_environment_of_exec() {
    let other = Daemon::start(&[]);
    let file = other.addr_file();
    let gateway = other.addresses().gateway;
    let config = write_config(
        other.folder.path(),
        &format!("[gateway]\nlisten = \"{gateway}\"\n"),
    );
    let script = format!(
        "set -e; {IMD} send --from 1 --to 2 a --addr-file $1; {IMD} send --from 1 --to 2 b --gateway $2; \
         {IMD} send --from 1 --to 2 c --config $3"
    );
    let file = file.to_str().unwrap();
    imd(&[
        "exec", "--", "sh", "-c", &script, "sh", file, &gateway, &config,
    ])
    .ok();
    assert!(fs::exists(file).unwrap());
    assert!(other.stop().starts_with("Stopped.  stored 3 "));
}

#[test]
fn a_program_that_is_missing_or_not_executable_exits_with_127_or_126() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("plain"), "no program").unwrap();
    fs::write(path("script"), "#!/no/such/interpreter\n").unwrap();
    fs::write(path("dos"), "#! /bin/sh\r\nexit 0\r\n").unwrap();
    for script in ["script", "dos"] {
        fs::set_permissions(path(script), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let store = path("store");
    let cases = [
        ("no-such-command", 127, "PATH"),
        ("./no-such-command", 127, "no such program"),
        (&path("plain/below"), 127, "no such program"),
        ("", 127, "no such program"),
        (&path("plain"), 126, "chmod +x"),
        (&path("script"), 126, "/no/such/interpreter"),
        (&path("dos"), 126, "CRLF"),
        (&path(""), 126, "folder"),
        ("/dev/null", 126, "no file"),
    ];
    for (program, code, part) in cases {
        let error = imd(&["exec", "--store", &store, "--", program]).failed(code);
        assert!(error.contains(part), "{program}: no {part} in: {error}");
        assert!(!fs::exists(&store).unwrap(), "{program}");
    }
    let mut command = Command::new(IMD);
    let folders = format!("{}:/bin:/usr/bin", folder.path().display());
    command
        .args(["exec", "--", "plain"])
        .env("PATH", folders)
        .env_remove("RUST_LOG");
    assert!(Program::run(command).end().failed(126).contains("chmod +x"));
}

#[test]
fn the_exit_code_is_that_of_a_shell() {
    for (script, code) in [("exit 5", 5), ("kill -TERM $$", 143), ("kill -9 $$", 137)] {
        imd(&["exec", "--", "sh", "-c", script]).failed(code);
    }
    // A file that the system can't execute is run by the shell.
    let folder = TempDir::new().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "echo run by a shell\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let out = imd(&["exec", "--", script.to_str().unwrap()]).ok();
    assert_eq!(out, ["run by a shell"]);
}

#[test]
fn the_command_has_the_open_file_limit_of_the_caller() {
    let mut command = Command::new("sh");
    let script =
        "ulimit -Sn 200; ulimit -Sn; ulimit -Hn; \"$0\" exec -- sh -c 'ulimit -Sn; ulimit -Hn'";
    command.args(["-c", script, IMD]);
    let out = Program::run(command).end().ok();
    assert_eq!(out[..2], out[2..], "{out:?}");
    assert_eq!(out[0], "200");
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_at_the_start_is_ignored_by_the_command_too() {
    let mut command = Command::new("sh");
    let script = "trap '' HUP INT USR1; grep SigIgn /proc/self/status; exec \"$0\" exec -- grep SigIgn /proc/self/status";
    command.args(["-c", script, IMD]);
    let out = Program::run(command).end().ok();
    assert_eq!(out[0], out[1]);
    let plain = imd(&["exec", "--", "grep", "SigIgn", "/proc/self/status"]).ok();
    assert_ne!(plain[0], out[0]);
}

/// A command that prints "got" for each SIGINT, and ends by SIGTERM.
///
/// It is a shell that waits on a pipe. A signal interrupts the wait at once, so two signals are hardly ever merged. A
/// shell that gets a signal just before it begins to wait runs its trap only when the wait ends. The shell does not show
/// that moment, so a thread ends the wait by a line every 20 ms.
struct Counting {
    folder: TempDir,
    /// Ends the thread when it is dropped.
    _ends_thread: Sender<()>,
}

impl Counting {
    const SCRIPT: &str = "trap 'echo got' INT; trap 'exit 0' TERM; exec 3<>\"$1\"; echo ready; \
                          while :; do read -r x <&3; done";

    fn new() -> Counting {
        let folder = TempDir::new().unwrap();
        let pipe = folder.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        // Opened for reading and writing, because opening a pipe for only one of them waits for the other end.
        let mut pipe = File::options().read(true).write(true).open(&pipe).unwrap();
        let (ends_thread, end) = channel();
        std::thread::spawn(move || {
            let pause = Duration::from_millis(20);
            while end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pipe.write_all(b"\n").unwrap();
            }
        });
        Counting {
            folder,
            _ends_thread: ends_thread,
        }
    }

    fn args(&self) -> [String; 7] {
        let pipe = self.folder.path().join("pipe");
        let pipe = pipe.to_str().unwrap();
        ["exec", "--", "sh", "-c", Self::SCRIPT, "sh", pipe].map(str::to_owned)
    }

    /// Sends SIGTERM to the imd that runs this command.
    fn end_imd(&self) {
        let pipe = self.folder.path().to_str().unwrap();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            if line.starts_with(IMD) && line.contains(pipe) {
                let pid = process.file_name();
                let kill = Command::new("kill").arg("-TERM").arg(pid).status();
                assert!(kill.unwrap().success());
            }
        }
    }

    fn start(&self) -> Program {
        let mut command = Command::new(IMD);
        command
            .args(self.args())
            .env_remove("RUST_LOG")
            .process_group(0);
        let mut exec = Program::run(command);
        assert_eq!(exec.line(), "ready");
        exec
    }
}

fn count(ended: Ended) -> usize {
    let out = ended.ok();
    out.iter().filter(|line| line.contains("got")).count()
}

#[test]
fn an_interrupt_reaches_the_command_exactly_once_without_a_terminal() {
    let counting = Counting::new();
    // The signal goes to imd alone; to its process group, as test runners do it; and to both, as package managers do
    // it.
    for targets in [&[""][..], &["-"], &["-", ""], &["", "", "-"]] {
        let mut exec = counting.start();
        for target in targets {
            let target = format!("{target}{}", exec.pid());
            let kill = Command::new("kill").args(["-INT", "--", &target]).status();
            assert!(kill.unwrap().success());
        }
        exec.line_with("got");
        exec.signal("-TERM");
        assert_eq!(count(exec.end()), 1, "{targets:?}");
    }
}

#[test]
fn a_signal_to_end_reaches_the_children_of_the_command() {
    // The outer shell waits for the inner one, which would go on if only the outer shell got the signal.
    let script = "sh -c 'echo started; sleep 600'; echo over";
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut command = Command::new(IMD);
        command
            .args(["exec", "--", "sh", "-c", script])
            .process_group(0)
            .env_remove("RUST_LOG");
        let mut exec = Program::run(command);
        exec.line_with("started");
        exec.signal(signal);
        // Its output ends when no process holds it open any more.
        exec.end().failed(code);
    }
}

#[test]
fn an_interrupt_half_a_second_after_the_first_is_passed_on_too() {
    let mut exec = Counting::new().start();
    exec.signal("-INT");
    exec.line_with("got");
    let first = Instant::now();
    let mut second = None;
    while second.is_none() {
        exec.signal("-INT");
        assert!(first.elapsed() < DEADLINE);
        second = exec.line_within(Duration::from_millis(20));
    }
    assert!(first.elapsed() > Duration::from_millis(400));
    exec.signal("-TERM");
    exec.end().ok();
}

/// `setsid` gives a process a terminal of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_ctrl_c_reaches_the_command_exactly_once_with_any_stdin() {
    let counting = Counting::new();
    let shells = [
        // imd is the first process of its session, as in a container with a terminal.
        "exec \"$@\" < /dev/null",
        "exec \"$@\"",
        // imd is the child of a shell, as in a script.
        "trap : INT; \"$@\" < /dev/null; exit $?",
        "trap : INT; \"$@\" < /dev/null | (trap '' INT; cat)",
    ];
    for shell in shells {
        let mut command = Command::new("setsid");
        command
            .args(["-c", "-w", "sh", "-c", shell, "sh", IMD])
            .args(counting.args());
        let mut terminal = Terminal::run(command);
        terminal.shows("ready");
        terminal.types("\u{3}");
        terminal.shows("got");
        // The signal goes to imd alone, which passes it on after those before it.
        counting.end_imd();
        let (is_good, seen) = terminal.ended();
        assert!(is_good, "{shell}: {seen}");
        assert_eq!(seen.matches("got").count(), 1, "{shell}: {seen}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_exec_or_bench_leaves_nothing_running() {
    let mut exec = Program::start(&["exec", "--", "sh", "-c", "echo $$; exec sleep 1000"]);
    let command = exec.line();
    let bench = Program::start(&["bench", "idle", "--users=1", "--secs=1000"]);
    let children = format!("/proc/{0}/task/{0}/children", bench.pid());
    let start_of_wait = Instant::now();
    let private = loop {
        let children = fs::read_to_string(&children).unwrap();
        // The child is the private imd only after it has executed the program.
        let is_daemon = |pid: &str| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("--addr-file") && !line.contains("launch"))
        };
        if is_daemon(children.trim()) {
            break children.trim().to_owned();
        }
        assert!(start_of_wait.elapsed() < DEADLINE);
    };
    for (program, child) in [(exec, command), (bench, private)] {
        program.signal("-KILL");
        let stat = format!("/proc/{child}/stat");
        // The process has ended, or is a zombie until its new parent collects it.
        let has_ended = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z"));
        until("it goes on", has_ended);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn as_the_first_process_of_a_container_it_leaves_no_zombies() {
    let unshare = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    let runs = |program: &mut Command| program.output().is_ok_and(|out| out.status.success());
    if !runs(Command::new("unshare").args(unshare).arg("true")) {
        eprintln!("skipped: this system lets nobody have processes of their own");
        return;
    }
    // The inner shell ends before its child, which then becomes a child of imd. When the child has ended, the script
    // looks for a zombie every 100 ms, because no event tells that imd has collected it.
    let script = "mkfifo $1/gone; sh -c 'sh -c \"exec 3<$1/gone\" sh $1 &' sh $1; : > $1/gone; \
                  i=0; while grep -qs '^State:.Z' /proc/[0-9]*/status; do i=$((i+1)); [ $i -lt 300 ] || exit 9; sleep 0.1; done; \
                  ls -d /proc/[0-9]*; exit 3";
    let folder = TempDir::new().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(unshare)
        .args([IMD, "exec", "--", "sh", "-c", script, "sh"])
        .arg(folder.path());
    let ended = Program::run(command).end();
    assert_eq!(ended.code, Some(3), "{:?}\n{}", ended.out, ended.err);
    assert!(ended.out.contains(&"/proc/1".to_owned()), "{:?}", ended.out);
}

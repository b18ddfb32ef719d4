//! Starts the program, reads what it prints, and waits for its end.
//!
//! Serves all files of this suite. Every wait has a deadline, after which the test fails and shows what the program has
//! written.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use imd::daemon::Addresses;
use serde_json::Value;
use tempfile::TempDir;

/// How long a program may take for any step. Only a failing test waits that long.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The lines of one output, which a thread of its own reads.
struct Lines {
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let seen = Vec::new();
        Lines { lines, seen }
    }

    fn next(&mut self, until: Instant) -> Result<String, RecvTimeoutError> {
        let left = until.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left)?;
        self.seen.push(line.clone());
        Ok(line)
    }

    fn rest(&mut self, until: Instant) -> Result<(), RecvTimeoutError> {
        loop {
            match self.next(until) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(timeout) => return Err(timeout),
            }
        }
    }
}

/// A running program. Dropping it kills the program.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Lines,
    err: Lines,
}

/// The exit code and the output of a program that has ended.
pub struct Ended {
    pub code: Option<i32>,
    pub out: Vec<String>,
    pub err: String,
}

impl Program {
    pub fn start(args: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
        command.args(args);
        Program::run(command)
    }

    pub fn start_logging(args: &[&str], rust_log: &str) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
        command.args(args).env("RUST_LOG", rust_log);
        Program::run(command)
    }

    /// Runs the binary in place of a shell that has run `setup` before, such as `ulimit -n 64`.
    pub fn start_after(setup: &str, args: &[&str]) -> Program {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{setup}; exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_imd"))
            .args(args);
        Program::run(command)
    }

    /// Starts the program with these environment variables.
    pub fn start_with_variables(args: &[&str], variables: &[(&str, &str)]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
        command.args(args).envs(variables.iter().copied());
        Program::run(command)
    }

    /// Runs a command without the environment variables of `imd` and of the log, except for those that the command
    /// sets: `cargo test` may itself run inside `imd exec`.
    pub fn run(mut command: Command) -> Program {
        let given: Vec<_> = command
            .get_envs()
            .map(|(name, _)| name.to_owned())
            .collect();
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| !given.contains(name)) {
            let text = name.to_string_lossy();
            if text.starts_with("IMD_") || text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Program {
            stdin: child.stdin.take(),
            out: Lines::of(child.stdout.take().unwrap()),
            err: Lines::of(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Runs a command whose stdout the test has set up itself, and does not read.
    pub fn run_unread(mut command: Command) -> Program {
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Program {
            stdin: child.stdin.take(),
            out: Lines::of(std::io::empty()),
            err: Lines::of(child.stderr.take().unwrap()),
            child,
        }
    }

    fn fail(&mut self, what: &str) -> ! {
        while self.out.next(Instant::now()).is_ok() {}
        while self.err.next(Instant::now()).is_ok() {}
        panic!(
            "{what}\n--- stdout\n{}\n--- stderr\n{}",
            self.out.seen.join("\n"),
            self.err.seen.join("\n")
        );
    }

    /// Waits for the next line of stdout.
    pub fn line(&mut self) -> String {
        match self.out.next(Instant::now() + DEADLINE) {
            Ok(line) => line,
            Err(error) => self.fail(&format!("no line on stdout: {error}")),
        }
    }

    /// Waits for the next line of stdout, for this time at most.
    pub fn line_within(&mut self, time: Duration) -> Option<String> {
        self.out.next(Instant::now() + time).ok()
    }

    /// Waits for a line of stdout that contains `what`, and passes over others.
    pub fn line_with(&mut self, what: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.out.next(until) {
                Ok(line) if line.contains(what) => return line,
                Ok(_) => {}
                Err(error) => self.fail(&format!("no {what:?} on stdout: {error}")),
            }
        }
    }

    /// Waits for a line of stderr that contains `what`, and passes over others.
    pub fn log_with(&mut self, what: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.err.next(until) {
                Ok(line) if line.contains(what) => return line,
                Ok(_) => {}
                Err(error) => self.fail(&format!("no {what:?} on stderr: {error}")),
            }
        }
    }

    /// Writes a line to its stdin.
    pub fn write(&mut self, line: &str) {
        self.write_bytes(format!("{line}\n").as_bytes());
    }

    /// Writes bytes to its stdin.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).unwrap();
    }

    /// Closes its stdin, so that the program reads the end of its input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `-TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let kill = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(kill.success());
    }

    /// Closes its stdin, and waits until the program ends by itself.
    pub fn end(mut self) -> Ended {
        self.stdin = None;
        let until = Instant::now() + DEADLINE;
        if self.out.rest(until).is_err() || self.err.rest(until).is_err() {
            self.fail("it does not end");
        }
        Ended {
            code: self.child.wait().unwrap().code(),
            out: std::mem::take(&mut self.out.seen),
            err: self.err.seen.join("\n"),
        }
    }

    /// Waits until the program has a handler for SIGTERM. Before that, the signal would kill it.
    pub fn wait_until_it_handles_signals(&self) {
        wait_until_it_handles_signals(self.pid());
    }

    /// Waits for the end of the program, for this time at most, and returns whether it has ended.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        self.out.rest(Instant::now() + time).is_ok()
    }

    /// Returns whether the program has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a process has a handler for SIGTERM. Before that, the signal would kill it. Only Linux shows the handlers.
pub fn wait_until_it_handles_signals(pid: u32) {
    let status = format!("/proc/{pid}/status");
    until("it handles no signals", || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        caught >> (15 - 1) & 1 == 1
    });
}

/// Checks a condition again and again until it holds, and fails the test with `what` after [`DEADLINE`]. It is for conditions
/// of other processes that can't be awaited.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{what}");
        // Sleeping leaves the processor to the other process. No event marks the change that is waited for.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the names of all commands of the program, as its help lists them.
pub fn commands() -> BTreeSet<String> {
    let help = imd(&["--help"]).ok();
    let commands = help.iter().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let commands: BTreeSet<String> = commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .map(str::to_owned)
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    commands
}

/// Runs the program to its end.
pub fn imd(args: &[&str]) -> Ended {
    Program::start(args).end()
}

impl Ended {
    /// Checks that the program has succeeded, and returns the lines of its stdout.
    pub fn ok(self) -> Vec<String> {
        assert_eq!(self.code, Some(0), "{:?}\n{}", self.out, self.err);
        self.out
    }

    /// Checks that the program has succeeded, and parses each line of its stdout as JSON.
    pub fn json(self) -> Vec<Value> {
        let lines = self.ok();
        let parse = |line: &String| serde_json::from_str(line).expect(line);
        lines.iter().map(parse).collect()
    }

    /// Checks that the program has failed with this code, and returns its stderr.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{:?}\n{}", self.out, self.err);
        self.err
    }
}

/// A running daemon, with the folder that holds its file of addresses.
pub struct Daemon {
    pub program: Program,
    pub folder: TempDir,
    pub banner: Vec<String>,
}

impl Daemon {
    /// Starts a daemon on free ports.
    pub fn start(args: &[&str]) -> Daemon {
        Daemon::start_with(&[&["--any-port"], args].concat(), |args| {
            Program::start(args)
        })
    }

    pub fn start_with(args: &[&str], start: impl FnOnce(&[&str]) -> Program) -> Daemon {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("addr.json");
        let program = start(&[args, &["--addr-file", file.to_str().unwrap()]].concat());
        let mut daemon = Daemon {
            program,
            folder,
            banner: Vec::new(),
        };
        daemon.banner = (0..5).map(|_| daemon.program.line()).collect();
        daemon
    }

    pub fn addr_file(&self) -> PathBuf {
        self.folder.path().join("addr.json")
    }

    pub fn addresses(&self) -> Addresses {
        read_addresses(self.addr_file())
    }

    /// Starts a command that finds this daemon by its file of addresses.
    pub fn spawn(&self, args: &[&str]) -> Program {
        let file = self.addr_file();
        Program::start(&[args, &["--addr-file", file.to_str().unwrap()]].concat())
    }

    /// Runs a command that finds this daemon by its file of addresses.
    pub fn imd(&self, args: &[&str]) -> Ended {
        self.spawn(args).end()
    }

    /// Waits until the daemon records frames, or until it does not. It begins with the first reader of the journal, and
    /// ends a few seconds after the last one has gone.
    #[track_caller]
    pub fn until_recording(&self, expected: bool) {
        let records = format!("\"records\": {expected}");
        until(&format!("recording is not {expected}"), || {
            self.imd(&["state"]).ok().join("\n").contains(&records)
        });
    }

    /// Stops the daemon by SIGTERM, and returns its last line.
    pub fn stop(self) -> String {
        self.program.signal("-TERM");
        let out = self.program.end().ok();
        out.last().unwrap().clone()
    }
}

/// Returns the address in the URL of an HTTP API.
pub fn socket_addr(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

/// Returns the IPv4 address of this machine on its network, or `None` if it is in none.
pub fn address_on_the_network() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // This sends nothing: the system only chooses the address from which it would send.
    socket.connect("203.0.113.1:9").ok()?;
    let ip = socket.local_addr().unwrap().ip();
    (!ip.is_loopback()).then_some(ip)
}

/// Reads the file of addresses of a daemon.
pub fn read_addresses(file: impl AsRef<Path>) -> Addresses {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Writes a config file, and returns its path.
pub fn write_config(folder: &Path, text: &str) -> String {
    let file = folder.join("imd.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

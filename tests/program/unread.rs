//! Pipes that are full because nobody reads them: the program still serves, and still ends when it is told to.
//!
//! For the log of a daemon, and for the output of commands that run until a signal.

use std::io::{PipeReader, Read, Write, pipe};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::process::{Daemon, imd, socket_addr, until, wait_until_it_handles_signals};
use crate::support::Http;
use crate::support::http::request;

/// A program whose stdout is full from the start, and whose stderr nobody reads.
struct Unread {
    child: Child,
    /// The reading end of stdout. It is never read, and open, so that writes wait instead of failing.
    _stdout: PipeReader,
}

impl Unread {
    fn start(args: &[&str], rust_log: &str) -> Unread {
        let (reader, writer) = pipe().unwrap();
        let mut filler = writer.try_clone().unwrap();
        // The thread fills the pipe, and then waits until the reading end is dropped.
        thread::spawn(move || filler.write_all(&vec![b'.'; 1 << 20]));
        let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
        command.args(args).env("RUST_LOG", rust_log);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        until("the pipe does not fill", || is_full(&writer));
        Unread {
            child: command.stdout(writer).spawn().unwrap(),
            _stdout: reader,
        }
    }

    /// Sends SIGTERM, and returns the exit code.
    fn told_to_end(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.end()
    }

    fn end(&mut self) -> Option<i32> {
        until("it does not end", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap().code()
    }

    /// Returns what the program has written to stderr.
    fn stderr(mut self) -> String {
        let mut text = Vec::new();
        let stderr = self.child.stderr.take();
        stderr.unwrap().read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether a write to the pipe would have to wait.
fn is_full(writer: &std::io::PipeWriter) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
}

/// Waits until the daemon serves, which only its file of addresses tells.
fn addresses(folder: &TempDir) -> String {
    let file = folder.path().join("addr.json");
    until("it does not start", || file.exists());
    file.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_daemon_whose_log_nobody_reads_serves_counts_what_is_dropped_and_stops() {
    for format in ["pretty", "json"] {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("addr.json");
        let args = ["--any-port", "--log-format", format, "--addr-file"];
        let args = [&args[..], &[file.to_str().unwrap()]].concat();
        let mut daemon = Unread::start(&args, "imd=info");
        let file = addresses(&folder);
        let file = ["--addr-file", &file];
        let gateway = crate::process::read_addresses(file[1]).gateway;
        // Each time the fault acts, a line is logged: far more than the pipe and the queue in front of it can hold.
        let add = ["fault", "add", "--at", "access.request", "--delay", "1us"];
        imd(&[&add[..], &file[..]].concat()).ok();
        for _ in 0..50 {
            imd(&["bench", "--addr", &gateway, "--users=8", "--count=4000"]).ok();
            if dropped(&file).await > 0 {
                break;
            }
        }
        assert!(dropped(&file).await > 0);
        imd(&[&["ready"], &file[..]].concat()).ok();
        imd(&[&["send", "--from", "1", "--to", "2", "x"], &file[..]].concat()).ok();
        assert_eq!(daemon.told_to_end(), Some(0));
        assert!(!folder.path().join("addr.json").exists());
    }
}

/// Returns how many lines of log were dropped, as the metrics say.
async fn dropped(file: &[&str]) -> u64 {
    let admin = crate::process::read_addresses(file[1]).admin.unwrap();
    let metrics = request(socket_addr(&admin), "GET /metrics HTTP/1.0", "").await;
    let line = metrics
        .body
        .lines()
        .find_map(|line| line.strip_prefix("imd_log_lines_dropped_total "));
    line.unwrap().trim().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_commands_whose_output_nobody_reads() {
    let daemon = Daemon::start(&[]);
    let file = daemon.addr_file();
    let file = file.to_str().unwrap();
    let record = daemon.folder.path().join("a.rec");
    for _ in 0..20 {
        daemon.imd(&["send", "--from", "1", "--to", "2", "x"]).ok();
    }
    let commands: [(&[&str], i32); 6] = [
        (&["tail"], 0),
        (&["tail", "--json"], 0),
        (&["sync", "--uid", "2", "--follow"], 0),
        (&["chat", "--uid", "3"], 0),
        (&["record", "--to", record.to_str().unwrap()], 0),
        (&["bench", "--users=2", "--secs=1000000", "--rate=1"], 1),
    ];
    let mut running = Vec::new();
    for (args, code) in commands {
        let with_file = [args, &["--addr-file", file]].concat();
        let args = if args[0] == "bench" { args } else { &with_file };
        running.push((Unread::start(args, "trace"), args.concat(), code));
    }
    // Commands that show messages get some to show.
    for uid in ["2", "3"] {
        daemon.imd(&["send", "--from", "1", "--to", uid, "x"]).ok();
    }
    daemon.imd(&["ready"]).ok();
    for (mut command, args, code) in running {
        wait_until_it_handles_signals(command.child.id());
        assert_eq!(command.told_to_end(), Some(code), "{args}");
    }
    daemon.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn a_finished_bench_that_nobody_reads_is_ended_by_a_signal() {
    let mut bench = Unread::start(&["bench", "gateway", "--users=1", "--count=1"], "warn");
    let children = format!("/proc/{0}/task/{0}/children", bench.child.id());
    let has_child = || !std::fs::read_to_string(&children).unwrap().is_empty();
    until("it starts no imd", has_child);
    // When the imd that it had started is gone, it prints its report.
    until("its imd does not end", || !has_child());
    assert_eq!(bench.told_to_end(), Some(1));
}

#[test]
fn a_command_beside_a_stack_that_nobody_reads_gives_its_code() {
    let script = format!(
        "{0} bench --addr $IMD_GATEWAY --users=4 --count=3000 > /dev/null 2>&1; exit 3",
        env!("CARGO_BIN_EXE_imd")
    );
    let mut exec = Unread::start(&["exec", "--", "sh", "-c", &script], "trace");
    assert_eq!(exec.end(), Some(3));
    assert!(!exec.stderr().is_empty());
}

#[tokio::test]
async fn followers_of_the_journal_that_do_not_read_hold_up_no_other_client() {
    let daemon = Daemon::start(&[]);
    let addresses = daemon.addresses();
    let admin = addresses.admin.unwrap();
    let admin = socket_addr(&admin);
    let mut followers = Vec::new();
    for _ in 0..10 {
        let head = "GET /v1/journal?bytes=true HTTP/1.1\r\naccept: text/event-stream";
        let mut follower = Http::sent(admin, format!("{head}\r\nhost: {admin}\r\n\r\n")).await;
        follower.expect("HTTP/1.1 200 OK").await;
        followers.push(follower);
    }
    let bench = ["bench", "--users=4", "--count=5000", "--addr"];
    imd(&[&bench[..], &[&addresses.gateway]].concat()).ok();
    daemon.imd(&["ready"]).ok();
    assert!(daemon.stop().starts_with("Stopped.  stored 5000"));
    drop(followers);
}

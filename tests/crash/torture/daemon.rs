//! Starts the program as a process of its own, kills it, and waits for its end.
//!
//! Serves the torture of a folder and the tests of failing disks. Every wait has a deadline, and a process that is dropped
//! is killed, so that no test leaves one behind.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use imd::daemon::Addresses;

use super::load::ServerAddrs;

/// How long a start or an end of the program may take, at most. Only a failing run waits that long.
const DEADLINE: Duration = Duration::from_secs(60);

/// How the program is started.
#[derive(Debug, Clone)]
pub struct Launch {
    pub binary: PathBuf,
    pub config: PathBuf,
    /// The store's folder.
    pub store: PathBuf,
    /// The file that the program writes its addresses to.
    pub addr_file: PathBuf,
    /// The arguments of strace; empty to run the program without it.
    pub strace: Vec<String>,
}

/// A running program that accepts connections.
pub struct Daemon {
    process: Process,
    pub addrs: ServerAddrs,
}

/// A running program. It is killed when this is dropped.
struct Process {
    child: Child,
    /// The lines of its standard output. Their end is the end of the process.
    lines: Receiver<String>,
    /// Collects its standard error.
    stderr: Option<JoinHandle<String>>,
}

/// How a program ended.
#[derive(Debug)]
pub struct End {
    pub status: ExitStatus,
    pub stderr: String,
    /// Whether it was killed because it did not end in time.
    pub is_overdue: bool,
}

/// The result of a start.
pub enum Started {
    /// The program accepts connections.
    Ready(Daemon),
    /// The program has ended before that.
    Ended(End),
}

impl Launch {
    /// Starts the program, and waits until it accepts connections or has ended.
    pub fn start(&self) -> io::Result<Started> {
        // Otherwise the addresses of an earlier process could be taken for those of this one.
        match std::fs::remove_file(&self.addr_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut command = match self.strace.as_slice() {
            [] => Command::new(&self.binary),
            args => {
                // With -D the child is the program itself, so that it can be killed and waited for, and strace is a grandchild.
                let mut strace = Command::new("strace");
                strace.args(["-D", "-f"]).args(args).arg(&self.binary);
                strace
            }
        };
        command
            .args([Path::new("--config"), &self.config])
            .args([Path::new("--store"), &self.store])
            .args([Path::new("--addr-file"), &self.addr_file])
            .args(["--any-port", "--access", "2"])
            .env_remove("RUST_LOG");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = lines(child.stdout.take());
        let stderr = child.stderr.take();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            // Text that was read before an error is kept.
            let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        let process = Process {
            child,
            lines,
            stderr: Some(stderr),
        };
        // The program prints this line when it accepts connections on all ports.
        while let Ok(line) = process.lines.recv_timeout(DEADLINE) {
            if line.starts_with("Ready") {
                let addresses = std::fs::read(&self.addr_file)?;
                let addresses: Addresses = serde_json::from_slice(&addresses)?;
                let addrs = ServerAddrs::try_from(&addresses).map_err(io::Error::other)?;
                return Ok(Started::Ready(Daemon { process, addrs }));
            }
        }
        process.end().map(Started::Ended)
    }
}

/// Returns the lines of a stream as they arrive. They are read by a thread, so that a wait for one can have a deadline.
fn lines(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        let Some(stream) = stream else { return };
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Daemon {
    /// Sends SIGKILL. Does nothing if the program has ended.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits until the program and its tracer have ended. A program that does not end in time is killed.
    pub fn end(self) -> io::Result<End> {
        self.process.end()
    }
}

impl Process {
    fn kill(&mut self) {
        let _ = self.child.kill();
    }

    fn end(mut self) -> io::Result<End> {
        let is_overdue = loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(_) => {}
                Err(error) => break error == RecvTimeoutError::Timeout,
            }
        };
        self.kill();
        let status = self.child.wait()?;
        let stderr = self.stderr.take().map(JoinHandle::join);
        let stderr = stderr.and_then(Result::ok).unwrap_or_default();
        Ok(End {
            status,
            stderr,
            is_overdue,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

impl End {
    /// Returns whether the program was killed, and did not end by itself.
    pub fn is_killed(&self) -> bool {
        self.status.signal() == Some(9) && !self.is_overdue
    }
}

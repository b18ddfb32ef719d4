//! Runs the program as a process of its own.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use imd::daemon::Addresses;

use super::load::Places;

/// The upper bound of whatever a program does. Only a failure uses it up.
const DEADLINE: Duration = Duration::from_secs(60);

/// How the program is started.
#[derive(Debug, Clone)]
pub struct Launch {
    pub binary: PathBuf,
    pub config: PathBuf,
    /// The store's folder.
    pub store: PathBuf,
    pub addr_file: PathBuf,
    /// The arguments of strace; empty to run the program without it.
    pub strace: Vec<String>,
}

/// A running program that serves.
pub struct Daemon {
    process: Process,
    pub places: Places,
}

/// Killed when dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
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
    Ready(Daemon),
    Ended(End),
}

impl Launch {
    /// Starts the program and waits until it serves or has ended.
    pub fn start(&self) -> io::Result<Started> {
        // The addresses of an earlier process are of no use.
        match std::fs::remove_file(&self.addr_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut command = match self.strace.as_slice() {
            [] => Command::new(&self.binary),
            args => {
                // With -D the tracer is the grandchild, and the child is the program itself, to be killed and waited for.
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
            // What was read before an error is kept.
            let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        let process = Process {
            child,
            lines,
            stderr: Some(stderr),
        };
        // The program prints this line when everything serves.
        while let Ok(line) = process.lines.recv_timeout(DEADLINE) {
            if line.starts_with("Ready") {
                let addresses = std::fs::read(&self.addr_file)?;
                let addresses: Addresses = serde_json::from_slice(&addresses)?;
                let places = Places::try_from(&addresses).map_err(io::Error::other)?;
                return Ok(Started::Ready(Daemon { process, places }));
            }
        }
        process.end().map(Started::Ended)
    }
}

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

//! The real program, as a process of its own.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use imd::daemon::Addresses;

use super::load::Places;

/// Whatever a program has to do, it does within this time. Only ever used up by a failure.
const DEADLINE: Duration = Duration::from_secs(60);

/// How to start it.
#[derive(Debug, Clone)]
pub struct Launch {
    pub binary: PathBuf,
    pub config: PathBuf,
    /// The store's folder.
    pub store: PathBuf,
    pub addr_file: PathBuf,
    /// What strace is to do with it; empty for no strace.
    pub strace: Vec<String>,
}

/// A program that serves.
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

/// What became of a program.
#[derive(Debug)]
pub struct End {
    pub status: ExitStatus,
    pub stderr: String,
    /// It had to be killed, because it did not end in time.
    pub is_overdue: bool,
}

/// What became of a start.
pub enum Started {
    Ready(Daemon),
    Ended(End),
}

impl Launch {
    /// Starts the program and waits until it serves or has ended.
    pub fn start(&self) -> io::Result<Started> {
        // What another life wrote there is of no use.
        match std::fs::remove_file(&self.addr_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut command = match self.strace.as_slice() {
            [] => Command::new(&self.binary),
            args => {
                // The tracer as grandchild: then the child is the program itself, to be killed and waited for.
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
            // Whatever was read until an error is what there is.
            let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        let process = Process {
            child,
            lines,
            stderr: Some(stderr),
        };
        // Its last line, once everything serves.
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
    /// SIGKILL. What is dead already stays so.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits until the program has ended, and its tracer too. One that does not is killed.
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
    /// Whether it was killed, and did not end by itself.
    pub fn is_killed(&self) -> bool {
        self.status.signal() == Some(9) && !self.is_overdue
    }
}

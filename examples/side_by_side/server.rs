//! A serving process, from the outside.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;

use crate::Fault;
use crate::peers::program;
use crate::serve::Kind;

/// What is to be served, and on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    pub kind: Kind,
    /// Whether messages are kept in a folder, and synced.
    pub is_durable: bool,
    /// So many users are in the group.
    pub members: i64,
    /// So many messages are stored already, for users who are not there.
    pub stored: u64,
    /// So many users are there who say nothing.
    pub idle: usize,
}

/// The program that serves it: this one, or its build without the lab, which has a target folder of its own.
pub fn executable(kind: Kind) -> Result<PathBuf, Fault> {
    let this = std::env::current_exe()?;
    if kind != Kind::WithoutLab {
        return Ok(this);
    }
    // target/release/examples/side_by_side
    let target = this.ancestors().nth(3).ok_or("no target folder")?;
    Ok(target.join("without-lab").join(this.strip_prefix(target)?))
}

/// A new folder that only its owner can read, as the store wants it.
fn private_folder() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(fs::Permissions::from_mode(0o700));
    builder.tempdir()
}

/// It ends when this is dropped.
pub struct Server {
    pub setup: Setup,
    process: Child,
    pub gateway: SocketAddr,
    pub access: Vec<SocketAddr>,
    /// Held for as long as the process may write to it.
    _folder: Option<TempDir>,
}

impl Server {
    /// Returns when it serves.
    pub fn start(setup: Setup) -> Result<Server, Fault> {
        Server::start_as(Command::new(executable(setup.kind)?), setup)
    }

    /// The same under a tool that watches it, whose process is then what this knows of.
    pub fn start_under(tool: &[String], setup: Setup) -> Result<Server, Fault> {
        let (program, args) = tool.split_first().ok_or("no tool")?;
        let mut command = Command::new(program);
        command.args(args).arg(executable(setup.kind)?);
        Server::start_as(command, setup)
    }

    fn start_as(mut command: Command, setup: Setup) -> Result<Server, Fault> {
        let kind = setup.kind.to_possible_value().ok_or("an unnamed kind")?;
        command.arg("serve").arg(kind.get_name());
        command.arg("--members").arg(setup.members.to_string());
        command.arg("--stored").arg(setup.stored.to_string());
        let needs_folder = setup.is_durable || program(setup.kind).is_some();
        let folder = needs_folder.then(private_folder).transpose()?;
        if let Some(folder) = &folder {
            command.arg("--folder").arg(folder.path());
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = process.stdout.take().ok_or("no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let addrs = line.split_whitespace().map(str::parse);
        let addrs: Vec<SocketAddr> = addrs.collect::<Result<_, _>>()?;
        let (&gateway, access) = addrs.split_first().ok_or("the server did not start")?;
        Ok(Server {
            setup,
            process,
            gateway,
            access: access.to_vec(),
            _folder: folder,
        })
    }

    /// Says of which server a fault is.
    pub fn at_fault(&self, fault: Fault) -> Fault {
        format!("{:?}: {fault}", self.setup.kind).into()
    }

    /// The processor time that it has taken so far.
    pub fn cpu(&self) -> Duration {
        cpu(self.process.id())
    }

    /// Lets it end by itself, so that whoever watches it can say what it has seen.
    pub fn end(mut self) -> Result<(), Fault> {
        drop(self.process.stdin.take());
        self.process.wait()?;
        Ok(())
    }

    /// How often one of its threads has gone to sleep so far.
    pub fn sleeps(&self) -> u64 {
        threads(self.process.id(), "status", |status| {
            let sleeps = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sleeps?.trim().parse().ok()
        })
    }

    /// What it has in memory, in bytes.
    pub fn resident(&self) -> Result<u64, Fault> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kb = line.and_then(|line| line.split_whitespace().next());
        Ok(kb.ok_or("no Rss")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The processor time that a process's threads have taken so far; zero where the system does not say.
pub fn cpu(process: u32) -> Duration {
    let nanos = threads(process, "schedstat", |stat| {
        stat.split_whitespace().next()?.parse().ok()
    });
    Duration::from_nanos(nanos)
}

/// The sum of what the system says of a process's threads.
fn threads(process: u32, file: &str, read: impl Fn(&str) -> Option<u64>) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return 0;
    };
    let said = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join(file)).ok());
    said.filter_map(|text| read(&text)).sum()
}

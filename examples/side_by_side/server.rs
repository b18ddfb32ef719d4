//! A server that is measured, in a process of its own.
//!
//! Serves all rows. The process is killed and its folder removed when the [`Server`] is dropped, whatever happened meanwhile.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use imd::load::usage;
use tempfile::TempDir;

use crate::carried::Carrier;
use crate::kind::Kind;
use crate::{Fault, affinity, carried};

/// Which server is started, and what it holds when it begins to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    pub kind: Kind,
    /// What carries the connections of its clients.
    pub carrier: Carrier,
    /// Whether messages are synced to the disk before they are acknowledged.
    pub is_durable: bool,
    /// How many users are in the group.
    pub members: i64,
    /// How many messages are stored, for users who never log in.
    pub stored: u64,
    /// How many users are logged in and send nothing.
    pub idle: usize,
    /// The numbers of the cores that the server may use.
    pub cores: &'static [usize],
    /// How many worker threads `imd` has, if it may use more than one core.
    pub workers: usize,
}

impl Setup {
    /// Returns a server on one core that holds nothing yet.
    pub fn new(kind: Kind, is_durable: bool) -> Setup {
        Setup {
            kind,
            carrier: Carrier::Tcp,
            is_durable,
            members: 0,
            stored: 0,
            idle: 0,
            cores: affinity::SERVER,
            workers: 1,
        }
    }
}

/// Returns the program that serves this kind: this one, or its build without the lab, which has a target folder of its own.
pub fn executable(kind: Kind) -> Result<PathBuf, Fault> {
    let this = std::env::current_exe()?;
    if kind != Kind::WithoutLab {
        return Ok(this);
    }
    // target/release/examples/side_by_side
    let target = this.ancestors().nth(3).ok_or("no target folder")?;
    Ok(target.join("without-lab").join(this.strip_prefix(target)?))
}

/// Creates a folder that only its owner can read, as the store requires it.
fn private_folder() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(fs::Permissions::from_mode(0o700));
    builder.tempdir()
}

/// A serving process. Dropping it kills the process.
pub struct Server {
    pub setup: Setup,
    process: Child,
    pub gateway: SocketAddr,
    pub access: Vec<SocketAddr>,
    /// Removed when the process has ended.
    _folder: Option<TempDir>,
}

impl Server {
    /// Starts a server, and returns when it serves.
    pub fn start(setup: Setup) -> Result<Server, Fault> {
        Server::start_as(Command::new(executable(setup.kind)?), setup)
    }

    /// Starts a server under a tool that watches it. The process is then that of the tool.
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
        if setup.carrier != Carrier::Tcp {
            let carrier = setup.carrier.to_possible_value();
            let carrier = carrier.ok_or("an unnamed carrier")?;
            command.arg("--carrier").arg(carrier.get_name());
            command.arg("--certificate").arg(carried::certificate()?);
        }
        let cores: Vec<String> = setup.cores.iter().map(usize::to_string).collect();
        command.arg("--cores").arg(cores.join(","));
        // What tokio takes in place of a worker for each core.
        command.env("TOKIO_WORKER_THREADS", setup.workers.to_string());
        let needs_folder = setup.is_durable || setup.kind.broker().is_some();
        let folder = needs_folder.then(private_folder).transpose()?;
        if let Some(folder) = &folder {
            command.arg("--folder").arg(folder.path());
        }
        if setup.is_durable {
            command.arg("--synced");
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

    /// Adds to a fault which server was measured.
    pub fn at_fault(&self, fault: Fault) -> Fault {
        format!("{:?}: {fault}", self.setup.kind).into()
    }

    /// Returns the processor time that the server has taken so far.
    pub fn cpu(&self) -> Duration {
        cpu(self.process.id())
    }

    /// Lets the server end by itself, so that the tool that watches it writes its report.
    pub fn end(mut self) -> Result<(), Fault> {
        drop(self.process.stdin.take());
        self.process.wait()?;
        Ok(())
    }

    /// Returns how often its threads have gone to sleep so far.
    pub fn sleeps(&self) -> u64 {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.process.id())) else {
            return 0;
        };
        let sleeps = threads.flatten().filter_map(|thread| {
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            let mut lines = status.lines();
            let sleeps = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            sleeps.trim().parse::<u64>().ok()
        });
        sleeps.sum()
    }

    /// Returns the resident memory of the server, in bytes.
    pub fn resident(&self) -> Result<u64, Fault> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kb = line.and_then(|line| line.split_whitespace().next());
        Ok(kb.ok_or("no Rss")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that has ended by itself can't be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the processor time that a process has taken so far; zero where the system does not tell it.
pub fn cpu(process: u32) -> Duration {
    usage::process_cpu(process).unwrap_or_default()
}

//! Becoming another program: a child of `imd` first runs this, a hidden command of `imd` itself, and then the program.
//!
//! What a child has to set for itself between fork and exec needs unsafe code in its parent. Here it needs none:
//!
//! - On Linux the child asks to be killed when its parent dies, however that dies.
//! - The limit of open files, which `imd` raises for its own sake, is again what it was.
//! - The permissions that new files get, which `imd` restricts for the sake of its store, are again what they were.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Command;

use clap::Args;

use super::failure::Failure;

/// The name of the hidden command.
pub const NAME: &str = "launch-child";

#[derive(Args)]
pub struct LaunchArgs {
    /// The process that launches
    #[arg(long)]
    parent: u32,
    /// The soft limit of open files
    #[arg(long)]
    files: Option<u64>,
    /// The permissions that new files do not get
    #[arg(long)]
    umask: Option<Umask>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The permissions that new files do not get.
#[cfg(unix)]
pub type Umask = nix::libc::mode_t;
#[cfg(not(unix))]
pub type Umask = u32;

/// A command that becomes `program`, with the soft limit of open files set to `files`, and with this `umask`. On Linux
/// it is killed when the thread that spawns it ends: spawn it from the main thread.
///
/// # Errors
///
/// When the system does not say where `imd` itself is.
#[cfg(unix)]
pub fn command(program: &OsStr, files: Option<u64>, umask: Option<Umask>) -> io::Result<Command> {
    // Also right when the file was replaced meanwhile.
    let itself = match cfg!(target_os = "linux") {
        true => "/proc/self/exe".into(),
        false => std::env::current_exe()?,
    };
    let mut command = Command::new(itself);
    command
        .arg(NAME)
        .arg("--parent")
        .arg(std::process::id().to_string());
    if let Some(files) = files {
        command.arg("--files").arg(files.to_string());
    }
    if let Some(umask) = umask {
        command.arg("--umask").arg(umask.to_string());
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// Windows has no such limit, and no exec.
#[cfg(not(unix))]
pub fn command(program: &OsStr, _: Option<u64>, _: Option<Umask>) -> io::Result<Command> {
    Ok(Command::new(program))
}

/// Lets the files and folders that this process makes from now on be for its user alone. The store's engine makes its files
/// without a word on permissions. Answers what it was before, for [`command`].
#[cfg(unix)]
pub fn make_files_private() -> Option<Umask> {
    use nix::sys::stat::{Mode, umask};
    Some(umask(Mode::S_IRWXG | Mode::S_IRWXO).bits())
}

/// Windows has no such mask.
#[cfg(not(unix))]
pub fn make_files_private() -> Option<Umask> {
    None
}

/// The soft limit of open files, before it is raised.
#[cfg(unix)]
pub fn file_limit() -> Option<u64> {
    rlimit::getrlimit(rlimit::Resource::NOFILE)
        .ok()
        .map(|(soft, _)| soft)
}

/// Windows does not count sockets as files.
#[cfg(not(unix))]
pub fn file_limit() -> Option<u64> {
    None
}

/// Becomes the program. Returns only when that fails, as a shell would say it.
#[cfg(unix)]
pub fn run(args: &LaunchArgs) -> Failure {
    use std::os::unix::process::CommandExt;
    let Some((program, rest)) = args.command.split_first() else {
        return Failure::Usage(format!("{NAME}: there is no program"));
    };
    if let Err(error) = follow_parent(args.parent) {
        return Failure::Failed(format!("{NAME}: {error}"));
    }
    if let Some(soft) = args.files
        && let Ok((_, hard)) = rlimit::getrlimit(rlimit::Resource::NOFILE)
        && let Err(error) = rlimit::setrlimit(rlimit::Resource::NOFILE, soft, hard)
    {
        return Failure::Failed(format!("{NAME}: the limit of open files: {error}"));
    }
    if let Some(umask) = args.umask {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
    }
    let error = Command::new(program).args(rest).exec();
    let text = format!("{}: {error}", program.to_string_lossy());
    match error.kind() {
        io::ErrorKind::NotFound => Failure::NotFound(text),
        _ => Failure::NotExecutable(text),
    }
}

#[cfg(not(unix))]
pub fn run(_: &LaunchArgs) -> Failure {
    Failure::Usage(format!("{NAME} is for Unix"))
}

/// Has the system kill this process when its parent dies.
#[cfg(target_os = "linux")]
fn follow_parent(parent: u32) -> io::Result<()> {
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::signal::Signal;
    set_pdeathsig(Signal::SIGKILL)?;
    // It may have died before that was asked for.
    if u32::try_from(nix::unistd::getppid().as_raw()) != Ok(parent) {
        return Err(io::Error::other("imd has ended"));
    }
    Ok(())
}

/// Only Linux has that.
#[cfg(all(unix, not(target_os = "linux")))]
fn follow_parent(_: u32) -> io::Result<()> {
    Ok(())
}

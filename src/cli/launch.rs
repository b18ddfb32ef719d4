//! Runs another program as a child of `imd`. The child first runs a hidden command of `imd` itself, which prepares
//! the process and then becomes the program.
//!
//! Serves `imd exec` and `imd bench`, which launch programs, and `main`, which runs the hidden command. The umask and the
//! file limit of this process are read and set here too, for `main` and `imd store`.
//!
//! Preparing a child between fork and exec needs unsafe code in the parent. The hidden command does the same in safe
//! code:
//!
//! - On Linux, the child asks the system to kill it when its parent dies, for whatever reason.
//! - The limit of open files, which `imd` raises for itself, is set back.
//! - The umask, which `imd` restricts to protect its store, is set back.

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

/// The permissions that new files do not get, as a bit mask.
#[cfg(unix)]
pub type Umask = nix::libc::mode_t;
#[cfg(not(unix))]
pub type Umask = u32;

/// Returns a command that becomes `program`, with the soft limit of open files set to `files` and with this `umask`.
/// On Linux, the child is killed when the thread that spawns it ends, so it has to be spawned from the main thread.
///
/// # Errors
///
/// When the system does not tell the path of the executable of `imd`.
#[cfg(unix)]
pub fn command(program: &OsStr, files: Option<u64>, umask: Option<Umask>) -> io::Result<Command> {
    // This path stays right when the executable file was replaced since the start.
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

/// Returns a command that runs `program`. Windows has neither such a limit nor exec, so there is nothing to prepare.
#[cfg(not(unix))]
pub fn command(program: &OsStr, _: Option<u64>, _: Option<Umask>) -> io::Result<Command> {
    Ok(Command::new(program))
}

/// Restricts the files and folders that this process creates from now on to its user, because the engine of the store
/// sets no permissions itself. Returns the previous umask, for [`command`].
#[cfg(unix)]
pub fn make_files_private() -> Option<Umask> {
    use nix::sys::stat::{Mode, umask};
    Some(umask(Mode::S_IRWXG | Mode::S_IRWXO).bits())
}

/// Does nothing: Windows has no umask.
#[cfg(not(unix))]
pub fn make_files_private() -> Option<Umask> {
    None
}

/// Returns the soft limit of open files. To be called before the stack raises it.
#[cfg(unix)]
pub fn file_limit() -> Option<u64> {
    rlimit::getrlimit(rlimit::Resource::NOFILE)
        .ok()
        .map(|(soft, _)| soft)
}

/// Returns `None`: Windows does not count sockets as open files.
#[cfg(not(unix))]
pub fn file_limit() -> Option<u64> {
    None
}

/// Replaces this process with the program. Returns only when that fails, with the exit code of a shell for that case.
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

/// Refuses to run: there is no exec to become another program with.
#[cfg(not(unix))]
pub fn run(_: &LaunchArgs) -> Failure {
    Failure::Usage(format!("{NAME} is for Unix"))
}

/// Asks the system to kill this process when its parent dies.
#[cfg(target_os = "linux")]
fn follow_parent(parent: u32) -> io::Result<()> {
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::signal::Signal;
    set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the request, and then no signal would ever come.
    if u32::try_from(nix::unistd::getppid().as_raw()) != Ok(parent) {
        return Err(io::Error::other("imd has ended"));
    }
    Ok(())
}

/// Does nothing: only Linux has such a request.
#[cfg(all(unix, not(target_os = "linux")))]
fn follow_parent(_: u32) -> io::Result<()> {
    Ok(())
}

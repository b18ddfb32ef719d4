use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};

use clap::Args;
use imd::lab::Capture;
use imd::{Config, Imd};
use tokio::process::Command;

use crate::cli::failure::{self, Failure};
use crate::cli::signals::Signals;
use crate::cli::{environment, settings};

#[derive(Args)]
pub struct ExecArgs {
    /// The private stack's config, as TOML; its ports are free ones all the same
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Keep everything in this folder [default: in memory, whatever the config says]
    #[arg(long, value_name = "DIR")]
    store: Option<std::path::PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Starts a private stack, runs a command beside it, and ends with the command's code.
///
/// # Errors
///
/// When the stack does not start, the command can't be run, or the command has failed.
pub async fn run(args: &ExecArgs) -> Result<(), Failure> {
    let mut config: Config = settings::load(args.config.as_deref())?;
    config.any_port();
    config.admin.enabled = true;
    // It listens on loopback, and lives as long as the command; what has passed can be asked for afterwards too.
    config.admin.listen = ([127, 0, 0, 1], 0).into();
    config.admin.token = None;
    config.journal.capture = Capture::Always;
    config.store.path.clone_from(&args.store);
    let salt = config.auth.salt.clone();
    let mut signals = Signals::listen()?;
    let imd = Imd::start(config).await?;
    let addresses = imd.addresses();
    let (program, rest) = match args.command.split_first() {
        Some((program, rest)) => (program, rest),
        None => return Err(Failure::Usage("exec: there is no command".into())),
    };
    let child = Command::new(program)
        .args(rest)
        .env(environment::GATEWAY, &addresses.gateway)
        .env(environment::USER_API, &addresses.user_api)
        .env(environment::GROUP_API, &addresses.group_api)
        .env(environment::ADMIN, addresses.admin.unwrap_or_default())
        .env(environment::SALT, &salt)
        .stdin(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| {
        let program = program.to_string_lossy();
        Failure::Usage(format!("exec: {program}: {error}"))
    })?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            signal = signals.next_kind() => pass_on(&child, signal),
        }
    };
    let status = status.map_err(|error| Failure::Failed(format!("exec: {error}")))?;
    let report = imd.shutdown().await;
    if status.success() {
        return Ok(());
    }
    failure::warn("the command has failed. Its messages:");
    for line in report.lines() {
        failure::warn(&format!("  {line}"));
    }
    Err(Failure::Exit(code(status)))
}

/// What a shell would say of it.
fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            return u8::try_from(128 + signal).unwrap_or(failure::FAILED);
        }
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(failure::FAILED)
}

/// Hands a signal to the command. What a terminal sends at Ctrl-C has reached it already.
#[cfg(unix)]
fn pass_on(child: &tokio::process::Child, signal: nix::sys::signal::Signal) {
    use std::io::IsTerminal;
    if signal == nix::sys::signal::Signal::SIGINT && std::io::stdin().is_terminal() {
        return;
    }
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id {
        // It may have ended just now.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal);
    }
}

/// There the console tells every process itself.
#[cfg(not(unix))]
fn pass_on(_: &tokio::process::Child, (): ()) {}

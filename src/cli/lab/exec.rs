//! Runs `imd exec`: a command beside a private stack, which serves as long as the command runs.
//!
//! The command finds the stack by environment variables. Invariants: the stack takes free ports and its admin API
//! listens on loopback only; the process ends with the exit code of the command.

mod program;
#[cfg_attr(not(unix), path = "exec/elsewhere.rs")]
mod running;

use std::ffi::OsString;

use clap::Args;
use imd::lab::Capture;
use imd::{Config, Imd};

use crate::cli::failure::{self, Failure};
use crate::cli::{environment, launch, settings, stderr};
use running::{Running, Signals};

#[derive(Args)]
pub struct ExecArgs {
    /// The private stack's config, as TOML; its ports are free ones all the same
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Keep everything in this folder [default: in memory, whatever the config says]
    #[arg(long, value_name = "DIR")]
    store: Option<std::path::PathBuf>,
    /// Stop the private stack's clock: it moves only by `imd clock advance` or the admin API
    #[arg(long)]
    manual_clock: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl ExecArgs {
    /// Returns `--store` with its folder, if it was given.
    fn written_store(&self) -> Option<String> {
        let folder = self.store.as_deref()?;
        Some(format!("--store {}", folder.display()))
    }
}

/// Starts a private stack, runs the command beside it, shuts the stack down, and ends with the command's exit code.
///
/// # Errors
///
/// When the stack does not start or the command can't be run. [`Failure::Exit`] when the command has failed.
pub async fn run(args: &ExecArgs) -> Result<(), Failure> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Failure::Usage("exec: there is no command".into()));
    };
    let config = config(args)?;
    program::check(program)?;
    let exec_failure = |error: std::io::Error| Failure::Failed(format!("exec: {error}"));
    // The command is to have the limit and the umask of the caller. The stack raises the one, and the next line
    // restricts the other.
    let files = launch::file_limit();
    let umask = launch::make_files_private();
    let mut signals = Signals::listen().map_err(exec_failure)?;
    let salt = config.auth.salt.clone();
    let started = Imd::start(config).await;
    let imd =
        started.map_err(|error| settings::start_failure(args.written_store(), None, error))?;
    stderr::count_dropped(imd.metrics().lost_logs());
    let addresses = imd.addresses();
    let mut command = launch::command(program, files, umask).map_err(exec_failure)?;
    command
        .args(rest)
        .env(environment::GATEWAY, &addresses.gateway)
        .env(environment::USER_API, &addresses.user_api)
        .env(environment::GROUP_API, &addresses.group_api)
        .env(environment::ADMIN, addresses.admin.unwrap_or_default())
        .env(environment::SALT, &salt);
    if let Some(ca) = imd.ca_certificate() {
        command.env(environment::CA, ca);
    }
    let mut running = Running::start(command).map_err(exec_failure)?;
    let code = running.ended(&mut signals).await.map_err(exec_failure)?;
    let report = tokio::select! {
        biased;
        () = signals.ending() => None,
        report = imd.shutdown() => Some(report),
    };
    if code == 0 {
        return Ok(());
    }
    if let Some(report) = report {
        failure::warn("the command has failed. Its messages:");
        for line in report.lines() {
            failure::warn(&format!("  {line}"));
        }
    }
    Err(Failure::Exit(code))
}

/// Builds the config of the private stack.
fn config(args: &ExecArgs) -> Result<Config, Failure> {
    let mut config: Config = settings::load(args.config.as_deref())?;
    config.any_port();
    config.admin.enabled = true;
    // The admin API listens on loopback and lives as long as the command, so it needs no token. Capturing everything
    // lets the command ask for past events too.
    config.admin.listen = ([127, 0, 0, 1], 0).into();
    config.admin.token = None;
    config.journal.capture = Capture::Always;
    config.store.path.clone_from(&args.store);
    if args.manual_clock {
        config = config.manual_clock();
    }
    Ok(config)
}

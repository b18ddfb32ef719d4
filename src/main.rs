//! Entry point of the `imd` process: parses the arguments, starts the logs, runs the daemon or one command, and turns
//! the result into an exit code.
//!
//! The commands themselves are in [`cli`]; the stack is the library `imd`. Two invariants hold here: nothing waits
//! for stdout or stderr without a limit, and every failure reaches stderr before the process exits with its code.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod cli;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use imd::Imd;
use imd::config::PUBLIC_SALT;
use imd::daemon::runtime;

use cli::addr_file::AddrFile;
use cli::failure::{Failure, USAGE};
use cli::output::StatusLines;
use cli::settings::Settings;
use cli::signals::Signals;
use cli::{
    Cli, Command, DaemonArgs, banner, environment, launch, output, qr_code, settings, stderr,
};

/// Allocator of the process. Messages are allocated on one thread and freed on another. The system allocator on Linux
/// spends a tenth of the time of storing a message on merging free chunks, and uses a third more memory per
/// connection.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Open-file limit that is sufficient for every command. A lower limit is named as the cause when the runtime can't
/// start.
const SUFFICIENT_FILE_LIMIT: u64 = 256;

fn main() -> ExitCode {
    let process_start = Instant::now();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // Printing fails when stderr is closed; the exit code reports the error in any case.
            let _ = error.print();
            return ExitCode::from(USAGE);
        }
        Err(help) => return ExitCode::from(show(&help)),
    };
    let code = match run(cli, process_start) {
        Ok(()) => 0,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    };
    stderr::finish();
    ExitCode::from(code)
}

/// Prints the text that `--help` or `--version` asks for, and returns the exit code.
fn show(help: &clap::Error) -> u8 {
    let printed = help.print().and_then(|()| io::stdout().flush());
    match printed.map_err(output::failed) {
        Ok(()) => 0,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

/// Runs the daemon or the command that the arguments name.
///
/// # Errors
///
/// The error that made the daemon or the command fail. The caller reports it and exits with its code.
fn run(cli: Cli, process_start: Instant) -> Result<(), Failure> {
    // A launched child replaces this process with another program, so it must not have started threads or opened
    // files yet.
    if let Some(Command::Launch(args)) = &cli.command {
        return Err(launch::run(args));
    }
    // This comes first, so that a failed start never leaves the addresses file of an earlier daemon behind.
    let addr_file = match (&cli.command, &cli.daemon.addr_file) {
        (None, Some(path)) => Some(AddrFile::claim(path, cli.daemon.source("addr_file"))?),
        _ => None,
    };
    // Every command refuses a variable with a typing error, also one that would not use it.
    environment::variables()?;
    cli::init_log(cli.log_format)?;
    let runtime = runtime().map_err(no_runtime)?;
    let result = runtime.block_on(async {
        match cli.command {
            None => daemon(&cli.daemon, addr_file, process_start).await,
            Some(command) => {
                cli::trust::read(cli.ca.as_deref())?;
                cli::run(command).await
            }
        }
    });
    // All work that has to be completed was awaited above. After a second signal, the remaining tasks are abandoned.
    runtime.shutdown_background();
    result
}

/// Explains why the async runtime could not be created. It needs a few open files before the stack raises the limit
/// of them, so a low limit is the likely cause.
fn no_runtime(error: io::Error) -> Failure {
    let why = format!("no runtime: {error}");
    match launch::file_limit() {
        Some(limit) if limit < SUFFICIENT_FILE_LIMIT => Failure::Usage(format!(
            "{why}: the open-file limit is {limit}. Raise it: ulimit -n {SUFFICIENT_FILE_LIMIT} or more"
        )),
        _ => Failure::Failed(why),
    }
}

/// Runs the stack until a signal, a failed store or an unwritable addresses file ends it, and shuts it down. A second
/// signal during the shutdown, at least 500 ms after the first, ends the process at once.
///
/// # Errors
///
/// A config that is wrong, a stack that does not start, a store that fails at run time, an addresses file or a stdout
/// that can't be written, and a shutdown that was cut short.
async fn daemon(
    args: &DaemonArgs,
    mut addr_file: Option<AddrFile>,
    process_start: Instant,
) -> Result<(), Failure> {
    launch::make_files_private();
    let Settings { config, sources } = settings::daemon(args)?;
    let public_salt = config.auth.salt == PUBLIC_SALT;
    let mut signals = Signals::listen()?;
    let started = Imd::start(config).await;
    let imd = started.map_err(|error| {
        let store = args.store.as_deref();
        let store = store.map(|folder| format!("{} {}", args.source("store"), folder.display()));
        settings::start_failure(store, Some(&sources), error)
    })?;
    // The text of the config is of no more use.
    drop(sources);
    stderr::count_dropped(imd.metrics().lost_logs());
    if let Some(file) = &mut addr_file {
        file.write(&imd.addresses())?;
    }
    // Stdout is written in the background: the parent process may read only the addresses file, and never stdout.
    let columns = qr_code::columns_of_stdout();
    let banner = banner::banner(&imd, public_salt, columns, process_start.elapsed());
    let status_lines = StatusLines::begin(banner);

    let failed = tokio::select! {
        biased;
        () = signals.next() => None,
        failed = imd.failed() => Some(Failure::Store(failed)),
        failed = unwritten(&mut addr_file) => Some(failed),
    };
    match &failed {
        None => tracing::info!("stopping"),
        // Logged before the shutdown, because sessions may take the whole grace period to end.
        Some(error) => tracing::error!(%error, "stopping"),
    }
    // Removes the addresses file, so that no new client finds the stack while it shuts down.
    drop(addr_file);
    let report = tokio::select! {
        biased;
        () = signals.next() => {
            return Err(Failure::Failed("stopped at once, by a second signal".into()));
        }
        report = imd.shutdown() => report,
    };
    let status_lines = status_lines.end(format!("Stopped.  {report}")).await;
    match failed {
        None => status_lines,
        Some(failed) => Err(failed),
    }
}

/// Resolves when the addresses file could not be written. Never resolves when there is no such file.
async fn unwritten(file: &mut Option<AddrFile>) -> Failure {
    match file {
        Some(file) => file.failed().await,
        None => std::future::pending().await,
    }
}

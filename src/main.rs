//! The process: arguments, config, logs, start, signals, shutdown, exit code.
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
use cli::output::Said;
use cli::signals::Signals;
use cli::{Cli, Command, DaemonArgs, banner, launch, output, settings, stderr};

/// The messages of all sessions come and go on all threads. The system's allocator on Linux spends a tenth of the time of
/// a store's message on putting free pieces together again, and gives a connection a third more memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An open-file limit with which every command works.
const FILES: u64 = 256;

fn main() -> ExitCode {
    let begun = Instant::now();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // Nobody may be reading it; the code says it too.
            let _ = error.print();
            return ExitCode::from(USAGE);
        }
        Err(help) => return ExitCode::from(show(&help)),
    };
    let code = match run(cli, begun) {
        Ok(()) => 0,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    };
    stderr::finish();
    ExitCode::from(code)
}

/// Prints what was asked for by --help or --version, as every command prints.
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

fn run(cli: Cli, begun: Instant) -> Result<(), Failure> {
    // Before there are threads and open files that the program would have to do with.
    if let Some(Command::Launch(args)) = &cli.command {
        return Err(launch::run(args));
    }
    // Before anything can fail: no file of an earlier daemon is left.
    let addr_file = match (&cli.command, &cli.daemon.addr_file) {
        (None, Some(path)) => Some(AddrFile::claim(path)?),
        _ => None,
    };
    cli::init_log(cli.log_format)?;
    let runtime = runtime().map_err(no_runtime)?;
    let result = runtime.block_on(async {
        match cli.command {
            None => daemon(&cli.daemon, addr_file, begun).await,
            Some(command) => cli::run(command).await,
        }
    });
    // What must end has been awaited; after a second signal nothing is waited for.
    runtime.shutdown_background();
    result
}

/// The runtime needs a few open files, and is made before the limit of them is raised.
fn no_runtime(error: io::Error) -> Failure {
    let why = format!("no runtime: {error}");
    match launch::file_limit() {
        Some(limit) if limit < FILES => Failure::Usage(format!(
            "{why}: the open-file limit is {limit}. Raise it: ulimit -n {FILES} or more"
        )),
        _ => Failure::Failed(why),
    }
}

async fn daemon(
    args: &DaemonArgs,
    mut addr_file: Option<AddrFile>,
    begun: Instant,
) -> Result<(), Failure> {
    launch::make_files_private();
    let config = settings::daemon(args)?;
    let public_salt = config.auth.salt == PUBLIC_SALT;
    let mut signals = Signals::listen()?;
    let started = Imd::start(config).await;
    let imd = started
        .map_err(|error| settings::blame(args.store.as_deref(), args.config.as_deref(), error))?;
    stderr::count_dropped(imd.metrics().lost_logs());
    if let Some(file) = &mut addr_file {
        file.write(&imd.addresses())?;
    }
    // Whoever started it may look at the addresses file alone.
    let said = Said::begin(banner::banner(&imd, public_salt, begun.elapsed()));

    let failed = tokio::select! {
        biased;
        () = signals.next() => None,
        failed = imd.failed() => Some(Failure::Store(failed)),
        failed = unwritten(&mut addr_file) => Some(failed),
    };
    match &failed {
        None => tracing::info!("stopping"),
        // Said at once: the sessions have the grace period to end.
        Some(error) => tracing::error!(%error, "stopping"),
    }
    // Nobody new should come.
    drop(addr_file);
    let report = tokio::select! {
        biased;
        () = signals.next() => {
            return Err(Failure::Failed("stopped at once, by a second signal".into()));
        }
        report = imd.shutdown() => report,
    };
    let said = said.end(format!("Stopped.  {report}")).await;
    match failed {
        None => said,
        Some(failed) => Err(failed),
    }
}

/// Resolves when a file could not be written.
async fn unwritten(file: &mut Option<AddrFile>) -> Failure {
    match file {
        Some(file) => file.failed().await,
        None => std::future::pending().await,
    }
}

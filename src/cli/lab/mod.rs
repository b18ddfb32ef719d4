//! Runs the commands that control and inspect a running stack.
//!
//! Serves the dispatch of commands. Each command is a client of the admin API, whose address and token are given by the
//! flags of [`AdminArgs`].

mod args;
mod call;
mod demo;
mod exec;
mod lists;
mod replace;
mod tail;

pub use args::{
    AccessCommand, AdminArgs, ClockCommand, DemoArgs, FaultCommand, InboxesArgs, ReadyArgs,
    ResetArgs, SnapshotCommand, TailArgs, WaitArgs,
};
pub use call::Admin;
pub use demo::run as demo;
pub use exec::{ExecArgs, run as exec};
pub use lists::{groups, inboxes, mark, sessions, users, wait};

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use args::FaultArgs;

/// Pause between two attempts of `imd ready --wait`.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Runs `imd access`.
///
/// # Errors
///
/// The errors of [`Admin::call`], for example because there is no such access server.
pub async fn access(command: &AccessCommand) -> Result<(), Failure> {
    let (what, name, args) = match command {
        AccessCommand::Ls { admin } => return lists::access(admin).await,
        AccessCommand::Kill { name, admin } => ("kill", name, admin),
        AccessCommand::Stop { name, admin } => ("stop", name, admin),
        AccessCommand::Pause { name, admin } => ("pause", name, admin),
        AccessCommand::Resume { name, admin } => ("resume", name, admin),
        AccessCommand::Restart { name, admin } => ("restart", name, admin),
        AccessCommand::Add { name, admin } => {
            let body = json!({ "name": name });
            let added = Admin::find(admin)?.post("/v1/access", &body).await?;
            return output::json(&added);
        }
    };
    let path = format!("/v1/access/{}/{what}", call::segment(name));
    output::json(&Admin::find(args)?.post(&path, &json!({})).await?)
}

/// Runs `imd fault`.
///
/// # Errors
///
/// The errors of [`Admin::call`], and [`Failure::Usage`] when the flags describe no valid fault.
pub async fn fault(command: &FaultCommand) -> Result<(), Failure> {
    match command {
        FaultCommand::Add(args) => {
            let FaultArgs { fault, admin } = &**args;
            let body = fault.request_body()?;
            let added = Admin::find(admin)?.post("/v1/faults", &body).await?;
            output::json(&added)
        }
        FaultCommand::Ls { admin } => lists::faults(admin).await,
        FaultCommand::Rm { name, admin, .. } => {
            // The flags allow a missing name only with `--all`.
            let path = match name {
                Some(name) => format!("/v1/faults/{}", call::segment(name)),
                None => "/v1/faults".to_owned(),
            };
            Admin::find(admin)?
                .call(Method::DELETE, &path, None)
                .await
                .map(drop)
        }
    }
}

/// Runs `imd clock`.
///
/// # Errors
///
/// The errors of [`Admin::call`], for example because the clock is not a manual one.
pub async fn clock(command: &ClockCommand) -> Result<(), Failure> {
    let answer = match command {
        ClockCommand::Advance { by, admin } => {
            let by = humantime::format_duration(*by).to_string();
            let body = json!({ "by": by });
            Admin::find(admin)?.post("/v1/clock/advance", &body).await?
        }
        ClockCommand::Skew { ms, admin } => {
            let body = json!({ "ms": ms });
            Admin::find(admin)?.post("/v1/clock/skew", &body).await?
        }
        ClockCommand::Show { admin } => Admin::find(admin)?.get("/v1/clock").await?,
    };
    output::json(&answer)
}

/// Runs `imd reset`.
///
/// # Errors
///
/// The errors of [`Admin::call`], and a loss of data that the user did not confirm.
pub async fn reset(args: &ResetArgs) -> Result<(), Failure> {
    replace::reset(args).await
}

/// Runs `imd snapshot`.
///
/// # Errors
///
/// The errors of [`Admin::snapshot`], a file that can't be read or written, and a loss of data that the user did not
/// confirm.
pub async fn snapshot(command: &SnapshotCommand) -> Result<(), Failure> {
    replace::snapshot(command).await
}

/// Runs `imd state`.
///
/// # Errors
///
/// The errors of [`Admin::get`].
pub async fn state(args: &AdminArgs) -> Result<(), Failure> {
    let state: Value = Admin::find(args)?.get("/v1/state").await?;
    output::json_pretty(&state)
}

/// Runs `imd ready`.
///
/// # Errors
///
/// [`Failure::Failed`] when the stack is not ready or, with `--wait`, does not become ready in time.
pub async fn ready(args: &ReadyArgs) -> Result<(), Failure> {
    match args.wait {
        None => is_ready(&args.admin).await,
        Some(time) => wait_until_ready(&args.admin, time).await,
    }
}

/// Asks once whether the stack is ready.
async fn is_ready(args: &AdminArgs) -> Result<(), Failure> {
    let (admin, path) = (Admin::find(args)?, "/readyz");
    match admin.get(path).await?.get("status") {
        Some(status) if status == "ready" => Ok(()),
        _ => Err(admin.wrong_server(path).await),
    }
}

/// Asks until the stack is ready or the time is over. A wrong flag ends it at once.
async fn wait_until_ready(args: &AdminArgs, time: Duration) -> Result<(), Failure> {
    let mut last = Failure::Failed("no answer".into());
    let ready = async {
        loop {
            // The daemon writes the addresses file when it begins to serve, so a missing file is not an error yet.
            let is_started = args.addr_file.as_ref().is_none_or(|file| file.exists());
            match is_ready(args).await {
                Ok(()) => return Ok(()),
                Err(Failure::Usage(_)) if !is_started => {
                    last = Failure::Failed("the addresses file is not there".into());
                }
                Err(wrong @ (Failure::Usage(_) | Failure::Config(_))) => return Err(wrong),
                Err(failure) => last = failure,
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    };
    let ready = tokio::time::timeout(time, ready).await;
    ready.unwrap_or_else(|_| {
        let time = humantime::format_duration(time);
        Err(Failure::Failed(format!("not ready within {time}: {last}")))
    })
}

/// Runs `imd tail`.
///
/// # Errors
///
/// The errors of [`Admin::events`], and [`Failure::Failed`] when the stack ends.
pub async fn tail(args: &TailArgs) -> Result<(), Failure> {
    tail::run(args).await
}

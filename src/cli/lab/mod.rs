//! The commands that control and inspect a running stack: each is a client of its admin API.

mod args;
mod call;
mod exec;
mod lists;
mod replace;
mod tail;

pub use args::{
    AccessCommand, AdminArgs, ClockCommand, FaultCommand, InboxesArgs, ReadyArgs, ResetArgs,
    SnapshotCommand, TailArgs, WaitArgs,
};
pub use call::Admin;
pub use exec::{ExecArgs, run as exec};
pub use lists::{groups, inboxes, mark, sessions, users, wait};

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use args::FaultArgs;

/// The pause between two attempts of `imd ready --wait`.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Runs `imd access`.
///
/// # Errors
///
/// When the admin API can't be reached, or refuses.
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
/// When the admin API can't be reached, or refuses.
pub async fn fault(command: &FaultCommand) -> Result<(), Failure> {
    match command {
        FaultCommand::Add(args) => {
            let FaultArgs { fault, admin } = &**args;
            let form = fault.form()?;
            let added = Admin::find(admin)?.post("/v1/faults", &form).await?;
            output::json(&added)
        }
        FaultCommand::Ls { admin } => {
            let listed = Admin::find(admin)?.get("/v1/faults").await?;
            let listed = listed.as_array().into_iter().flatten();
            listed.into_iter().try_for_each(output::json)
        }
        FaultCommand::Rm { name, admin, .. } => {
            // The flags allow no name only with --all.
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
/// When the admin API can't be reached, or refuses.
pub async fn clock(command: &ClockCommand) -> Result<(), Failure> {
    let told = match command {
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
    output::json(&told)
}

/// Runs `imd reset`.
///
/// # Errors
///
/// When the admin API can't be reached or refuses, and when the loss of data was not confirmed.
pub async fn reset(args: &ResetArgs) -> Result<(), Failure> {
    replace::reset(args).await
}

/// Runs `imd snapshot`.
///
/// # Errors
///
/// When the admin API can't be reached or refuses, when the file can't be used, and when the loss of data was not confirmed.
pub async fn snapshot(command: &SnapshotCommand) -> Result<(), Failure> {
    replace::snapshot(command).await
}

/// Runs `imd state`.
///
/// # Errors
///
/// When the admin API can't be reached, or refuses.
pub async fn state(args: &AdminArgs) -> Result<(), Failure> {
    let state: Value = Admin::find(args)?.get("/v1/state").await?;
    output::json_pretty(&state)
}

/// Runs `imd ready`.
///
/// # Errors
///
/// When the stack is not ready, or not in time.
pub async fn ready(args: &ReadyArgs) -> Result<(), Failure> {
    match args.wait {
        None => is_ready(&args.admin).await,
        Some(time) => wait_until_ready(&args.admin, time).await,
    }
}

async fn is_ready(args: &AdminArgs) -> Result<(), Failure> {
    let (admin, path) = (Admin::find(args)?, "/readyz");
    match admin.get(path).await?.get("status") {
        Some(status) if status == "ready" => Ok(()),
        _ => Err(admin.wrong_server(path).await),
    }
}

async fn wait_until_ready(args: &AdminArgs, time: Duration) -> Result<(), Failure> {
    let mut last = Failure::Failed("no answer".into());
    let ready = async {
        loop {
            // The daemon writes the addresses file when it begins to serve.
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
/// When the admin API can't be reached, or refuses.
pub async fn tail(args: &TailArgs) -> Result<(), Failure> {
    tail::run(args).await
}

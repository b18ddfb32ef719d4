//! Runs `imd reset` and `imd snapshot`: empties a running stack, saves it to a file, or fills it from one.
//!
//! Serves the commands of [`lab`](super). Data that a folder keeps is lost only after the user has confirmed it.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use hyper::Method;
use hyper::body::Bytes;
use imd::file_target::FileTarget;
use imd::store::{FileError, LoadError, Snapshot};
use serde_json::{Value, json};

use super::args::{ResetArgs, SnapshotCommand};
use super::call::Admin;
use crate::cli::escape::escape;
use crate::cli::existing;
use crate::cli::failure::Failure;

/// Runs `imd reset`.
///
/// # Errors
///
/// The errors of [`Admin::call`], and a loss of data that the user did not confirm.
pub async fn reset(args: &ResetArgs) -> Result<(), Failure> {
    let admin = Admin::find(&args.admin)?;
    let confirm = confirmed(&admin, args.yes).await?;
    let body = json!({ "confirm": confirm });
    admin.post("/v1/reset", &body).await.map(drop)
}

/// Runs `imd snapshot`.
///
/// # Errors
///
/// The errors of [`Admin::snapshot`], a file that can't be read or written, and a loss of data that the user did not
/// confirm.
pub async fn snapshot(command: &SnapshotCommand) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Save { file, force, admin } => {
            existing::check("", file, *force)?;
            save(file, &Admin::find(admin)?).await
        }
        SnapshotCommand::Load { file, yes, admin } => load(file, *yes, &Admin::find(admin)?).await,
    }
}

/// Writes a snapshot of the stack to a file.
async fn save(file: &Path, admin: &Admin) -> Result<(), Failure> {
    // This reports a file that can't be written before the stack makes a snapshot.
    FileTarget::at(file).map_err(|error| Failure::of_target("", error))?;
    let path = "/v1/snapshot";
    let bytes = admin.snapshot(Method::GET, path, Bytes::new()).await?;
    if !bytes.starts_with(b"{") {
        return Err(admin.wrong_server(path).await);
    }
    // Reading the snapshot detects one that was cut off during the transfer.
    let snapshot = Snapshot::read(&bytes).map_err(|error: LoadError| {
        Failure::Failed(format!("what came is no whole snapshot: {error}"))
    })?;
    snapshot.save(file).map_err(file_failure)
}

/// Replaces the contents of the stack by a snapshot from a file.
async fn load(file: &Path, yes: bool, admin: &Admin) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let snapshot = Snapshot::open(file).map_err(file_failure)?;
    let written = snapshot.write(&mut bytes);
    written.map_err(|error| Failure::Failed(error.to_string()))?;
    let confirm = confirmed(admin, yes).await?;
    let path = format!("/v1/snapshot?confirm={confirm}");
    let loaded = admin.snapshot(Method::PUT, &path, bytes.into()).await;
    loaded.map(drop)
}

/// Returns the failure for a snapshot file that can't be used.
fn file_failure(error: FileError) -> Failure {
    match error {
        FileError::Io { path, source } => Failure::of_file("", &path, &source),
        FileError::Damaged { .. } | FileError::TooLarge(_) | FileError::Unfit { .. } => {
            Failure::Usage(error.to_string())
        }
    }
}

/// Returns whether the user has confirmed that kept data is lost: by a flag, or by an answer on the terminal. A store
/// in memory keeps nothing, so it needs no confirmation.
async fn confirmed(admin: &Admin, yes: bool) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    let state = admin.get("/v1/state").await?;
    if state.get("durable") != Some(&Value::Bool(true)) {
        return Ok(false);
    }
    let store = state.get("store").and_then(Value::as_str).unwrap_or("?");
    let question = format!("All that is kept in {store} will be gone for good");
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{question}: give --yes if that is meant"
        )));
    }
    let mut answer = String::new();
    let question = escape(&question);
    let asked = write!(io::stderr(), "{question}. Go on? [y/N] ")
        .and_then(|()| io::stdin().read_line(&mut answer));
    asked.map_err(|error| Failure::Failed(format!("the terminal: {error}")))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(true),
        _ => Err(Failure::Failed("nothing was changed".into())),
    }
}

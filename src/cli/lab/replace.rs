//! `imd reset` and `imd snapshot`: a running stack is emptied, saved to a file, or filled from one.

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
pub async fn reset(args: &ResetArgs) -> Result<(), Failure> {
    let admin = Admin::find(&args.admin)?;
    let confirm = confirmed(&admin, args.yes).await?;
    let body = json!({ "confirm": confirm });
    admin.post("/v1/reset", &body).await.map(drop)
}

/// Runs `imd snapshot`.
pub async fn snapshot(command: &SnapshotCommand) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Save { file, force, admin } => {
            existing::check("", file, *force)?;
            save(file, &Admin::find(admin)?).await
        }
        SnapshotCommand::Load { file, yes, admin } => load(file, *yes, &Admin::find(admin)?).await,
    }
}

async fn save(file: &Path, admin: &Admin) -> Result<(), Failure> {
    // A file that can't be written is told before the stack makes a snapshot.
    FileTarget::at(file).map_err(|error| Failure::of_target("", error))?;
    let path = "/v1/snapshot";
    let bytes = admin.snapshot(Method::GET, path, Bytes::new()).await?;
    if !bytes.starts_with(b"{") {
        return Err(admin.wrong_server(path).await);
    }
    // Reading it finds a snapshot that was cut off on its way.
    let snapshot = Snapshot::read(&bytes).map_err(|error: LoadError| {
        Failure::Failed(format!("what came is no whole snapshot: {error}"))
    })?;
    snapshot.save(file).map_err(failed)
}

async fn load(file: &Path, yes: bool, admin: &Admin) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let snapshot = Snapshot::open(file).map_err(failed)?;
    let written = snapshot.write(&mut bytes);
    written.map_err(|error| Failure::Failed(error.to_string()))?;
    let confirm = confirmed(admin, yes).await?;
    let path = format!("/v1/snapshot?confirm={confirm}");
    let loaded = admin.snapshot(Method::PUT, &path, bytes.into()).await;
    loaded.map(drop)
}

fn failed(error: FileError) -> Failure {
    match error {
        FileError::Io { path, source } => Failure::of_file("", &path, &source),
        FileError::Damaged { .. } | FileError::TooLarge(_) | FileError::Unfit { .. } => {
            Failure::Usage(error.to_string())
        }
    }
}

/// Returns whether the user confirms that the kept data is lost: by a flag, or by an answer on the terminal. A store in
/// memory keeps nothing, and needs no confirmation.
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

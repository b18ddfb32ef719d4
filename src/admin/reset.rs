//! Emptying the stack, and filling it again.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Parts;
use super::answer::{Body, Json, Pieces, Problem, STREAMED, query};
use crate::http::pass_body;
use crate::reset::{Confirmed, ResetError};
use crate::store::{SNAPSHOT_LIMIT, SaveError, Snapshot};

/// Whether what the store keeps may go.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Confirm {
    confirm: bool,
}

impl From<Confirm> for Confirmed {
    fn from(Confirm { confirm }: Confirm) -> Self {
        if confirm {
            Confirmed::Yes
        } else {
            Confirmed::No
        }
    }
}

/// Makes the stack as new.
pub async fn reset(
    State(parts): State<Arc<Parts>>,
    Body(confirm): Body<Confirm>,
) -> Result<Json<Value>, Problem> {
    let reset = Arc::clone(&parts.reset);
    let done = to_its_end(&parts, async move { reset.reset(confirm.into()).await }).await?;
    done.map_err(|error| refused(error, r#"send {"confirm": true}"#))?;
    Ok(Json(json!({})))
}

/// Everything that the store holds, as a file.
pub async fn save(State(parts): State<Arc<Parts>>) -> Result<impl IntoResponse, Problem> {
    let snapshot = parts.services.snapshot().await;
    let snapshot = snapshot.map_err(|error| match error {
        SaveError::TooLarge { .. } => Problem::conflict(error),
        SaveError::Store(failed) => failed.into(),
    })?;
    // It takes its time.
    let file = tokio::task::spawn_blocking(move || {
        let mut file = Vec::new();
        snapshot.write(&mut file).map(|()| file)
    });
    let file = file
        .await
        .map_err(Problem::broken)?
        .map_err(Problem::broken)?;
    if file.len() > SNAPSHOT_LIMIT {
        let limit = SNAPSHOT_LIMIT;
        return Err(Problem::conflict(SaveError::TooLarge { limit }));
    }
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((STREAMED, kind, file))
}

/// Replaces everything that the store holds.
pub async fn load(
    State(parts): State<Arc<Parts>>,
    confirm: Result<Query<Confirm>, QueryRejection>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let confirm = query(confirm)?;
    // Each may be large.
    let Ok(_loading) = parts.reset.loading.try_lock() else {
        return Err(Problem::conflict("another snapshot is being loaded"));
    };
    let (pieces, file) = Pieces::channel();
    // The thread ends with the body, also where this request is given up: then the pieces end.
    let read = tokio::task::spawn_blocking(move || Snapshot::read_from(file));
    pass_body(request.into_body(), SNAPSHOT_LIMIT, pieces).await?;
    let snapshot = read.await.map_err(Problem::broken)?.map_err(Problem::bad)?;
    let reset = Arc::clone(&parts.reset);
    let load = async move { reset.load(snapshot, confirm.into()).await };
    let done = to_its_end(&parts, load).await?;
    done.map_err(|error| refused(error, "ask with ?confirm=true"))?;
    Ok(Json(json!({})))
}

/// Does it also when who has asked goes away: half of it would be neither the one nor the other.
async fn to_its_end<T: Send + 'static>(
    parts: &Parts,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let (answer, answered) = oneshot::channel();
    // Who has asked may have gone.
    let work = async { drop(answer.send(work.await)) };
    parts.ending.spawn(work);
    answered.await.map_err(Problem::broken)
}

/// Why it was not done; `how` it is confirmed.
fn refused(error: ResetError, how: &str) -> Problem {
    match error {
        ResetError::NotConfirmed { .. } => Problem::conflict(format!("{error}: {how}")),
        ResetError::Busy { .. } => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        _ => Problem::conflict(error),
    }
}

//! The handlers that empty the stack, and that save and load snapshots of what the store holds.
//!
//! Serves `routes`. Resets and loads are done by the module [`reset`](crate::reset), and a snapshot is made by
//! [`Core::snapshot`](crate::core::Core::snapshot); here are the confirmation, and the bounds on the
//! memory that snapshots take. A reset that has begun is finished even if its client disconnects.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Deps;
use super::answer::{ChunkReader, Json, JsonBody, Problem, QueryParams, STREAMED};
use crate::http::pass_body;
use crate::reset::{Confirmed, ResetError};
use crate::store::{SNAPSHOT_LIMIT, SaveError, Snapshot};

/// The confirmation that a store which keeps its data across restarts may lose it: in the body of a reset, and in the
/// query of a load.
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

/// Limits the memory of the snapshots that clients download.
///
/// Each file stays in memory until its client has read it. All files together may take as much memory as the largest
/// possible file. Snapshots are made one after another, because each is in memory while it is made.
#[derive(Debug, Clone)]
pub struct Downloads {
    /// One permit: it is held while a snapshot is made.
    making: Arc<Semaphore>,
    /// The free memory: one permit for each byte.
    memory: Arc<Semaphore>,
}

impl Default for Downloads {
    fn default() -> Self {
        Downloads {
            making: Arc::new(Semaphore::new(1)),
            memory: Arc::new(Semaphore::new(SNAPSHOT_LIMIT)),
        }
    }
}

impl Downloads {
    /// Reserves the memory of a file. It is free again when the last of the returned bytes is dropped.
    ///
    /// # Errors
    ///
    /// 503 if the other downloads leave too little memory.
    fn hold(&self, file: Vec<u8>) -> Result<Bytes, Problem> {
        let bytes = u32::try_from(file.len()).map_err(Problem::broken)?;
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(bytes);
        let _memory = memory.map_err(|_| {
            let held = SNAPSHOT_LIMIT.saturating_sub(self.memory.available_permits());
            let why = format!(
                "clients are still reading {held} bytes of other snapshots, and with this one it would be more than \
                 {SNAPSHOT_LIMIT}: ask again when they are done"
            );
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
        })?;
        Ok(Bytes::from_owner(HeldFile { file, _memory }))
    }
}

/// A file that is being sent, with the memory that is reserved for it.
struct HeldFile {
    file: Vec<u8>,
    _memory: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for HeldFile {
    fn as_ref(&self) -> &[u8] {
        &self.file
    }
}

/// Empties the stack, as if it had just started with an empty store.
///
/// # Errors
///
/// 409 if a store in a folder would lose its contents and the request does not confirm that, or if the reset has failed; 503
/// if the sessions did not end in time.
pub async fn reset(
    State(deps): State<Arc<Deps>>,
    JsonBody(confirm): JsonBody<Confirm>,
) -> Result<Json<Value>, Problem> {
    let reset = Arc::clone(&deps.reset);
    let done = run_to_completion(&deps, async move { reset.reset(confirm.into()).await }).await?;
    done.map_err(|error| refused(error, r#"send {"confirm": true}"#))?;
    Ok(Json(json!({})))
}

/// Answers a snapshot of everything that the store holds.
///
/// # Errors
///
/// 409 if the contents are too large for a snapshot, 503 if other downloads take the memory, and 500 if the store has failed.
pub async fn save(State(deps): State<Arc<Deps>>) -> Result<impl IntoResponse, Problem> {
    let downloads = &deps.downloads;
    let permit = Arc::clone(&downloads.making).acquire_owned().await;
    let permit = permit.map_err(Problem::broken)?;
    let snapshot = deps.core.snapshot().await;
    let snapshot = snapshot.map_err(|error| match error {
        SaveError::TooLarge { .. } => Problem::conflict(error),
        SaveError::Store(failed) => failed.into(),
    })?;
    // A large snapshot takes seconds to write, which would block the other tasks of a runtime thread.
    let file = tokio::task::spawn_blocking(move || {
        let mut file = Vec::new();
        let written = snapshot.write(&mut file);
        file.shrink_to_fit();
        // The permit is passed through, because this thread goes on when its request is cancelled: the next snapshot must
        // not be made beside it.
        written.map(|()| (file, permit))
    });
    let (file, _permit) = file
        .await
        .map_err(Problem::broken)?
        .map_err(Problem::broken)?;
    if file.len() > SNAPSHOT_LIMIT {
        let limit = SNAPSHOT_LIMIT;
        return Err(Problem::conflict(SaveError::TooLarge { limit }));
    }
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((STREAMED, kind, Body::from(downloads.hold(file)?)))
}

/// Replaces everything that the store holds by the snapshot in the body of the request.
///
/// # Errors
///
/// 400 if the body is no snapshot, the status of [`BodyError`](crate::http::BodyError) if it was not read to its end, 409 if
/// another snapshot is being loaded, and the errors of [`reset`]. The store is as it was then, unless it has failed.
pub async fn load(
    State(deps): State<Arc<Deps>>,
    QueryParams(confirm): QueryParams<Confirm>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    // A snapshot may be large, so only one is in memory at a time.
    let Ok(_loading) = deps.reset.loading.try_lock() else {
        return Err(Problem::conflict("another snapshot is being loaded"));
    };
    let (chunks, file) = ChunkReader::channel();
    // The thread ends with the body. It ends too when this request is cancelled, because that drops the sender.
    let read = tokio::task::spawn_blocking(move || Snapshot::read_from(file));
    pass_body(request.into_body(), SNAPSHOT_LIMIT, chunks).await?;
    let snapshot = read.await.map_err(Problem::broken)?.map_err(Problem::bad)?;
    let reset = Arc::clone(&deps.reset);
    let load = async move { reset.load(snapshot, confirm.into()).await };
    let done = run_to_completion(&deps, load).await?;
    done.map_err(|error| refused(error, "ask with ?confirm=true"))?;
    Ok(Json(json!({})))
}

/// Runs work to its end even if the client disconnects, because half a reset would leave the stack neither old nor new.
async fn run_to_completion<T: Send + 'static>(
    deps: &Deps,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let (answer, answered) = oneshot::channel();
    // If the client has disconnected, the result can't be sent, which is no error.
    let work = async { drop(answer.send(work.await)) };
    deps.tasks.spawn(work);
    answered.await.map_err(Problem::broken)
}

/// Returns the answer to a reset or a load that failed; `how` says how the client confirms it.
fn refused(error: ResetError, how: &str) -> Problem {
    match error {
        ResetError::NotConfirmed { .. } => Problem::conflict(format!("{error}: {how}")),
        ResetError::Busy { .. } => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        _ => Problem::conflict(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_take_no_more_memory_together_than_the_limit() {
        let downloads = Downloads {
            memory: Arc::new(Semaphore::new(10)),
            ..Downloads::default()
        };
        let first = downloads.hold(vec![1; 6]).unwrap();
        let second = downloads.hold(vec![2; 4]).unwrap();
        let refused = downloads.hold(vec![3; 1]).unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        // A part of the first file is still to be sent, and keeps its memory reserved.
        let part = first.slice(3..);
        drop(first);
        downloads.hold(vec![3; 1]).unwrap_err();
        drop(part);
        let third = downloads.hold(vec![3; 6]).unwrap();
        assert_eq!((&*second, &*third), (&[2; 4][..], &[3; 6][..]));
    }
}

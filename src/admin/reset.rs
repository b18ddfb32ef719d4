//! Emptying the stack, and filling it again.

use std::sync::Arc;

use axum::body::{Body as AnswerBody, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

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

/// Bounds the memory of the snapshots that are given out.
///
/// Each file stays in memory until its client has read it, so all files together may take as much as one file may. The
/// snapshots are made one after another, because one in the making is in memory too.
#[derive(Debug, Clone)]
pub struct Saves {
    making: Arc<Semaphore>,
    /// One permit stands for one byte of a file.
    room: Arc<Semaphore>,
}

impl Default for Saves {
    fn default() -> Self {
        Saves {
            making: Arc::new(Semaphore::new(1)),
            room: Arc::new(Semaphore::new(SNAPSHOT_LIMIT)),
        }
    }
}

impl Saves {
    /// Takes the room of a file. It is given back when the last of the bytes is dropped.
    fn hold(&self, file: Vec<u8>) -> Result<Bytes, Problem> {
        let bytes = u32::try_from(file.len()).map_err(Problem::broken)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let _room = room.map_err(|_| {
            let held = SNAPSHOT_LIMIT.saturating_sub(self.room.available_permits());
            let why = format!(
                "clients are still reading {held} bytes of other snapshots, and with this one it would be more than \
                 {SNAPSHOT_LIMIT}: ask again when they are done"
            );
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
        })?;
        Ok(Bytes::from_owner(Given { file, _room }))
    }
}

/// A file that is being sent.
struct Given {
    file: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Given {
    fn as_ref(&self) -> &[u8] {
        &self.file
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
    let saves = &parts.saves;
    let making = Arc::clone(&saves.making).acquire_owned().await;
    let making = making.map_err(Problem::broken)?;
    let snapshot = parts.core.services.snapshot().await;
    let snapshot = snapshot.map_err(|error| match error {
        SaveError::TooLarge { .. } => Problem::conflict(error),
        SaveError::Store(failed) => failed.into(),
    })?;
    // It takes its time.
    let file = tokio::task::spawn_blocking(move || {
        let mut file = Vec::new();
        let written = snapshot.write(&mut file);
        file.shrink_to_fit();
        // Here, so that a request which is given up does not let the next one begin before the end of this work.
        written.map(|()| (file, making))
    });
    let (file, _making) = file
        .await
        .map_err(Problem::broken)?
        .map_err(Problem::broken)?;
    if file.len() > SNAPSHOT_LIMIT {
        let limit = SNAPSHOT_LIMIT;
        return Err(Problem::conflict(SaveError::TooLarge { limit }));
    }
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((STREAMED, kind, AnswerBody::from(saves.hold(file)?)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_being_read_have_room_for_one_of_the_largest() {
        let saves = Saves {
            room: Arc::new(Semaphore::new(10)),
            ..Saves::default()
        };
        let first = saves.hold(vec![1; 6]).unwrap();
        let second = saves.hold(vec![2; 4]).unwrap();
        let refused = saves.hold(vec![3; 1]).unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        // A part of it is sent already: the memory is still there.
        let part = first.slice(3..);
        drop(first);
        saves.hold(vec![3; 1]).unwrap_err();
        drop(part);
        let third = saves.hold(vec![3; 6]).unwrap();
        assert_eq!((&*second, &*third), (&[2; 4][..], &[3; 6][..]));
    }
}

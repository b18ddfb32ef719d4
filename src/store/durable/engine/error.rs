//! Why the engine could not answer.
//!
//! Serves all modules that read records. Callers of the store get it as a [`StoreError`](crate::store::StoreError).

use super::super::record::Damaged;
use crate::id::{Uid, Version};

/// Why the engine could not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine could not read or write its files.
    #[error("{}", in_words(.0))]
    Engine(#[from] fjall::Error),
    /// A record is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// An entry of an inbox is missing, although later ones exist.
    #[error("the inbox of {uid} lacks version {version}")]
    Missing {
        /// The user to whom the inbox belongs.
        uid: Uid,
        /// The version of the missing entry.
        version: Version,
    },
    /// An entry refers to a shared message, and none has this number.
    #[error("the shared message {0} is missing")]
    NoSharedMessage(u64),
}

/// Returns the text of an error of the engine. Where the engine's own text is meant for its developers, another one
/// takes its place.
pub fn in_words(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            error.to_string()
        }
        fjall::Error::Poisoned => "the engine has given up, after an error of the disk".into(),
        fjall::Error::Storage(error) => format!("the engine's files are damaged ({error:?})"),
        error => error.to_string(),
    }
}

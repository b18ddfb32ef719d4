//! Why a store gives no answer.
//!
//! Serves every implementation of a store, and the services, which turn these errors into codes for clients. A write
//! that is refused on its own grounds is a [`Rejected`](super::Rejected). A [`StoreError`] concerns the store as a
//! whole: if the commit of a batch ends with one, nobody knows whether the batch is stored. One error is cloned for
//! every task that waits for the same commit, so a cause that can't be cloned is shared by an [`Arc`].

use std::error::Error;
use std::io;
use std::sync::Arc;

use tokio::task::JoinError;

#[cfg(feature = "durable")]
use super::OpenError;
use crate::id::{Uid, Version};
use crate::proto::Code;

/// Why a store gave no answer to a write or a question.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store is closed, or is being closed.
    #[error("the store has failed: it is closed")]
    Closed,
    /// The disk is full, and the engine could not be opened again yet. The store works again once there is space.
    #[error("the store has failed: its disk is full, and its engine is not open")]
    EngineNotReopened,
    /// The contents were replaced while a batch was stored, so that only a part of it would have been left.
    #[error("the store has failed: everything was replaced meanwhile")]
    Replaced,
    /// A record that the answer depends on is damaged or missing.
    #[error("the store has failed: {0}")]
    Damaged(#[source] Damage),
    /// The system could not read or write a file.
    #[error("the store has failed: {}{source}", prefix(*step))]
    Io {
        /// The step that has failed, for people; none for a read.
        step: Option<&'static str>,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// The engine could not read or write for a reason of its own.
    #[error("the store has failed: {}{source}", prefix(*step))]
    Engine {
        /// The step that has failed, for people; none for a read.
        step: Option<&'static str>,
        /// The error of the engine.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The folder of the store was removed, moved away or replaced; the text says which part of it.
    #[error("the store has failed: {0}")]
    FolderGone(String),
    /// The folder could not be used any more when it was opened again or closed.
    #[cfg(feature = "durable")]
    #[error("the store has failed: {}{source}", prefix(*step))]
    Folder {
        /// The step that has failed, for people; none where the cause names it.
        step: Option<&'static str>,
        /// Why the folder could not be used.
        source: Arc<OpenError>,
    },
    /// The thread that writes has panicked.
    #[error("the store has failed: its writer has ended, perhaps over damaged data")]
    WriterEnded,
    /// The task of a read or of a preparation has panicked, or was cancelled by the end of the runtime.
    #[error("the store has failed: {task} was cut off: {source}")]
    TaskEnded {
        /// Names the task.
        task: &'static str,
        /// Why it has ended.
        source: Arc<JoinError>,
    },
    /// The store returned no result for a write, against its contract.
    #[error("the store has failed: a write was left unanswered")]
    Unanswered,
    /// A store that fails on purpose, such as one of a test, has failed. Clients get this code.
    #[error("the store has failed: {}", .0.text())]
    Injected(Code),
}

/// Why the contents of a store were not replaced. Nothing has changed then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplaceError {
    /// There is no room for the new contents.
    #[error("the store has no room for it")]
    Full,
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with the records of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A record is not the one that was written.
    #[error("a record of kind {kind:?} is damaged")]
    Record {
        /// The first byte of the record's key, which tells the kind of the record.
        kind: char,
    },
    /// An entry of an inbox is missing, although later ones exist.
    #[error("the inbox of {uid} lacks version {version}")]
    Entry {
        /// The user to whom the inbox belongs.
        uid: Uid,
        /// The version of the missing entry.
        version: Version,
    },
    /// An entry refers to a message that the receivers of a group share, and none has this number.
    #[error("the shared message {0} is missing")]
    SharedMessage(u64),
}

impl StoreError {
    /// Logs why the store gave no answer. A store that is closed has not failed: the stack is being shut down.
    pub(crate) fn log(&self) {
        if matches!(self, StoreError::Closed) {
            tracing::debug!(error = %self, "a request came too late for the store");
        } else {
            tracing::error!(error = %self, "the store has failed");
        }
    }
}

#[cfg(feature = "durable")]
impl StoreError {
    /// Adds the step that has failed to an error that has a field for it; returns any other error unchanged.
    #[must_use]
    pub(super) fn during(mut self, failed: &'static str) -> Self {
        if let StoreError::Io { step, .. }
        | StoreError::Engine { step, .. }
        | StoreError::Folder { step, .. } = &mut self
        {
            *step = Some(failed);
        }
        self
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        StoreError::Io {
            step: None,
            source: Arc::new(error),
        }
    }
}

#[cfg(feature = "durable")]
impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        StoreError::Folder {
            step: None,
            source: Arc::new(error),
        }
    }
}

/// Returns the text that precedes a cause: the step that has failed and a colon, or nothing.
fn prefix(step: Option<&'static str>) -> String {
    step.map_or_else(String::new, |step| format!("{step}: "))
}

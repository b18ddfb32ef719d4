//! Inspects the folder of a store that no `imd` has open: checks it, prints what it holds, and compacts it.
//!
//! Serves the commands `imd store check`, `dump` and `compact`.
//!
//! A check and a dump look at a private copy, so that the folder is not changed by a byte.

mod check;
mod dump;
mod walk;

pub use self::check::Findings;
pub use self::dump::Item;

use std::path::Path;

use super::copy::{self, Copied};
use super::engine::{EngineError, View};
use super::folder::{self, OpenFolder};
use super::layout::ENGINE;
use crate::config;
use crate::id::Uid;
use crate::store::{OpenError, StoreError};

/// A store's folder that is inspected. Nothing in it is changed.
#[derive(Debug)]
pub struct Inspection {
    copied: Copied,
}

/// Why a folder was not compacted.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The folder can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The engine could not write.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

impl Inspection {
    /// Opens a store's folder. No `imd` may have it open, and none can open it until this is dropped; other inspections
    /// can.
    ///
    /// The folder has to be readable, and need not be writable. The journals are copied to the system's folder for
    /// temporary files.
    ///
    /// # Errors
    ///
    /// When the folder is no store or not in order, and when there is no space for the copy.
    pub fn open(path: &Path) -> Result<Inspection, OpenError> {
        Self::open_telling(path, |_| {})
    }

    /// Opens a store's folder as [`open`](Self::open) does, and first tells `begun` the folder of the private copy,
    /// which is still empty then. A caller that does not wait for the end of this thread can remove the folder.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_telling(path: &Path, begun: impl FnOnce(&Path)) -> Result<Inspection, OpenError> {
        Ok(Inspection {
            copied: copy::open(path, config::Store::default().buffer, begun)?,
        })
    }

    /// Returns the folder of the private copy. It is removed when this is dropped.
    pub fn copy(&self) -> &Path {
        self.copied.path()
    }

    fn view(&self) -> View<'_> {
        self.copied.folder.view()
    }

    /// Reads every record, and makes sure that the records fit one another.
    pub fn check(&self) -> Findings {
        self.check_until(|| false).unwrap_or_default()
    }

    /// Checks like [`check`](Self::check) until `is_stopped` returns true, which is asked before each record. Returns
    /// none if the check was stopped.
    pub fn check_until(&self, is_stopped: impl Fn() -> bool) -> Option<Findings> {
        let engine = self.copied.original().join(ENGINE);
        check::check(&self.view(), &engine, is_stopped)
    }

    /// Gives every item of the store to `item`, or those of the user `only`. Records that are damaged or missing are
    /// left out; returns a sentence for each.
    ///
    /// # Errors
    ///
    /// The error that `item` returns; the dump ends then.
    pub fn dump<E>(
        &self,
        only: Option<Uid>,
        item: impl FnMut(Item) -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        dump::dump(&self.view(), only, item)
    }

    /// Compacts a folder, so that removed records take no space any more. This is the only function here that changes
    /// the folder.
    ///
    /// # Errors
    ///
    /// When the folder can't be used, and when the engine can't write.
    pub fn compact(path: &Path) -> Result<(), CompactError> {
        let failed = |error: fjall::Error| StoreError::from(EngineError::from(error));
        let buffer = config::Store::default().buffer;
        let OpenFolder {
            lock, recovered, ..
        } = folder::open_existing(path, buffer)?;
        let id = recovered.state.store_id;
        let compacted = recovered.engine.compact();
        drop(recovered);
        if let Err(error) = compacted {
            // The engine removes tables that it has begun when it is opened again. On a full disk they would only do
            // harm.
            drop(folder::open_engine(path, buffer, Some(id)));
            return Err(failed(error).into());
        }
        folder::empty_journals(path).map_err(|error| failed(error.into()))?;
        drop(lock);
        Ok(())
    }
}

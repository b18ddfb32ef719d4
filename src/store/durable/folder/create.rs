//! Creates a new store in an empty folder.
//!
//! Serves [`open`](super::open). A crash at any point leaves a complete store, or a folder in which the next start
//! creates the store again.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::super::checkpoint::{Checkpoint, CheckpointFile};
use super::super::engine::Engine;
use super::super::errors::OpenError;
use super::super::layout::{ENGINE, MAKING};
use super::super::record::StateRecord;
use super::super::safe_files;
use super::boot;
use super::format::{new_id, write_format, write_id};
use super::recovered::RecoveredEngine;

/// Creates an empty store of the given format, and returns its open engine.
///
/// The marker [`MAKING`] is created first and the file `format` last. Whatever a crash leaves in between is removed or
/// replaced when the store is created again.
///
/// The engine stays open because it has set space aside in the journal that it began itself. A journal that it finds
/// when it is opened grows with every commit, and each sync then has to write the file's length too, which takes half
/// as long again.
///
/// # Errors
///
/// [`OpenError`] when the system can't create a file, or the engine can't write.
pub fn create(path: &Path, buffer: u64, format: usize) -> Result<RecoveredEngine, OpenError> {
    let unusable = OpenError::unusable(path);
    mark_as_begun(path).map_err(unusable)?;
    let folder = path.join(ENGINE);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    let engine = Engine::open(&folder, buffer).map_err(|error| OpenError::engine(path, error))?;
    let mut checkpoint_file = CheckpointFile::open(path).map_err(unusable)?;
    let state = StateRecord {
        store_id: new_id(),
        ..StateRecord::default()
    };
    let mut write_files = || {
        boot::note(path)?;
        // Both slots are written, so that the file has its final length from now on.
        checkpoint_file.write(Checkpoint::all(state))?;
        checkpoint_file.write(Checkpoint::all(state))?;
        checkpoint_file.sync()?;
        write_id(path, state.store_id)?;
        write_format(path, format)
    };
    write_files().map_err(unusable)?;
    Ok(RecoveredEngine {
        engine,
        checkpoint_file,
        state,
    })
}

/// Creates the marker in the folder, and syncs both. The marker is empty, so no kill can leave half of it.
fn mark_as_begun(path: &Path) -> io::Result<()> {
    let marker = path.join(MAKING);
    // An earlier `imd` created the marker under this name and renamed it; a kill in between left it behind.
    safe_files::remove_if_there(&safe_files::unfinished(&marker))?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    safe_files::open(&marker, options)?.sync_all()?;
    safe_files::sync_folder(path)
}

//! Creates a new store in an empty folder.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::super::engine::Engine;
use super::super::errors::OpenError;
use super::super::layout::{ENGINE, MAKING};
use super::super::mark::{Mark, Reached};
use super::super::record::StateRecord;
use super::super::regular;
use super::boot;
use super::format::{new_id, write_format, write_id};
use super::opened::OpenEngine;

/// Creates an empty store of the given format, and returns its open engine.
///
/// The marker [`MAKING`] is created first and the file `format` last. Whatever a crash leaves in between is removed or
/// replaced when the store is created again.
///
/// The engine stays open because it has set room aside in the journal that it began itself. A journal that it finds when
/// it is opened grows with every commit, and each sync then has to write the file's length too, which takes half as long
/// again.
///
/// # Errors
///
/// What the system or the engine says.
pub fn create(path: &Path, buffer: u64, format: usize) -> Result<OpenEngine, OpenError> {
    let unusable = OpenError::unusable(path);
    mark_as_begun(path).map_err(unusable)?;
    let folder = path.join(ENGINE);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    let engine = Engine::open(&folder, buffer).map_err(|error| OpenError::engine(path, error))?;
    let mut mark = Mark::open(path).map_err(unusable)?;
    let state = StateRecord {
        store: new_id(),
        ..StateRecord::default()
    };
    let mut write_files = || {
        boot::note(path)?;
        // Both slots, so that the file has its final length from now on.
        mark.write(Reached::all(state))?;
        mark.write(Reached::all(state))?;
        mark.sync()?;
        write_id(path, state.store)?;
        write_format(path, format)
    };
    write_files().map_err(unusable)?;
    Ok(OpenEngine {
        engine,
        mark,
        state,
    })
}

/// Creates the marker in the folder, and syncs both. The marker is empty, so no kill can leave half of it.
fn mark_as_begun(path: &Path) -> io::Result<()> {
    let marker = path.join(MAKING);
    // Left behind by an earlier `imd`, which renamed the marker.
    regular::remove_if_there(&regular::unfinished(&marker))?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    regular::open(&marker, options)?.sync_all()?;
    regular::sync_folder(path)
}

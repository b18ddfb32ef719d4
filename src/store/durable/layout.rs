//! The names of the files and folders that make up a store's folder.
//!
//! ```text
//! lock      the lock file: locked as long as the store is open
//! making    the marker of a store that is being created
//! format    the number of the format that everything else has
//! id        the id of the store, which every commit carries
//! mark      how many commits were written and synced
//! boot      the boot id of the machine when the store was opened last
//! *.kept    a copy of a torn journal: see [`KEPT`]
//! engine/   the engine's own files
//! ```
//!
//! Serves all modules that look into the folder, and is below them, so that none has to import another one for a name.

use std::ffi::OsStr;
use std::path::Path;

/// The lock file.
pub const LOCK: &str = "lock";
/// The marker of a store that is being created. It is removed when the store is complete.
pub const MAKING: &str = "making";
/// The number of the format. A folder with this file is a store.
pub const FORMAT: &str = "format";
/// The id of the store.
pub const ID: &str = "id";
/// How many commits were written and synced.
pub const CHECKPOINT: &str = "mark";
/// The boot id of the machine when the store was opened last.
pub const BOOT: &str = "boot";
/// The engine's folder.
pub const ENGINE: &str = "engine";

/// The folder in the engine's folder that has one folder for each keyspace.
pub const KEYSPACES: &str = "keyspaces";
/// The folder of a keyspace's tables.
pub const TABLES: &str = "tables";
/// The folder of a keyspace's separated values. The store has none.
pub const BLOBS: &str = "blobs";

/// The extension of a copy of a torn journal, which is kept until it is certain that the torn end may be cut off.
pub const KEPT: &str = "kept";

/// Returns whether an entry of a store's folder with this name belongs to the store. The lock file counts as no part: a
/// copy of the folder does not need it.
pub fn is_part(name: &OsStr) -> bool {
    let is_kept = Path::new(name)
        .extension()
        .is_some_and(|extension| extension == KEPT);
    is_kept
        || [MAKING, BOOT, FORMAT, ID, ENGINE, CHECKPOINT]
            .iter()
            .any(|part| name == *part)
}

/// Returns whether an entry of a store's folder with this name belongs to the store or is its lock file.
pub fn is_part_or_lock(name: &OsStr) -> bool {
    name == LOCK || is_part(name)
}

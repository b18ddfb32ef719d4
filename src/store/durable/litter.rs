//! Files that systems and tools leave in any folder.
//!
//! Serves the modules that walk through a store's folder: they neither read nor remove litter, and a folder that has
//! nothing else counts as empty.

use std::ffi::OsStr;

/// Returns whether an entry with this name is one that systems and tools create by themselves, so that it has nobody's
/// work in it.
pub fn is_litter(name: &OsStr) -> bool {
    const NAMES: [&str; 17] = [
        "lost+found",
        ".keep",
        ".gitkeep",
        ".gitignore",
        ".gitattributes",
        ".placeholder",
        ".ds_store",
        ".localized",
        ".directory",
        ".fseventsd",
        ".spotlight-v100",
        ".snapshot",
        ".zfs",
        "thumbs.db",
        "desktop.ini",
        "system volume information",
        "$recycle.bin",
    ];
    const BEGINNINGS: [&str; 3] = [".nfs", "._", ".trash"];
    let name = name.to_string_lossy().to_lowercase();
    NAMES.contains(&&*name) || BEGINNINGS.iter().any(|begins| name.starts_with(begins))
}

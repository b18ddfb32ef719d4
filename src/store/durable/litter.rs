//! Files that systems and tools leave in any folder. They are ignored in a store's folder.

use std::ffi::OsStr;

/// Returns whether systems or tools leave entries of this name in folders, without anybody's work in them.
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

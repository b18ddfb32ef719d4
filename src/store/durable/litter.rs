//! Files that nobody has put into a store's folder, and that may lie there all the same.

use std::ffi::OsStr;

/// What systems and tools leave in a folder without being asked, and what is nobody's work.
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

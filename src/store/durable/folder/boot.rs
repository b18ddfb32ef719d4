//! The file `boot`: whether the machine was started again since the store was opened last.
//!
//! Serves `recover`. Commits that were written and not synced survive the death of the process and not that of the
//! machine. So a store that lacks some of them is damaged only if the machine has been running since.

use std::fs;
use std::io;
use std::path::Path;

use super::super::layout::BOOT;
use super::super::safe_files;

/// Notes the machine's current boot id.
///
/// # Errors
///
/// The error of the system, when the file can't be written.
pub fn note(path: &Path) -> io::Result<()> {
    safe_files::replace(&path.join(BOOT), boot_id().as_bytes())
}

/// Returns whether the machine has been running since the store was opened last; false where the system has no boot id.
pub fn is_same(path: &Path) -> bool {
    let noted = safe_files::read(&path.join(BOOT)).unwrap_or_default();
    !noted.is_empty() && noted == boot_id().as_bytes()
}

/// Returns the machine's boot id; an empty one where the system has none.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

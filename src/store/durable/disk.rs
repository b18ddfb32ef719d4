//! How many files the process may open, and how much of the disk the engine's files take.
//!
//! Serves `engine`, which bounds its open tables and estimates the sizes of its files with these numbers.

use std::fs::{self, Metadata};
use std::path::Path;

/// Returns how many files the process may have open now.
#[cfg(not(windows))]
pub fn file_limit() -> u64 {
    rlimit::Resource::NOFILE.get_soft().unwrap_or(1024)
}

/// Returns how many files the process may have open now.
#[cfg(windows)]
pub fn file_limit() -> u64 {
    u64::MAX
}

/// Returns the bytes of the disk that the files of a folder take, without those of its subfolders; 0 if it can't be
/// read.
pub fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    files
        .filter(|file| file.is_file())
        .map(|file| space_of(&file))
        .sum()
}

/// Returns the bytes of the disk that a file takes: less than its length where space was set aside and not written yet.
#[cfg(unix)]
fn space_of(file: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(file) * 512
}

/// Returns the bytes of the disk that a file takes.
#[cfg(not(unix))]
fn space_of(file: &Metadata) -> u64 {
    file.len()
}

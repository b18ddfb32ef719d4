//! How many files a store in a folder has open: a part of what the process may have, since its connections need the rest.

/// The most tables that are held open between reads, however many files there may be.
const MOST_TABLES: usize = 900;

/// The fewest.
const FEWEST_TABLES: usize = 24;

/// Beside the tables that are held open: journals, locks, and the tables that are being merged or written.
const OTHERS: u64 = 40;

/// How many tables are held open when the process may have `limit` files.
pub(super) fn tables(limit: u64) -> usize {
    let part = usize::try_from(limit / 16).unwrap_or(usize::MAX);
    part.clamp(FEWEST_TABLES, MOST_TABLES)
}

/// How many files a store in a folder may have open at once, when the process may have `limit` of them.
pub fn files(limit: u64) -> u64 {
    u64::try_from(tables(limit)).map_or(u64::MAX, |tables| tables + OTHERS)
}

/// How many files the process may have open now.
#[cfg(not(windows))]
pub(super) fn limit() -> u64 {
    rlimit::Resource::NOFILE.get_soft().unwrap_or(1024)
}

/// How many files the process may have open now.
#[cfg(windows)]
pub(super) fn limit() -> u64 {
    u64::MAX
}

/// Bytes of all files in a folder, without its folders; 0 where it can't be read.
pub(super) fn size_of(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    files
        .filter(|file| file.is_file())
        .map(|file| room_of(&file))
        .sum()
}

/// Bytes of the disk that a file takes: less than its length where room was set aside and not written yet.
#[cfg(unix)]
fn room_of(file: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(file) * 512
}

/// Bytes of the disk that a file takes.
#[cfg(not(unix))]
fn room_of(file: &std::fs::Metadata) -> u64 {
    file.len()
}

//! How many files a durable store has open.
//!
//! Serves the listeners' admission, which subtracts them from the open-file limit of the process, since connections
//! need the rest, and the engine, which bounds its open tables by the same numbers.

/// The upper bound of the tables that are held open between reads, however high the open-file limit is.
const MAX_TABLES: usize = 900;

/// The lower bound of the tables that are held open between reads.
const MIN_TABLES: usize = 24;

/// Files beside the tables that are held open: journals, locks, and the tables that are being merged or written.
const OTHERS: u64 = 40;

/// Returns how many tables are held open in a process that may have `limit` files.
pub(super) fn tables(limit: u64) -> usize {
    let part = usize::try_from(limit / 16).unwrap_or(usize::MAX);
    part.clamp(MIN_TABLES, MAX_TABLES)
}

/// Returns how many files a durable store may have open at once, in a process that may have `limit` of them.
pub fn files(limit: u64) -> u64 {
    u64::try_from(tables(limit)).map_or(u64::MAX, |tables| tables + OTHERS)
}

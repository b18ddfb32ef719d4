//! Reads the engine's lists of tables before the engine does.
//!
//! Serves `folder`, which checks the lists at each start, and `inspect`, which checks all tables. Nothing is written
//! here.
//!
//! The engine has a checksum of each list and does not verify it. It panics over some damage, and takes a missing list
//! for that of a keyspace that was never used, whose tables it removes.
//!
//! A list also has a checksum of each table, which the engine does not verify either: it would serve a table of another
//! store with the same number.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::layout::{KEYSPACES, TABLES};
use super::litter::is_litter;
use super::safe_files;

/// Why the lists and the tables are not what the engine wrote.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A list or a table is missing or altered, or there is a file that is not the engine's; the text says which.
    #[error("{0}")]
    Damaged(String),
}

/// Makes sure that every list in the engine's folder exists and is what was written.
///
/// # Errors
///
/// When a list can't be read or was altered, and when there is an entry that is not the engine's.
pub fn check(folder: &Path) -> Result<(), ManifestError> {
    for entry in fs::read_dir(folder.join(KEYSPACES))? {
        let entry = entry?;
        let path = entry.path();
        // The engine ignores files beside the folders of its keyspaces, so litter does no harm there.
        if entry.file_type()?.is_file() && is_litter(&entry.file_name()) {
            continue;
        }
        expect_number(&path)?;
        check_list(&path)?;
        for table in fs::read_dir(path.join(TABLES))? {
            let table = table?;
            if !is_macos_metadata(&table.file_name()) {
                expect_number(&table.path())?;
            }
        }
    }
    Ok(())
}

/// Returns the tables in the engine's folder that are not what was written. Reads all tables, or those whose files have
/// changed `since` a time. The lists must have been [checked](check).
///
/// # Errors
///
/// When a list or a table can't be read.
pub fn altered_tables(
    folder: &Path,
    since: Option<SystemTime>,
) -> Result<Vec<PathBuf>, ManifestError> {
    let mut altered = Vec::new();
    for entry in fs::read_dir(folder.join(KEYSPACES))? {
        let space = entry?.path();
        if !space.is_dir() {
            continue;
        }
        for listed in listed_tables(&space)? {
            let path = listed.path(&space);
            let mut table = match File::open(&path) {
                Ok(table) => table,
                // Whoever reads the table reports that.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let is_older = since.is_some_and(|since| changed(&table).is_ok_and(|at| at < since));
            if !is_older && sum(&mut table)? != listed.checksum {
                altered.push(path);
            }
        }
    }
    Ok(altered)
}

/// Returns when a file was last written or got its name.
#[cfg(unix)]
fn changed(file: &File) -> io::Result<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, UNIX_EPOCH};
    let found: Metadata = file.metadata()?;
    let seconds = Duration::from_secs(u64::try_from(found.ctime()).unwrap_or_default());
    let rest = Duration::from_nanos(u64::try_from(found.ctime_nsec()).unwrap_or_default());
    Ok(UNIX_EPOCH + seconds + rest)
}

#[cfg(not(unix))]
fn changed(file: &File) -> io::Result<SystemTime> {
    let found: Metadata = file.metadata()?;
    found.modified()
}

/// Returns the checksum of a file.
fn sum(file: &mut File) -> io::Result<u128> {
    let mut sum = Xxh3::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(sum.digest128());
        }
        sum.update(chunk.get(..read).unwrap_or_default());
    }
}

/// A table in a list.
#[derive(Debug, Clone, Copy)]
pub struct ListedTable {
    /// Its number, which is the name of its file.
    pub number: u64,
    /// The checksum of its file.
    pub checksum: u128,
    /// What is added to the sequence numbers in the table. It is 0 except for tables that were written without a
    /// journal.
    pub first_sequence: u64,
}

impl ListedTable {
    /// Returns the path of the table in the folder of a keyspace.
    pub fn path(&self, space: &Path) -> PathBuf {
        space.join(TABLES).join(self.number.to_string())
    }
}

/// Returns the tables that are in use in the folder of a keyspace. The list must have been [checked](check).
///
/// # Errors
///
/// When the list can't be read.
pub fn listed_tables(space: &Path) -> Result<Vec<ListedTable>, ManifestError> {
    tables(&list(space)?)
}

/// Returns the newest list of tables in the folder of a keyspace.
fn list(space: &Path) -> Result<PathBuf, ManifestError> {
    let bytes = safe_files::read(&space.join("current"))?;
    let number = bytes
        .first_chunk()
        .map(|number| u64::from_le_bytes(*number));
    Ok(space.join(format!("v{}", number.unwrap_or_default())))
}

/// Returns the tables in a list. The section "tables" of a list has the number of levels
/// (u8), each level the number of runs (u8), and each run the number of tables (u32). A table has its number (u64), the
/// kind of its checksum (0), the checksum (u128) and a sequence number (u64). All are little-endian.
fn tables(list: &Path) -> Result<Vec<ListedTable>, ManifestError> {
    let damaged = || ManifestError::Damaged(format!("{} can't be read", list.display()));
    let archive = sfa::Reader::new(list).map_err(|_| damaged())?;
    let section = archive.toc().section(b"tables").ok_or_else(damaged)?;
    let mut section = section.buf_reader(list)?;
    let mut tables = Vec::new();
    let [levels] = take(&mut section)?;
    for _ in 0..levels {
        let [runs] = take(&mut section)?;
        for _ in 0..runs {
            for _ in 0..u32::from_le_bytes(take(&mut section)?) {
                let number = u64::from_le_bytes(take(&mut section)?);
                let [0] = take(&mut section)? else {
                    return Err(damaged());
                };
                tables.push(ListedTable {
                    number,
                    checksum: u128::from_le_bytes(take(&mut section)?),
                    first_sequence: u64::from_le_bytes(take(&mut section)?),
                });
            }
        }
    }
    Ok(tables)
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Returns whether the engine ignores a file with this name among the tables.
fn is_macos_metadata(name: &OsStr) -> bool {
    name == ".DS_Store" || name.as_encoded_bytes().starts_with(b"._")
}

/// Makes sure that the name of an entry is a number, as the engine's are.
fn expect_number(path: &Path) -> Result<(), ManifestError> {
    let name = path.file_name().and_then(|name| name.to_str());
    if name.is_some_and(|name| name.parse::<u64>().is_ok()) {
        return Ok(());
    }
    let what = format!("{} does not belong there", path.display());
    Err(ManifestError::Damaged(what))
}

/// Makes sure that the list of a keyspace is what was written. The file `current` has the number of the list (u64), its
/// checksum (u128) and the kind of checksum (0), little-endian.
fn check_list(folder: &Path) -> Result<(), ManifestError> {
    let current = folder.join("current");
    let damaged = || ManifestError::Damaged(format!("{} can't be read", current.display()));
    let bytes = match safe_files::read(&current) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(damaged()),
        bytes => bytes?,
    };
    let (number, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
    let (check, kind) = rest.split_first_chunk().ok_or_else(damaged)?;
    if kind != [0] {
        return Err(damaged());
    }
    let list = folder.join(format!("v{}", u64::from_le_bytes(*number)));
    let found = match safe_files::read(&list) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        bytes => Some(xxh3_128(&bytes?)),
    };
    if found != Some(u128::from_le_bytes(*check)) {
        let what = format!("{} is not what was written", list.display());
        return Err(ManifestError::Damaged(what));
    }
    Ok(())
}

//! Reading the engine's lists of its tables before the engine does.
//!
//! A list has a check beside it that the engine does not look at: it panics over some of what it finds, and takes a
//! missing list for a space that was never in use, whose tables it removes.
//!
//! A list also has a check over each of its tables. The engine does not look at that either: it would serve a table of
//! another store under the same number without a word.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::layout::{KEYSPACES, TABLES};
use super::litter::is_litter;
use super::regular;

/// Why the lists can't be what the engine wrote.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

/// Makes sure that every list in the engine's folder is there, and is what was written.
///
/// # Errors
///
/// When one can't be read, or is not; and when there is something that is not the engine's.
pub fn check(folder: &Path) -> Result<(), ManifestError> {
    for entry in fs::read_dir(folder.join(KEYSPACES))? {
        let entry = entry?;
        let path = entry.path();
        // The engine passes over files there.
        if entry.file_type()?.is_file() && is_litter(&entry.file_name()) {
            continue;
        }
        expect_number(&path)?;
        check_list(&path)?;
        for table in fs::read_dir(path.join(TABLES))? {
            let table = table?;
            if !is_finders(&table.file_name()) {
                expect_number(&table.path())?;
            }
        }
    }
    Ok(())
}

/// The tables in the engine's folder that are not what was written, of those that have changed `since` a time, or of all.
/// Each of them is read. The lists have been [checked](check).
///
/// # Errors
///
/// When a list can't be read, or a table.
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
        for (number, check) in tables(&list(&space)?)? {
            let path = space.join(TABLES).join(number.to_string());
            let mut table = match File::open(&path) {
                Ok(table) => table,
                // The engine says so.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let is_older = since.is_some_and(|since| changed(&table).is_ok_and(|at| at < since));
            if !is_older && sum(&mut table)? != check {
                altered.push(path);
            }
        }
    }
    Ok(altered)
}

/// When a file was last written, or put where it is.
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

/// The newest list of tables in the folder of a keyspace.
fn list(space: &Path) -> Result<PathBuf, ManifestError> {
    let bytes = regular::read(&space.join("current"))?;
    let number = bytes
        .first_chunk()
        .map(|number| u64::from_le_bytes(*number));
    Ok(space.join(format!("v{}", number.unwrap_or_default())))
}

/// The number and the check of each table in a list. Its section "tables" has a count of levels (u8), each has a count of
/// runs (u8), each of these a count of tables (u32). A table has its number (u64), the kind of its check (0), the check
/// (u128) and a sequence number (u64); all little-endian.
fn tables(list: &Path) -> Result<Vec<(u64, u128)>, ManifestError> {
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
                let check = u128::from_le_bytes(take(&mut section)?);
                let _: [u8; 8] = take(&mut section)?;
                tables.push((number, check));
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

/// What the engine itself passes over among the tables.
fn is_finders(name: &OsStr) -> bool {
    name == ".DS_Store" || name.as_encoded_bytes().starts_with(b"._")
}

fn expect_number(path: &Path) -> Result<(), ManifestError> {
    let name = path.file_name().and_then(|name| name.to_str());
    if name.is_some_and(|name| name.parse::<u64>().is_ok()) {
        return Ok(());
    }
    let what = format!("{} does not belong there", path.display());
    Err(ManifestError::Damaged(what))
}

/// `current` has the list's number (u64), its check (u128) and the kind of check (0), little-endian.
fn check_list(folder: &Path) -> Result<(), ManifestError> {
    let current = folder.join("current");
    let damaged = || ManifestError::Damaged(format!("{} can't be read", current.display()));
    let bytes = match regular::read(&current) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(damaged()),
        bytes => bytes?,
    };
    let (number, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
    let (check, kind) = rest.split_first_chunk().ok_or_else(damaged)?;
    if kind != [0] {
        return Err(damaged());
    }
    let list = folder.join(format!("v{}", u64::from_le_bytes(*number)));
    let found = match regular::read(&list) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        bytes => Some(xxh3_128(&bytes?)),
    };
    if found != Some(u128::from_le_bytes(*check)) {
        let what = format!("{} is not what was written", list.display());
        return Err(ManifestError::Damaged(what));
    }
    Ok(())
}

//! Reads the engine's tables before the engine does, and changes nothing.
//!
//! An engine that opens a folder removes the lists, tables and keyspaces that it has no use for, and its threads begin
//! to flush and to compact. So [`folder`](super::folder) looks into the tables here before it opens the engine: a
//! folder that is refused because of what the tables hold stays as it was.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use lsm_tree::{Cache, Checksum, DescriptorTable, InternalValue, Table, UserKey, UserValue};

use super::engine::{RECORDS, in_words};
use super::layout::KEYSPACES;
use super::manifest::{self, ListedTable, ManifestError};
use super::record::{Record, SIGNING_KEY, STATE, SecretRecord, StateRecord};

/// The size of the cache for the blocks of one keyspace, in bytes. Few blocks are read, and each of them once.
const CACHE: u64 = 1 << 20;

/// How many tables of one keyspace are open at the same time. A store may have more than a process may have open files.
const OPEN_FILES: usize = 8;

/// The keyspace in which the engine keeps the names of the others.
const NAMES: u64 = 0;

/// Reads the state that the newest commit in the tables wrote. Returns none if there are tables and none of them has a
/// state.
///
/// Also makes sure that the engine knows the store's keyspace and can open every table. The lists of tables must have
/// been [checked](manifest::check).
///
/// # Errors
///
/// When a table is missing or can't be read, when the engine would take a keyspace for one without a name and remove
/// it, and when the state or the signing key is damaged.
pub fn state(engine: &Path) -> Result<Option<StateRecord>, ManifestError> {
    let records = open_records(&engine.join(KEYSPACES))?;
    if let Some(secret) = records.newest(SIGNING_KEY)? {
        SecretRecord::decode_checked(SIGNING_KEY, &secret).map_err(damaged)?;
    }
    if records.tables.is_empty() {
        return Ok(Some(StateRecord::default()));
    }
    let found = records.newest(STATE)?;
    found
        .map(|state| StateRecord::decode_checked(STATE, &state).map_err(damaged))
        .transpose()
}

/// Opens the keyspace of the store's records, after making sure that the engine knows the name of every keyspace.
fn open_records(keyspaces: &Path) -> Result<Tables, ManifestError> {
    let names = Tables::open(&keyspaces.join(NAMES.to_string()))?;
    names.read_all()?;
    let mut records = None;
    for entry in fs::read_dir(keyspaces)? {
        let space = entry?.path();
        let name = space.file_name().and_then(|name| name.to_str());
        // Files of other programs have no number.
        let Some(number) = name.and_then(|name| name.parse().ok()) else {
            continue;
        };
        if number == NAMES {
            continue;
        }
        let Some(name) = names.newest(&name_key(number))? else {
            let what = format!(
                "the engine does not know {} and would remove it",
                space.display()
            );
            return Err(ManifestError::Damaged(what));
        };
        let tables = Tables::open(&space)?;
        if *name == *RECORDS.as_bytes() {
            records = Some(tables);
        }
    }
    records.ok_or_else(|| {
        let what = format!("{} has no records", keyspaces.display());
        ManifestError::Damaged(what)
    })
}

/// Returns the key of a keyspace's name.
fn name_key(number: u64) -> Vec<u8> {
    [&b"n"[..], &number.to_be_bytes()].concat()
}

/// The tables of a keyspace.
struct Tables {
    tables: Vec<Table>,
}

impl Tables {
    /// Opens the tables in the folder of a keyspace that are in use.
    fn open(space: &Path) -> Result<Tables, ManifestError> {
        let cache = Arc::new(Cache::with_capacity_bytes(CACHE));
        let files = Arc::new(DescriptorTable::new(OPEN_FILES));
        let listed = manifest::listed_tables(space)?;
        let tables = listed
            .into_iter()
            .map(|listed| open_table(space, listed, &cache, &files));
        Ok(Tables {
            tables: tables.collect::<Result<_, _>>()?,
        })
    }

    /// Returns the newest value of a key; none if it has none, or was removed.
    fn newest(&self, key: &[u8]) -> Result<Option<UserValue>, ManifestError> {
        let key = UserKey::from(key);
        let mut newest: Option<InternalValue> = None;
        for table in &self.tables {
            for found in table.range(key.clone()..=key.clone()) {
                let found = found.map_err(|error| unreadable(&table.path, error))?;
                let is_newer = |newest: &InternalValue| newest.key.seqno < found.key.seqno;
                if newest.as_ref().is_none_or(is_newer) {
                    newest = Some(found);
                }
            }
        }
        let newest = newest.filter(|newest| !newest.is_tombstone());
        Ok(newest.map(|newest| newest.value))
    }

    /// Reads every block, and verifies its checksum.
    fn read_all(&self) -> Result<(), ManifestError> {
        for table in &self.tables {
            for found in table.iter() {
                found.map_err(|error| unreadable(&table.path, error))?;
            }
        }
        Ok(())
    }
}

/// Opens a table as the engine does: what the engine would keep in memory of it is read, and verified.
fn open_table(
    space: &Path,
    listed: ListedTable,
    cache: &Arc<Cache>,
    files: &Arc<DescriptorTable>,
) -> Result<Table, ManifestError> {
    let path = listed.path(space);
    if !path.try_exists()? {
        let what = format!("{} is missing", path.display());
        return Err(ManifestError::Damaged(what));
    }
    let table = Table::recover(
        path.clone(),
        Checksum::from_raw(listed.checksum),
        listed.first_sequence,
        0,
        Arc::clone(cache),
        Some(Arc::clone(files)),
        true,
        true,
    );
    table.map_err(|error| unreadable(&path, error))
}

fn unreadable(table: &Path, error: lsm_tree::Error) -> ManifestError {
    let words = in_words(&fjall::Error::from(error));
    ManifestError::Damaged(format!("{} can't be read: {words}", table.display()))
}

fn damaged(record: impl ToString) -> ManifestError {
    ManifestError::Damaged(record.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::engine::Engine;
    use super::*;

    /// The engine would take the folder of the records for one that it has removed before, and remove it.
    #[test]
    fn records_that_the_engine_does_not_know_are_found() {
        let [own, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        drop(Engine::open(own.path(), 1 << 16).unwrap());
        let empty = Some(StateRecord::default());
        assert_eq!(state(own.path()).unwrap(), empty);
        drop(fjall::Database::builder(other.path()).open().unwrap());
        let [names, foreign] = [&own, &other].map(|folder| folder.path().join("keyspaces/0"));
        fs::remove_dir_all(&names).unwrap();
        fs::rename(foreign, names).unwrap();
        let why = state(own.path()).unwrap_err().to_string();
        assert!(why.contains("keyspaces/1 and would remove it"), "{why}");
    }
}

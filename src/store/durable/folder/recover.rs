//! Opens the engine of a store that exists, after making sure that it loses nothing.
//!
//! Serves the other modules of `folder`, and the store, which opens a poisoned engine again.
//!
//! The engine takes the first record of a journal that it can't read for the end, and removes tables that no list
//! names. Its threads also begin to flush and to compact at once. So everything is checked before the engine is opened,
//! and a folder that is refused stays as it was, byte for byte. If the engine turns out to hold less than the
//! checkpoint says nevertheless, the journals are put back as they were found.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::super::checkpoint::{self, Checkpoint, CheckpointFile, Found};
use super::super::engine::Engine;
use super::super::errors::OpenError;
use super::super::layout::{CHECKPOINT, ENGINE, ID, KEPT, KEYSPACES};
use super::super::manifest::{self, ManifestError};
use super::super::record::StateRecord;
use super::super::safe_files;
use super::super::tables;
use super::super::wal::{self, TornWal, WalContents, WalError};
use super::boot;
use super::recovered::RecoveredEngine;

/// Opens the engine, after making sure that it loses nothing and that its files are those of the store `id`. Without an
/// id the files may be of any store: format 1 had no ids.
///
/// # Errors
///
/// When the engine would lose something or has lost something, when a file is of another store, and what the system or
/// the engine says.
pub fn open_engine(
    path: &Path,
    buffer: u64,
    id: Option<u64>,
) -> Result<RecoveredEngine, OpenError> {
    let checkpoint = read_checkpoint(path, id)?;
    let recovery = Recovery {
        path,
        id,
        // Commits that were only written are lost when the machine stops, and only then.
        expected: match boot::is_same(path) {
            true => checkpoint.written,
            false => checkpoint.synced,
        },
    };
    check_tables(path)?;
    let mut journals = recovery.scan_journals()?;
    let in_tables = catch_panic(path, || read_tables(path))?;
    recovery.check_contents(&journals, in_tables)?;
    // Nothing was changed so far.
    if restore_kept(path).map_err(OpenError::unusable(path))? {
        journals = recovery.scan_journals()?;
    }
    let kept = recovery.cut_torn_journals(&journals)?;
    let opened = catch_panic(path, || recovery.open(buffer));
    if opened.is_err() {
        restore_kept(path).map_err(OpenError::unusable(path))?;
    }
    let (engine, state) = opened.map_err(OpenError::of_engine)?;
    recovery.warn(&journals, checkpoint, state);
    let checkpoint_file = finish(path, kept, state).map_err(OpenError::unusable(path))?;
    Ok(RecoveredEngine {
        engine,
        checkpoint_file,
        state,
    })
}

/// Cuts off what an engine that is closed has written to its journals after a commit.
///
/// # Errors
///
/// [`OpenError::Unusable`] when the system can't read or cut a journal.
pub fn cut_after(path: &Path, commit: u64) -> Result<(), OpenError> {
    wal::cut_after(&path.join(ENGINE), commit).map_err(OpenError::unusable(path))
}

/// Empties the journals of an engine that is closed and has flushed all its memtables. The next start does not need the
/// contents of the journals, and would take time to read them.
///
/// # Errors
///
/// The error of the system, when a journal can't be read or cut.
pub fn empty_journals(path: &Path) -> io::Result<()> {
    for (_, journal) in wal::paths(&path.join(ENGINE))? {
        let file = safe_files::open(&journal, OpenOptions::new().write(true))?;
        file.set_len(0)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Returns the sentence about a table that is not the one in the engine's list.
pub fn not_what_was_written(table: &Path) -> String {
    format!(
        "{} is not what was written: it is damaged, or of another store",
        table.display()
    )
}

/// What the files of a folder are checked against.
struct Recovery<'a> {
    path: &'a Path,
    /// The id of the store, if it has one.
    id: Option<u64>,
    /// The number of the last commit that must be found.
    expected: u64,
}

impl Recovery<'_> {
    /// Reads the journals, and makes sure that their commits are of this store and follow one another.
    fn scan_journals(&self) -> Result<WalContents, OpenError> {
        let path = self.path;
        let scanned = journals(path)
            .map_err(WalError::from)
            .and_then(|journals| wal::scan(&journals, self.id));
        scanned.map_err(|error| match error {
            WalError::Io(error) => OpenError::unusable(path)(error),
            WalError::Foreign { path: at, found } => {
                let entry = at.strip_prefix(path).unwrap_or(&at);
                foreign(path, entry, self.id.unwrap_or_default(), found)
            }
            error => OpenError::damaged(path, error),
        })
    }

    /// Makes sure that journals and tables are of this store, that the commits in the journals follow those in the
    /// tables, and that none is missing. Otherwise the tables or the journals are of another store, or an older copy.
    /// `in_tables` is the state that the tables end with, if they tell.
    fn check_contents(
        &self,
        journals: &WalContents,
        in_tables: Option<StateRecord>,
    ) -> Result<(), OpenError> {
        if let (Some(id), Some(found)) = (self.id, in_tables)
            && found.last_commit > 0
            && found.store_id != id
        {
            return Err(foreign_tables(self.path, id, found.store_id));
        }
        match (journals.commit_range, in_tables) {
            (Some((first, _)), Some(found)) if first > found.last_commit + 1 => {
                let last = found.last_commit;
                let why = format!(
                    "its tables end with commit {last}, and its journals begin with {first}"
                );
                Err(OpenError::damaged(self.path, why))
            }
            (Some((_, last)), _) => self.check_reached(last),
            (None, Some(found)) => self.check_reached(found.last_commit),
            (None, None) => Ok(()),
        }
    }

    /// Cuts off the torn ends of journals: commits that a crash interrupted. Returns the copies that were kept of the
    /// journals for the case that the engine holds too little.
    fn cut_torn_journals(&self, journals: &WalContents) -> Result<Vec<PathBuf>, OpenError> {
        let unusable = OpenError::unusable(self.path);
        let mut kept = Vec::new();
        if journals.commit_range.is_none() {
            for torn in &journals.torn {
                kept.push(keep(self.path, torn).map_err(unusable)?);
            }
        }
        for torn in &journals.torn {
            wal::cut(torn).map_err(unusable)?;
        }
        Ok(kept)
    }

    /// Opens the engine, and makes sure that it holds everything. Returns it with the state after its last commit.
    fn open(&self, buffer: u64) -> Result<(Engine, StateRecord), OpenError> {
        let path = self.path;
        let engine = Engine::open(&path.join(ENGINE), buffer)
            .map_err(|error| OpenError::engine(path, error))?;
        let state = engine.view().state();
        let mut state = state.map_err(|error| OpenError::damaged(path, error))?;
        self.check_reached(state.last_commit)?;
        // Before the first commit no record carries the id.
        if let (Some(id), 0) = (self.id, state.last_commit) {
            state.store_id = id;
        }
        Ok((engine, state))
    }

    /// Makes sure that no expected commit is missing.
    fn check_reached(&self, commits: u64) -> Result<(), OpenError> {
        let expected = self.expected;
        if commits >= expected {
            return Ok(());
        }
        let why = format!("it had {expected} commits, and {commits} are left");
        Err(OpenError::damaged(self.path, why))
    }

    /// Logs which commits were left out: those that were never acknowledged, or that the machine lost before they were
    /// synced.
    fn warn(&self, journals: &WalContents, checkpoint: Checkpoint, state: StateRecord) {
        for torn in &journals.torn {
            tracing::warn!(
                journal = %torn.path.strip_prefix(self.path).unwrap_or(&torn.path).display(),
                at = torn.at,
                "a journal ends with a commit that is not complete, and was never acknowledged: it is left out"
            );
        }
        if state.last_commit < checkpoint.written {
            tracing::warn!(
                commits = checkpoint.written - state.last_commit,
                "the newest commits are gone: the machine stopped before they were synced"
            );
        }
    }
}

/// Reads the checkpoint, and makes sure that it is of the store `id`.
fn read_checkpoint(path: &Path, id: Option<u64>) -> Result<Checkpoint, OpenError> {
    let checkpoint = match checkpoint::read(path).map_err(OpenError::unusable(path))? {
        Found::Checkpoint(checkpoint) => checkpoint,
        Found::Missing | Found::Unreadable => {
            return Err(OpenError::damaged(path, "its file \"mark\" can't be read"));
        }
    };
    let Some(id) = id.filter(|&id| checkpoint.store_id != id) else {
        return Ok(checkpoint);
    };
    // The ids of the checkpoint, the id file and the journals are compared: the file whose id differs from both others
    // is the foreign one. If the journals hold no commit, the checkpoint is taken for it.
    let journals = journals(path).map_err(OpenError::unusable(path))?;
    let entry = match wal::scan(&journals, Some(checkpoint.store_id)) {
        Ok(journals) if journals.commit_range.is_some() => ID,
        _ => CHECKPOINT,
    };
    Err(foreign(path, Path::new(entry), id, checkpoint.store_id))
}

/// Makes sure that the engine's lists of tables are complete, and that no table was replaced since the checkpoint was
/// written last. Older tables are not read: that would take too long at each start.
///
/// The checkpoint of a private copy is newer than every table, so no table is read there. A check of the copy reads all
/// tables anyway.
fn check_tables(path: &Path) -> Result<(), OpenError> {
    let engine = path.join(ENGINE);
    let failed = not_in_order(path);
    manifest::check(&engine).map_err(failed)?;
    let written = fs::metadata(checkpoint::path(path)).and_then(|file| file.modified());
    let written = written.map_err(OpenError::unusable(path))?;
    let altered = manifest::altered_tables(&engine, Some(written)).map_err(failed)?;
    match altered.first() {
        None => Ok(()),
        Some(table) => Err(OpenError::damaged(path, not_what_was_written(table))),
    }
}

/// Returns the state that the tables end with, if they tell.
fn read_tables(path: &Path) -> Result<Option<StateRecord>, OpenError> {
    tables::state(&path.join(ENGINE)).map_err(not_in_order(path))
}

/// Returns a function that makes errors of lists and tables into errors of the folder at `path`.
fn not_in_order(path: &Path) -> impl Fn(ManifestError) -> OpenError + Copy + '_ {
    move |error| match error {
        ManifestError::Io(error) => OpenError::unusable(path)(error),
        error => OpenError::damaged(path, error),
    }
}

/// Notes that the engine was opened in this state. Afterwards the kept journals are gone.
fn finish(path: &Path, kept: Vec<PathBuf>, state: StateRecord) -> io::Result<CheckpointFile> {
    for kept in kept {
        fs::remove_file(kept)?;
    }
    boot::note(path)?;
    let mut checkpoint_file = CheckpointFile::open(path)?;
    // The engine has synced what it found. Both slots are written, because the other one may name commits that no
    // longer exist.
    let checkpoint = Checkpoint::all(state);
    checkpoint_file.write(checkpoint)?;
    checkpoint_file.write(checkpoint)?;
    Ok(checkpoint_file)
}

/// Runs `open`, and turns a panic of the engine into [`OpenError::Damaged`]: damage that no check before has found. A
/// build with debug assertions of the engine panics where others return an error.
///
/// The closure may be interrupted anywhere, because everything that it creates is dropped with it.
fn catch_panic<T>(
    path: &Path,
    open: impl FnOnce() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let why = text.unwrap_or("it does not say why");
        Err(OpenError::damaged(
            path,
            format!("the engine has given up over it ({why})"),
        ))
    })
}

fn foreign(path: &Path, entry: &Path, id: u64, found: u64) -> OpenError {
    OpenError::Foreign {
        path: path.to_owned(),
        entry: entry.to_owned(),
        id,
        found,
    }
}

fn foreign_tables(path: &Path, id: u64, found: u64) -> OpenError {
    foreign(path, &Path::new(ENGINE).join(KEYSPACES), id, found)
}

/// Copies a journal from the engine's folder to the store's. The copy has another name until it is complete.
fn keep(path: &Path, torn: &TornWal) -> io::Result<PathBuf> {
    let name = torn.path.file_name().unwrap_or_default();
    let kept = path.join(name).with_added_extension(KEPT);
    let copy = safe_files::unfinished(&kept);
    safe_files::remove_if_there(&copy)?;
    let mut from = safe_files::open(&torn.path, OpenOptions::new().read(true))?;
    let mut to = safe_files::create_new(&copy)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    fs::rename(copy, &kept)?;
    safe_files::sync_folder(path)?;
    Ok(kept)
}

/// Returns the journals that the engine will have, the oldest first: a kept journal in the place of its torn original.
fn journals(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals: BTreeMap<_, _> = wal::paths(&path.join(ENGINE))?.into_iter().collect();
    for kept in kept_journals(path)? {
        if let Some(number) = wal::number(&original_of(path, &kept)) {
            journals.insert(number, kept);
        }
    }
    Ok(journals.into_values().collect())
}

/// Moves the kept journals back to the engine's folder. A crash may have left them at an earlier start. Returns whether
/// there were any.
fn restore_kept(path: &Path) -> io::Result<bool> {
    let found = kept_journals(path)?;
    for kept in &found {
        fs::rename(kept, original_of(path, kept))?;
    }
    Ok(!found.is_empty())
}

/// Returns the kept journals in a folder.
fn kept_journals(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let kept = entry?.path();
        if kept.extension().is_some_and(|extension| extension == KEPT) {
            found.push(kept);
        }
    }
    Ok(found)
}

/// Returns the path of the journal that a kept one is a copy of.
fn original_of(path: &Path, kept: &Path) -> PathBuf {
    path.join(ENGINE).join(kept.file_stem().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_engine_is_damage() {
        let opened = catch_panic(Path::new("data"), || {
            assert_eq!(1, 2, "a check of the engine");
            Ok(())
        });
        let why = opened.unwrap_err().to_string();
        assert!(
            why.starts_with("data is damaged") && why.contains("a check of the engine"),
            "{why}"
        );
    }
}

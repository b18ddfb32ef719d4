//! Brings the folder of an older `imd` to the present format, one format after the other.
//!
//! Serves [`open`](super::open). The file `format` is written after each migration, so a migration that a crash
//! interrupts is done again, and one that is complete is not.

use std::path::Path;

use super::super::checkpoint::Checkpoint;
use super::super::engine::{EngineError, View};
use super::super::errors::OpenError;
use super::super::record::{self, Damaged, StateRecord};
use super::format::{new_id, read_id, write_format, write_id};
use super::recover::{empty_journals, open_engine};
use super::recovered::RecoveredEngine;
use crate::config;

/// Brings a folder to the next format. It can be repeated after a crash.
type Migration = fn(&Path) -> Result<(), OpenError>;

/// The migrations from format 1 to 2, from 2 to 3, and so on.
const MIGRATIONS: &[Migration] = &[add_id, note_highest_recorded_id];

/// The format of the stores that this `imd` creates, and the newest that it can open.
pub const NEWEST: usize = MIGRATIONS.len() + 1;

/// Brings a folder of format `found` to the [newest](NEWEST) format.
///
/// # Errors
///
/// [`OpenError::Newer`] when the format is newer than that, and any error of a migration. What was done before the
/// error stays.
pub fn migrate(path: &Path, found: u32) -> Result<(), OpenError> {
    run(path, found, MIGRATIONS)
}

fn run(path: &Path, found: u32, migrations: &[Migration]) -> Result<(), OpenError> {
    let known = migrations.len() + 1;
    let done = (found as usize).saturating_sub(1);
    let Some(steps) = migrations.get(done..) else {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: u32::try_from(known).unwrap_or(u32::MAX),
        });
    };
    for (number, step) in (done + 2..).zip(steps) {
        step(path)?;
        write_format(path, number).map_err(OpenError::unusable(path))?;
    }
    Ok(())
}

/// Brings format 1 to 2: gives the store an id.
///
/// The journals are emptied after the first commit with the id. So every commit without an id that is found in a
/// journal later is of another store. A crash on the way leaves format 1, whose commits may carry any id.
fn add_id(path: &Path) -> Result<(), OpenError> {
    let opened = open_engine(path, config::Store::default().buffer, None)?;
    let RecoveredEngine {
        engine,
        mut checkpoint_file,
        state,
    } = opened;
    let state = StateRecord {
        store_id: new_id(),
        ..state.next()
    };
    let written = engine
        .write(vec![state.change()])
        .and_then(|()| engine.sync())
        .and_then(|()| engine.flush());
    written.map_err(|error| OpenError::engine(path, error))?;
    drop(engine);
    let mut finish = || {
        let checkpoint = Checkpoint::all(state);
        checkpoint_file.write(checkpoint)?;
        checkpoint_file.write(checkpoint)?;
        checkpoint_file.sync()?;
        empty_journals(path)?;
        write_id(path, state.store_id)
    };
    finish().map_err(OpenError::unusable(path))
}

/// Brings format 2 to 3: notes [`StateRecord::highest_recorded_id`]. In format 2 every id has a record. An `imd` of that
/// format would not find the ordered ids of format 3, which have none.
fn note_highest_recorded_id(path: &Path) -> Result<(), OpenError> {
    let id = read_id(path)?;
    let opened = open_engine(path, config::Store::default().buffer, Some(id))?;
    let RecoveredEngine {
        engine,
        mut checkpoint_file,
        state,
    } = opened;
    let highest = highest_recorded_id(&engine.view());
    let state = StateRecord {
        highest_recorded_id: highest
            .map_err(|error| OpenError::damaged(path, error).of_engine())?,
        ..state.next()
    };
    let written = engine
        .write(vec![state.change()])
        .and_then(|()| engine.sync());
    written.map_err(|error| OpenError::engine(path, error))?;
    checkpoint_file
        .write(Checkpoint::all(state))
        .map_err(OpenError::unusable(path))
}

/// Returns the highest number among the recorded ids of messages to one user; 0 if none is a number.
fn highest_recorded_id(view: &View<'_>) -> Result<i64, EngineError> {
    let mut highest = 0;
    for found in view.prefix(record::P2P_ID_PREFIX) {
        let (key, _) = found?;
        let number = record::p2p_number(&key).ok_or_else(|| Damaged::at(&key))?;
        highest = highest.max(number);
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::{self, Write};

    use super::super::format::read_format;
    use super::*;

    fn note(path: &Path, line: &str) -> Result<(), OpenError> {
        let notes = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path.join("notes"));
        let noted = notes.and_then(|mut notes| writeln!(notes, "{line}"));
        noted.map_err(OpenError::unusable(path))
    }

    fn first(path: &Path) -> Result<(), OpenError> {
        note(path, "1 to 2")
    }

    fn second(path: &Path) -> Result<(), OpenError> {
        note(path, "2 to 3")
    }

    fn failing(path: &Path) -> Result<(), OpenError> {
        Err(OpenError::unusable(path)(io::Error::other("on purpose")))
    }

    #[test]
    fn an_older_format_is_migrated_step_by_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write_format(path, 1).unwrap();
        run(path, 1, &[first, second]).unwrap();
        assert_eq!(
            fs::read_to_string(path.join("notes")).unwrap(),
            "1 to 2\n2 to 3\n"
        );
        assert_eq!(read_format(path).unwrap(), Some(3));
        // A folder whose format is the newest is left alone.
        run(path, 3, &[first, second]).unwrap();
        assert_eq!(
            fs::read_to_string(path.join("notes")).unwrap(),
            "1 to 2\n2 to 3\n"
        );
        let refused = run(path, 3, &[first]).unwrap_err().to_string();
        assert!(
            refused.contains("has format 3") && refused.contains("up to 2"),
            "{refused}"
        );
    }

    #[test]
    fn a_step_that_fails_is_tried_again_from_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write_format(path, 1).unwrap();
        assert!(run(path, 1, &[first, failing]).is_err());
        assert_eq!(read_format(path).unwrap(), Some(2));
        run(path, 2, &[first, second]).unwrap();
        assert_eq!(
            fs::read_to_string(path.join("notes")).unwrap(),
            "1 to 2\n2 to 3\n"
        );
    }
}

//! A folder that is refused stays as it was, byte for byte: the engine, which tidies up when it opens, is not opened.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::fixture::{crashed, files, open};
use crate::foreign::{transplant, with_tables_and_journal};

const TABLES: &str = "engine/keyspaces/1/tables";

/// Opens a folder, and makes sure that nothing is changed if it is refused. Returns the text of the refusal, if it is.
fn refusal(folder: &Path, what: &str) -> Option<String> {
    let before = files(folder);
    let refused = open(folder).map(drop).err()?;
    assert!(files(folder) == before, "{what}: {refused}");
    Some(refused.to_string())
}

/// Puts a file among the tables that no list names: the engine would remove it.
fn put_unlisted_table(folder: &Path) {
    fs::write(folder.join(TABLES).join("999"), "a table").unwrap();
}

#[tokio::test]
async fn files_of_another_store_are_found_before_the_engine_is_opened() {
    let ([older, own], [_, other]) = (
        with_tables_and_journal().await,
        with_tables_and_journal().await,
    );
    let plant = |from: &Path, part: &str| {
        let copy = crashed(own.path());
        transplant(from, copy.path(), part);
        put_unlisted_table(copy.path());
        // As a crash leaves it, between the last two steps of the creation of a store.
        fs::write(copy.path().join("making"), "").unwrap();
        refusal(copy.path(), part).expect(part)
    };
    for part in ["engine/keyspaces", "engine/0.jnl"] {
        let refused = plant(other.path(), part);
        assert!(refused.contains("is of another store"), "{part}: {refused}");
    }
    for part in ["engine/keyspaces", "engine/0.jnl", "engine"] {
        let refused = plant(older.path(), part);
        assert!(refused.contains("Nothing was changed"), "{part}: {refused}");
    }
}

/// A start that was interrupted leaves copies of journals, which the next one moves to the engine's folder.
#[tokio::test]
async fn a_kept_journal_of_another_store_takes_no_place() {
    let ([_, own], [_, other]) = (
        with_tables_and_journal().await,
        with_tables_and_journal().await,
    );
    let (from, to) = (
        other.path().join("engine/0.jnl"),
        own.path().join("0.jnl.kept"),
    );
    fs::copy(from, &to).unwrap();
    let refused = refusal(own.path(), "a kept journal").unwrap();
    assert!(
        refused.contains(to.to_str().unwrap()) && refused.contains("is of another store"),
        "{refused}"
    );
    fs::remove_file(to).unwrap();
    open(own.path()).unwrap();
}

fn tables(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut tables = files(&folder.join("engine/keyspaces/0/tables"));
    tables.extend(files(&folder.join(TABLES)));
    tables
}

#[tokio::test]
async fn a_table_that_cannot_be_opened_is_found_before_the_engine_is_opened() {
    let [_, pristine] = with_tables_and_journal().await;
    put_unlisted_table(pristine.path());
    let mut refused = 0;
    for (path, bytes) in tables(pristine.path()) {
        let name = path.strip_prefix(pristine.path()).unwrap();
        let mut damages = vec![Vec::new(), bytes[..bytes.len() - 1].to_vec()];
        for at in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            damages.push(flipped);
        }
        for (n, damaged) in damages.iter().enumerate() {
            let copy = crashed(pristine.path());
            fs::write(copy.path().join(name), damaged).unwrap();
            // Tables that are older than the mark are not read through.
            let mark = File::options()
                .write(true)
                .open(copy.path().join("mark"))
                .unwrap();
            let later = SystemTime::now() + Duration::from_secs(3_600);
            mark.set_modified(later).unwrap();
            let what = format!("{} with damage {n}", name.display());
            refused += usize::from(refusal(copy.path(), &what).is_some());
        }
        let copy = crashed(pristine.path());
        fs::remove_file(copy.path().join(name)).unwrap();
        let gone = refusal(copy.path(), "a missing table");
        assert!(name.ends_with("999") || gone.is_some(), "{name:?}");
    }
    assert!(refused > 50, "{refused}");
}

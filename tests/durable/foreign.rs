//! Files of another store, or of another time, in the place of a store's own: the folder is refused, and the error
//! names the file.
//!
//! This happens when a backup is restored in part. A copy of a whole folder is a store of its own, and opens.

use std::fs;
use std::path::Path;

use imd::store::{CompactError, Inspection, OpenError, StoreAdmin};
use tempfile::TempDir;

use crate::fixture::{copy_into, crashed, files, inbox, one, open, p2p};

/// Returns the folder of a store with this number of commits, as a crash would leave it.
async fn store(commits: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    for n in 0..commits {
        one(&store, p2p(1, 2, &format!("{commits}-{n}")))
            .await
            .unwrap();
    }
    crashed(folder.path())
}

/// Replaces `part` of the folder `to` by that of the folder `from`.
pub fn transplant(from: &Path, to: &Path, part: &str) {
    let (from, to) = (from.join(part), to.join(part));
    if from.is_dir() {
        fs::remove_dir_all(&to).unwrap();
        copy_into(&from, &to).unwrap();
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// Checks that everything that opens a folder refuses this one and names `part`, and that a file is not changed by that.
fn refused(folder: &Path, part: &str) {
    let by_name = |error: OpenError| {
        let text = error.to_string();
        assert!(matches!(error, OpenError::Foreign { .. }), "{part}: {text}");
        assert!(
            text.contains(folder.join(part).to_str().unwrap()),
            "{part}: {text}"
        );
    };
    let before = files(folder);
    by_name(Inspection::open(folder).map(drop).unwrap_err());
    by_name(open(folder).map(drop).unwrap_err());
    match Inspection::compact(folder) {
        Err(CompactError::Open(error)) => by_name(error),
        compacted => panic!("{part}: {compacted:?}"),
    }
    assert!(files(folder) == before, "{part}");
}

#[tokio::test]
async fn a_file_of_another_store_is_refused_by_name() {
    // The other store is smaller, of the same size, and larger.
    for commits in [2, 5, 9] {
        let (own, other) = (store(5).await, store(commits).await);
        for part in ["engine/0.jnl", "mark", "id"] {
            let copy = crashed(own.path());
            transplant(other.path(), copy.path(), part);
            refused(copy.path(), part);
        }
        let copy = crashed(own.path());
        transplant(other.path(), copy.path(), "engine");
        refused(copy.path(), "engine/0.jnl");
    }
}

#[tokio::test]
async fn tables_of_another_store_are_refused_without_a_journal() {
    let (own, other) = (store(5).await, store(9).await);
    for folder in [&own, &other] {
        open(folder.path()).unwrap().close().await.unwrap();
    }
    transplant(other.path(), own.path(), "engine");
    refused(own.path(), "engine");
}

#[tokio::test]
async fn a_copy_of_a_whole_folder_is_a_store() {
    let own = store(5).await;
    let copy = tempfile::tempdir().unwrap();
    copy_into(own.path(), copy.path()).unwrap();
    let store = open(copy.path()).unwrap();
    assert_eq!(inbox(&store, 2).await.len(), 5);
    one(&store, p2p(1, 2, "more")).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(Inspection::open(copy.path()).unwrap().check().wrong, 0);
}

#[tokio::test]
async fn a_folder_without_its_id_is_refused() {
    let own = store(5).await;
    for text in [
        None,
        Some(""),
        Some("imd store, id 0\n"),
        Some("imd store, id 12"),
    ] {
        let copy = crashed(own.path());
        match text {
            None => fs::remove_file(copy.path().join("id")).unwrap(),
            Some(text) => fs::write(copy.path().join("id"), text).unwrap(),
        }
        let refused = open(copy.path()).map(drop).unwrap_err().to_string();
        assert!(
            refused.contains("\"id\" can't be read"),
            "{text:?}: {refused}"
        );
    }
}

/// Returns a folder twice: as it was after an earlier close, and now, with newer tables and with commits in its journal.
pub async fn with_tables_and_journal() -> [TempDir; 2] {
    let folder = store(5).await;
    let mut closed = Vec::new();
    for life in ["a", "b"] {
        let store = open(folder.path()).unwrap();
        one(&store, p2p(1, 2, life)).await.unwrap();
        store.close().await.unwrap();
        closed.push(crashed(folder.path()));
    }
    let store = open(folder.path()).unwrap();
    one(&store, p2p(1, 2, "c")).await.unwrap();
    [closed.swap_remove(0), crashed(folder.path())]
}

#[tokio::test]
async fn tables_of_another_store_or_time_are_refused_with_a_journal() {
    let ([older, own], [_, other]) = (
        with_tables_and_journal().await,
        with_tables_and_journal().await,
    );
    let part = "engine/keyspaces";

    let copy = crashed(own.path());
    transplant(other.path(), copy.path(), part);
    refused(copy.path(), part);

    let copy = crashed(own.path());
    transplant(older.path(), copy.path(), part);
    let refused = open(copy.path()).map(drop).unwrap_err().to_string();
    assert!(refused.contains("its tables end with commit"), "{refused}");
    assert!(refused.contains("Nothing was changed"), "{refused}");

    // The mark counts more commits than the older journal has.
    for part in ["engine/0.jnl", "engine"] {
        let copy = crashed(own.path());
        transplant(older.path(), copy.path(), part);
        let refused = open(copy.path()).map(drop).unwrap_err().to_string();
        assert!(
            refused.contains("commits, and") && refused.contains("are left"),
            "{part}: {refused}"
        );
    }
    assert_eq!(inbox(&open(own.path()).unwrap(), 2).await.len(), 8);
}

#[tokio::test]
async fn one_table_of_another_store_is_refused_by_name() {
    let ([_, own], [_, other]) = (
        with_tables_and_journal().await,
        with_tables_and_journal().await,
    );
    let tables = "engine/keyspaces/1/tables";
    let mut tried = 0;
    for entry in fs::read_dir(own.path().join(tables)).unwrap() {
        let part = Path::new(tables).join(entry.unwrap().file_name());
        if !other.path().join(&part).exists() {
            continue;
        }
        tried += 1;
        let copy = crashed(own.path());
        // After a start and a close, the next start reads only files that have changed since.
        open(copy.path()).unwrap().close().await.unwrap();
        transplant(other.path(), copy.path(), part.to_str().unwrap());
        let name = copy.path().join(&part).display().to_string();
        let refused = open(copy.path()).map(drop).unwrap_err().to_string();
        assert!(
            refused.contains(&name) && refused.contains("of another store"),
            "{refused}"
        );
        // An inspection reports the table, and reads the others.
        let inspection = Inspection::open(copy.path()).unwrap();
        let problems = inspection.check().problems.join("\n");
        assert!(problems.contains(&name), "{problems}");
    }
    assert!(tried > 0);
}

//! A folder that is removed, moved or replaced under an open store: the store fails, and acknowledges nothing from then
//! on.
//!
//! Otherwise messages would be acknowledged into files that no process could find again. Proves
//! `store/durable/folder_guard`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use imd::store::{MessageStore, OpenError, StoreAdmin};

use crate::fixture::{copy_into, files, inbox, journal, one, open, p2p};

/// How long the store may take to notice a missing file. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A name, and what is done to the folder of a running store.
type Deed = (&'static str, fn(&Path));

/// Removes the files of a folder, and leaves its subfolders.
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
}

/// Returns the path that the folder is moved to.
fn away(folder: &Path) -> std::path::PathBuf {
    folder.with_file_name("away")
}

/// Each of these is noticed by the next commit.
const AT_ONCE: [Deed; 9] = [
    ("removed", |folder| fs::remove_dir_all(folder).unwrap()),
    ("moved away", |folder| {
        fs::rename(folder, away(folder)).unwrap();
    }),
    ("replaced by an empty one", |folder| {
        fs::rename(folder, away(folder)).unwrap();
        fs::create_dir(folder).unwrap();
    }),
    ("replaced by a copy", |folder| {
        fs::rename(folder, away(folder)).unwrap();
        copy_into(&away(folder), folder).unwrap();
    }),
    ("replaced by a file", |folder| {
        fs::rename(folder, away(folder)).unwrap();
        fs::write(folder, "").unwrap();
    }),
    ("without its lock", |folder| {
        fs::remove_file(folder.join("lock")).unwrap();
    }),
    ("without its engine", |folder| {
        fs::remove_dir_all(folder.join("engine")).unwrap();
    }),
    ("without the engine's files", |folder| {
        empty(&folder.join("engine"));
    }),
    ("with a copy of its journal", |folder| {
        let journal = journal(folder);
        let bytes = fs::read(&journal).unwrap();
        fs::write(journal.with_extension("copy"), bytes).unwrap();
        fs::rename(journal.with_extension("copy"), journal).unwrap();
    }),
];

/// Each of these is noticed when the store next checks the free space of the disk.
const SOON: [Deed; 5] = [
    ("without its format", |folder| {
        fs::remove_file(folder.join("format")).unwrap();
    }),
    ("without its id", |folder| {
        fs::remove_file(folder.join("id")).unwrap()
    }),
    ("without its mark", |folder| {
        fs::remove_file(folder.join("mark")).unwrap()
    }),
    ("without the engine's version", |folder| {
        fs::remove_file(folder.join("engine/version")).unwrap();
    }),
    ("without its tables", |folder| {
        fs::remove_dir_all(folder.join("engine/keyspaces/1")).unwrap();
    }),
];

#[tokio::test]
async fn a_store_whose_folder_is_gone_acknowledges_nothing() {
    for (what, deed) in AT_ONCE {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        let store = open(&folder).unwrap();
        one(&store, p2p(1, 2, "a")).await.unwrap();
        deed(&folder);
        let left = files(parent.path());
        let answer = store.commit(vec![p2p(1, 2, "b")]).await;
        assert!(answer.is_err(), "{what}: {answer:?}");
        let why = store.failed().await.to_string();
        assert!(why.contains(folder.to_str().unwrap()), "{what}: {why}");
        assert!(store.close().await.is_err(), "{what}");
        // Whatever is in the place of the folder now belongs to somebody else, and is not changed.
        let ours = |path: &Path| path.starts_with(away(&folder)) || path.ends_with("0.jnl");
        let theirs = |mut files: Vec<(std::path::PathBuf, Vec<u8>)>| {
            files.retain(|(path, _)| {
                !ours(path) || what == "replaced by a copy" && path.starts_with(&folder)
            });
            files
        };
        assert_eq!(theirs(files(parent.path())), theirs(left), "{what}");
    }
}

#[tokio::test]
async fn a_missing_file_that_the_next_start_needs_is_noticed_soon() {
    for (what, deed) in SOON {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        let store = open(&folder).unwrap();
        one(&store, p2p(1, 2, "a")).await.unwrap();
        deed(&folder);
        let started = Instant::now();
        for n in 0.. {
            if store.commit(vec![p2p(1, 2, &n.to_string())]).await.is_err() {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{what} is not noticed");
        }
        assert!(store.close().await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn closing_a_store_whose_folder_is_gone_is_an_error() {
    for (what, deed) in AT_ONCE.into_iter().chain(SOON) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        let store = open(&folder).unwrap();
        one(&store, p2p(1, 2, "a")).await.unwrap();
        deed(&folder);
        assert!(store.close().await.is_err(), "{what}");
        if what == "replaced by a copy" {
            // The close has not touched the copy: it still has its journal, as after a crash.
            let copy = open(&folder).unwrap();
            assert_eq!(inbox(&copy, 2).await.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_folder_without_its_lock_file_is_still_open_in_one_store_at_a_time() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let store = open(&folder).unwrap();
    one(&store, p2p(1, 2, "a")).await.unwrap();
    for file in ["lock", "engine/lock"] {
        fs::remove_file(folder.join(file)).unwrap();
        let refused = open(&folder).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    }
}

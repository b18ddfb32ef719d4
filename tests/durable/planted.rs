//! Links, pipes and folders in the place of a file of the store: the store opens none of them, and names what it has
//! found.
//!
//! Other users of the machine may put them there so that the store writes to a file elsewhere. Proves
//! `store/durable/safe_files`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use imd::id::Uid;
use imd::store::{CompactError, Inspection, MessageStore, OpenError, StoreAdmin};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::fixture::{crashed, files, one, open, open_small, p2p};

/// An entry that somebody puts in the place of a file.
#[derive(Debug, Clone, Copy)]
enum Plant {
    /// A link to a file with the same bytes, elsewhere.
    Link,
    /// A link to a file that does not exist. A program that creates a file through it creates it elsewhere.
    Dangling,
    /// A pipe. A program that opens it may wait for ever.
    Pipe,
    Folder,
    /// A hard link to a file elsewhere.
    HardLink,
}

const PLANTS: [Plant; 5] = [
    Plant::Link,
    Plant::Dangling,
    Plant::Pipe,
    Plant::Folder,
    Plant::HardLink,
];

impl Plant {
    /// Puts the entry at `path`. If it points to a file, that file is in `elsewhere`.
    fn put(self, path: &Path, elsewhere: &Path) {
        let theirs = elsewhere.join("theirs");
        fs::write(&theirs, fs::read(path).unwrap_or_default()).unwrap();
        let _ = fs::remove_file(path);
        match self {
            Plant::Link => symlink(&theirs, path).unwrap(),
            Plant::Dangling => symlink(elsewhere.join("nothing"), path).unwrap(),
            Plant::Pipe => mkfifo(path, Mode::S_IRWXU).unwrap(),
            Plant::Folder => fs::create_dir(path).unwrap(),
            Plant::HardLink => fs::hard_link(&theirs, path).unwrap(),
        }
    }
}

/// Checks that everything that opens a folder refuses this one, and names `entry`.
fn refused(folder: &Path, entry: &Path, what: &str) {
    let by_name = |error: OpenError| {
        let text = error.to_string();
        assert!(
            matches!(error, OpenError::UnexpectedEntry { .. }),
            "{what}: {text}"
        );
        assert!(
            text.contains(folder.join(entry).to_str().unwrap()),
            "{what}: {text}"
        );
    };
    by_name(open(folder).map(drop).expect_err(what));
    by_name(Inspection::open(folder).map(drop).expect_err(what));
    match Inspection::compact(folder) {
        Err(CompactError::Open(error)) => by_name(error),
        compacted => panic!("{what}: {compacted:?}"),
    }
}

/// Returns a folder with tables, and with commits in its journal.
async fn store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open_small(folder.path());
    for n in 0..400 {
        one(&store, p2p(1, 2, &n.to_string())).await.unwrap();
    }
    store.close().await.unwrap();
    let store = open(folder.path()).unwrap();
    one(&store, p2p(1, 2, "last")).await.unwrap();
    crashed(folder.path())
}

#[tokio::test]
async fn an_entry_in_the_place_of_a_file_is_refused() {
    let pristine = store().await;
    let found = files(pristine.path());
    let mut names: Vec<PathBuf> = found
        .iter()
        .map(|(path, _)| path.strip_prefix(pristine.path()).unwrap().to_owned())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.iter().any(|part| part == "tables"))
    );
    // These files exist only for a while.
    names.extend(
        [
            "making",
            "0.jnl.kept",
            "format.new",
            "id.new",
            "boot.new",
            "engine/9.jnl",
        ]
        .map(PathBuf::from),
    );
    for name in &names {
        for plant in PLANTS {
            // A hard link in the place of a table is allowed: tables are never overwritten, and a backup may share them.
            if matches!(plant, Plant::HardLink) && name.iter().any(|part| part == "tables") {
                continue;
            }
            let (copy, elsewhere) = (crashed(pristine.path()), tempfile::tempdir().unwrap());
            plant.put(&copy.path().join(name), elsewhere.path());
            let before = files(elsewhere.path());
            refused(
                copy.path(),
                name,
                &format!("{} as {plant:?}", name.display()),
            );
            assert_eq!(
                files(elsewhere.path()),
                before,
                "{} as {plant:?}",
                name.display()
            );
        }
    }
}

#[tokio::test]
async fn an_entry_in_the_place_of_a_folder_is_refused() {
    let pristine = store().await;
    for name in [
        "engine",
        "engine/keyspaces",
        "engine/keyspaces/0",
        "engine/keyspaces/1/tables",
    ] {
        for plant in ["link", "file", "pipe"] {
            let (copy, elsewhere) = (crashed(pristine.path()), tempfile::tempdir().unwrap());
            let path = copy.path().join(name);
            fs::rename(&path, elsewhere.path().join("theirs")).unwrap();
            match plant {
                "link" => symlink(elsewhere.path().join("theirs"), &path).unwrap(),
                "file" => fs::write(&path, "").unwrap(),
                _ => mkfifo(&path, Mode::S_IRWXU).unwrap(),
            }
            let before = files(elsewhere.path());
            refused(
                copy.path(),
                Path::new(name),
                &format!("{name} as a {plant}"),
            );
            assert_eq!(files(elsewhere.path()), before, "{name} as a {plant}");
        }
    }
}

/// Users put the folder on another disk, and a link in its place.
#[tokio::test]
async fn the_folder_itself_may_be_a_link() {
    let pristine = store().await;
    let beside = tempfile::tempdir().unwrap();
    let link = beside.path().join("data");
    symlink(pristine.path(), &link).unwrap();
    let store = open(&link).unwrap();
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 401);
    one(&store, p2p(1, 2, "more")).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(Inspection::open(&link).unwrap().check().wrong, 0);
    let mode = fs::metadata(pristine.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// Opens a handle on a folder and on everything in it.
fn handles(folder: &Path) -> Vec<(PathBuf, fs::File)> {
    let mut found = vec![folder.to_owned()];
    let mut handles = Vec::new();
    while let Some(path) = found.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
        let handle = fs::File::open(&path).unwrap();
        handles.push((path, handle));
    }
    handles
}

/// The files of the older folder are looked at through handles that were opened before the store. In a library the engine
/// creates its files with the permissions of the process, also in the background, and only the folder keeps others from them.
#[tokio::test]
async fn an_older_folder_is_closed_to_other_users() {
    let pristine = store().await;
    for (folder, file) in [(0o755, 0o644), (0o777, 0o666), (0o2770, 0o640)] {
        let copy = crashed(pristine.path());
        let loosen = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        loosen(copy.path(), folder);
        for (path, _) in files(copy.path()) {
            loosen(path.parent().unwrap(), folder);
            loosen(&path, file);
        }
        let handles = handles(copy.path());
        let store = open(copy.path()).unwrap();
        for (path, handle) in handles {
            let metadata = handle.metadata().unwrap();
            let is_removed = metadata.nlink() == 0;
            let mode = metadata.permissions().mode();
            assert!(is_removed || mode & 0o077 == 0, "{path:?}: {mode:o}");
        }
        drop(store);
    }
}

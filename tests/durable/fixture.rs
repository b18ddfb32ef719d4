//! What the tests of the durable store share: opening one, reading it, and copies of its folder as a crash would leave it.
//!
//! [`crashed`] is what most tests here begin with: it copies the folder of a running store, as `kill -9` would leave
//! it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use imd::config;
use imd::id::{Uid, Version};
use imd::store::{DurableStore, Entry, Kind, MessageStore, OpenError, PageLimit, Rejected, Write};
use tempfile::TempDir;

use crate::writes::text_of;
pub use crate::writes::{ack, create, join, p2p, register, to_group};

/// A page of the whole inbox.
pub const ALL: PageLimit = PageLimit {
    entries: 0,
    bytes: usize::MAX,
};

/// Opens a store with the default config.
pub fn open(path: &Path) -> Result<DurableStore, OpenError> {
    DurableStore::open(path, &config::Store::default())
}

/// Opens a store with the smallest buffer, so that a few messages are enough for a table.
pub fn open_small(path: &Path) -> DurableStore {
    let config = config::Store {
        buffer: 1 << 16,
        ..config::Store::default()
    };
    DurableStore::open(path, &config).unwrap()
}

/// Commits one write, and returns whether it was accepted.
pub async fn one(store: &DurableStore, write: Write) -> Result<(), Rejected> {
    store.commit(vec![write]).await.unwrap().accepted()[0]
}

/// Returns the entries of an inbox as (version, kind, source, msgID), and checks their texts.
pub async fn inbox(store: &DurableStore, uid: i64) -> Vec<(i64, Kind, i64, String)> {
    let row = |entry: Entry| {
        let message = &entry.message;
        let text = match message.kind {
            Kind::Ack => String::new(),
            Kind::P2p | Kind::Group => text_of(&message.msg_id().to_string()),
        };
        assert_eq!(message.text(), text);
        (
            entry.version.0,
            message.kind,
            message.source.0,
            message.msg_id().to_string(),
        )
    };
    let page = store.read_page(Uid(uid), Version(0), ALL).await.unwrap();
    page.entries.into_iter().map(row).collect()
}

/// Copies the folder of a running store as `kill -9` would leave it. The room that the engine has reserved at the end of a
/// journal is left out.
pub fn crashed(folder: &Path) -> TempDir {
    loop {
        let copy = tempfile::tempdir().unwrap();
        let before = names(folder);
        // The engine may add or remove a file while the folder is copied. Such a copy is a state that no kill leaves.
        if copy_into(folder, copy.path()).is_ok() && names(folder) == before {
            return copy;
        }
    }
}

/// Copies a folder with everything in it, without the reserved room of its journals.
pub fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_into(&entry.path(), &target)?;
        } else {
            let mut bytes = fs::read(entry.path())?;
            if target.extension().is_some_and(|ext| ext == "jnl") {
                // The room is long, so most of it is cut off in large steps.
                while bytes.ends_with(&[0; 1 << 16]) {
                    bytes.truncate(bytes.len() - (1 << 16));
                }
                let end = bytes.iter().rposition(|&byte| byte != 0);
                bytes.truncate(end.map_or(0, |end| end + 1));
            }
            fs::write(target, bytes)?;
        }
    }
    Ok(())
}

/// Returns the paths of everything in a folder.
fn names(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found.extend(names(&entry.path()));
        found.push(entry.path());
    }
    found.sort();
    found
}

/// Returns every file in a folder with its contents.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Returns the path of the newest journal.
pub fn journal(folder: &Path) -> PathBuf {
    let mut journals = files(&folder.join("engine"));
    journals.retain(|(path, _)| path.extension().is_some_and(|ext| ext == "jnl"));
    journals.pop().unwrap().0
}

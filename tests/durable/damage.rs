//! Damaged files of the durable store: a flipped bit anywhere is reported as an error, or changes nothing that is read.
//!
//! The bits are random; `IMD_SEED` repeats a run, and `FLIPS` sets the number of bits for each file. Files that are
//! missing or cut short are tested in `folder`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use imd::config;
use imd::id::{Uid, Version};
use imd::store::{
    CompactError, DurableStore, Entry, InboxState, Inspection, Item, MessageStore, StoreAdmin,
    StoreError, Write,
};
use rand::RngExt;

use crate::fixture::{
    ALL, copy_into, crashed, create, files, join, one, open_small, p2p, to_group,
};
use crate::seed::chance;

const USERS: i64 = 8;
const GROUP: i64 = 77;

/// Everything that a client of one user can see.
#[derive(Debug, PartialEq)]
struct InboxView {
    state: InboxState,
    entries: Vec<Entry>,
}

async fn view(store: &DurableStore, uid: i64) -> Result<InboxView, StoreError> {
    Ok(InboxView {
        state: store.inbox_state(Uid(uid)).await?,
        entries: store.read_page(Uid(uid), Version(0), ALL).await?.entries,
    })
}

/// Returns the messages of which the folder is made.
fn writes() -> Vec<Write> {
    let mut writes = Vec::new();
    for n in 0..1_500 {
        let (source, target) = (1 + n % USERS, 1 + (n * 3 + 1) % USERS);
        writes.push(p2p(source, target, &format!("p{n}")));
        if n % 5 == 0 {
            writes.push(to_group(1 + n % USERS, GROUP, &format!("g{n}")));
        }
    }
    writes
}

/// Returns a folder with tables and journals, as a crash would leave it, and the inboxes that it holds.
async fn folder() -> (tempfile::TempDir, BTreeMap<i64, InboxView>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open_small(folder.path());
    one(&store, create(GROUP, 1)).await.unwrap();
    store
        .commit((2..=USERS).map(|uid| join(GROUP, uid)).collect())
        .await
        .unwrap();
    for batch in writes().chunks(9) {
        store.commit(batch.to_vec()).await.unwrap();
    }
    let mut seen = BTreeMap::new();
    for uid in 1..=USERS {
        store
            .read_page(Uid(uid), Version(50 + uid), ALL)
            .await
            .unwrap();
        // The last thing on the disk must be a commit, because a read mark alone is not synced.
        one(&store, p2p(uid, uid, "last")).await.unwrap();
        seen.insert(uid, view(&store, uid).await.unwrap());
    }
    for uid in 1..=USERS {
        seen.insert(uid, view(&store, uid).await.unwrap());
    }
    (crashed(folder.path()), seen)
}

/// Opens a folder and reads everything. Returns what was read wrongly; errors are allowed.
async fn check_reads(path: &Path, expected: &BTreeMap<i64, InboxView>) -> Result<(), String> {
    let Ok(store) = DurableStore::open(path, &config::Store::default()) else {
        return Ok(());
    };
    for (&uid, expected) in expected {
        if let Ok(seen) = view(&store, uid).await
            && seen != *expected
        {
            let (found, stored) = (seen.entries.len(), expected.entries.len());
            return Err(format!(
                "user {uid}: {found} of {stored} entries, state {:?}",
                seen.state
            ));
        }
    }
    // Messages that are stored already must not be stored again.
    for write in writes() {
        let _ = store.commit(vec![write]).await;
    }
    for (&uid, expected) in expected {
        if let Ok(state) = store.inbox_state(Uid(uid)).await
            && state.total != expected.state.total
        {
            return Err(format!("user {uid}: stored again, state {state:?}"));
        }
    }
    let _ = store.close().await;
    Ok(())
}

/// Flips one bit of a file in a copy of the folder, and checks what the copy serves.
async fn flip(
    pristine: &Path,
    expected: &BTreeMap<i64, InboxView>,
    file: &Path,
    bit: usize,
) -> Result<(), String> {
    let copy = tempfile::tempdir().unwrap();
    copy_into(pristine, copy.path()).unwrap();
    let path = copy.path().join(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(&path, bytes).unwrap();
    let checked = check_reads(copy.path(), expected).await;
    checked.map_err(|wrong| format!("bit {bit} of {}: {wrong}", file.display()))
}

#[tokio::test]
async fn a_flipped_bit_is_noticed_or_harmless() {
    let (pristine, expected) = folder().await;
    check_reads(crashed(pristine.path()).path(), &expected)
        .await
        .unwrap();
    let mut random = chance();
    let mut tables = 0;
    let mut wrong = Vec::new();
    for (path, bytes) in files(pristine.path()) {
        let file = path.strip_prefix(pristine.path()).unwrap();
        tables += usize::from(file.iter().any(|part| part == "tables"));
        if bytes.is_empty() {
            continue;
        }
        for _ in 0..std::env::var("FLIPS").map_or(6, |n| n.parse().unwrap()) {
            let bit = random.random_range(0..bytes.len() * 8);
            wrong.extend(flip(pristine.path(), &expected, file, bit).await.err());
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(tables >= 2, "there were tables to flip bits in");
}

#[tokio::test]
async fn a_compaction_that_fails_leaves_no_tables_behind() {
    let (pristine, _) = folder().await;
    // Everything in tables, so that the damage is not in a journal.
    open_small(pristine.path()).close().await.unwrap();
    let tables = || files(&pristine.path().join("engine/keyspaces/1/tables"));
    let (last, bytes) = tables()
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() * 2 / 3] ^= 1;
    fs::write(&last, flipped).unwrap();
    // A table that is older than the mark is not read through at the start.
    let mark = fs::File::options()
        .write(true)
        .open(pristine.path().join("mark"));
    let later = SystemTime::now() + Duration::from_secs(3_600);
    mark.unwrap().set_modified(later).unwrap();
    let before = tables();
    let failed = Inspection::compact(pristine.path()).unwrap_err();
    assert!(matches!(failed, CompactError::Failed(_)), "{failed}");
    assert!(tables() == before, "{failed}");
}

#[tokio::test]
async fn a_check_and_a_dump_go_on_behind_an_unreadable_block() {
    let (pristine, expected) = folder().await;
    // A close writes everything into tables. So the damage below is not in a journal, where the open would find it.
    open_small(pristine.path()).close().await.unwrap();
    let tables = files(&pristine.path().join("engine/keyspaces/1/tables"));
    let (largest, bytes) = tables
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    fs::write(&largest, flipped).unwrap();

    let inspection = Inspection::open(pristine.path()).unwrap();
    let findings = inspection.check();
    assert!(findings.wrong > 0 && !findings.problems.is_empty());
    let all: usize = expected.values().map(|seen| seen.entries.len()).sum();
    let mut entries = 0;
    let problems = inspection.dump(None, |item| {
        entries += usize::from(matches!(item, Item::Entry { .. }));
        Ok::<_, ()>(())
    });
    assert!(!problems.unwrap().is_empty());
    assert!(entries > 0 && entries <= all, "{entries} of {all}");
}

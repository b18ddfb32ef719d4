//! Tests a folder of format 1. The test makes it record by record, because no program writes this format any more.

use super::*;

/// Writes a folder as format 1 had it: commits, checkpoint and folder without an id.
fn write_format_1(path: &Path, commits: u64) {
    let engine = Engine::open(&path.join("engine"), config::Store::default().buffer).unwrap();
    let user = UserRecord {
        name: "ann".into(),
        password_hash: "hash".into(),
    };
    for commits in 1..=commits {
        let uid = i64::try_from(commits).unwrap();
        let state = StateRecord {
            last_commit: commits,
            ..StateRecord::default()
        };
        let (key, mut scratch) = (record::user_key(Uid(uid)), Vec::new());
        let changes = vec![
            (key.clone(), Some(user.seal(&key, &mut scratch))),
            (
                record::STATE.into(),
                Some(state.seal(record::STATE, &mut scratch)),
            ),
        ];
        engine.write(changes).unwrap();
    }
    engine.sync().unwrap();
    let mut file = CheckpointFile::open(path).unwrap();
    let checkpoint = checkpoint::Checkpoint {
        synced: commits,
        written: commits,
        store_id: 0,
    };
    file.write(checkpoint).unwrap();
    file.write(checkpoint).unwrap();
    std::fs::write(path.join("format"), "imd store, format 1\n").unwrap();
}

#[tokio::test]
async fn a_folder_of_format_1_gets_an_id_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    write_format_1(folder.path(), 3);
    // An inspection of the folder changes nothing.
    assert_eq!(Inspection::open(folder.path()).unwrap().check().users, 3);
    assert!(!folder.path().join("id").exists());

    let store = DurableStore::open(folder.path(), &config::Store::default()).unwrap();
    assert_eq!(store.users(Uid(0), 10).await.unwrap().len(), 3);
    assert_eq!(send(&store, "a").await, Ok(()));
    store.close().await.unwrap();
    let format = std::fs::read_to_string(folder.path().join("format")).unwrap();
    assert_eq!(format, "imd store, format 3\n");
    let store = DurableStore::open(folder.path(), &config::Store::default()).unwrap();
    assert_eq!(store.users(Uid(0), 10).await.unwrap().len(), 3);
    store.close().await.unwrap();

    // Once the store has an id, a journal without one is foreign.
    let older = tempfile::tempdir().unwrap();
    write_format_1(older.path(), 9);
    let journal = Path::new("engine").join("0.jnl");
    std::fs::copy(older.path().join(&journal), folder.path().join(&journal)).unwrap();
    let refused = DurableStore::open(folder.path(), &config::Store::default()).map(drop);
    assert!(
        matches!(&refused, Err(OpenError::Foreign { entry, found: 0, .. }) if *entry == journal),
        "{refused:?}"
    );
}

//! Tests that every message is stored once, whether its id is ordered or has a record. Ids are ordered if they are as the server
//! makes them; these have no records of their own.

use super::*;
use crate::idgen::TIME_SHIFT;
use crate::store::{KEEP_IDS, WriteOutcome};

/// The time at which messages are sent, in Unix milliseconds.
const NOW: i64 = 1_700_000_000_000;

/// Returns an id as the server makes it, `ms` milliseconds after [`NOW`].
fn server_id(ms: i64) -> String {
    ((NOW + ms) << TIME_SHIFT).to_string()
}

fn to_2(source: i64, id: &str, sent_at: i64) -> Write {
    let message = Message::new(Kind::P2p, Uid(source), None, MsgId(id), "hello", sent_at);
    Write::P2p {
        target: Uid(2),
        message: message.into(),
    }
}

/// A message of user 2 to user 1, who may accept it.
fn to_1(id: &str) -> Write {
    let message = Message::new(Kind::P2p, Uid(2), None, MsgId(id), "hello", NOW);
    Write::P2p {
        target: Uid(1),
        message: message.into(),
    }
}

/// An ack to user 2, whose message is accepted.
fn ack(source: i64, id: &str) -> Write {
    let message = Message::new(Kind::Ack, Uid(source), None, MsgId(id), "", NOW);
    Write::Ack {
        target: Uid(2),
        message: message.into(),
    }
}

fn open_store(path: &Path, max_inbox: Option<u64>) -> DurableStore {
    let config = config::Store {
        max_inbox,
        ..config::Store::default()
    };
    DurableStore::open(path, &config).unwrap()
}

/// Commits one write, and returns whether it was new.
async fn is_new(store: &DurableStore, write: Write) -> bool {
    let committed = store.commit(vec![write]).await.unwrap();
    match committed.results[0].as_ref().unwrap() {
        WriteOutcome::Stored { .. } => true,
        WriteOutcome::Duplicate => false,
        other => panic!("{other:?}"),
    }
}

/// Returns the keys of all records of a kind.
fn keys(store: &DurableStore, kind: u8) -> Vec<Vec<u8>> {
    let engine = store.shared.engine.read();
    let found = engine.as_ref().unwrap().view().prefix(&[kind]);
    found.map(|found| found.unwrap().0.to_vec()).collect()
}

fn id_records(store: &DurableStore) -> usize {
    keys(store, record::tag::MESSAGE_ID).len()
}

/// Returns the state that the last commit has left.
fn state(store: &DurableStore) -> StateRecord {
    let engine = store.shared.engine.read();
    engine.as_ref().unwrap().view().state().unwrap()
}

fn highest_recorded_id(store: &DurableStore) -> String {
    state(store).highest_recorded_id.to_string()
}

/// Writes records as no commit would.
fn write(store: &DurableStore, changes: Vec<engine::Change>) {
    let engine = store.shared.engine.read();
    let engine = engine.as_ref().unwrap();
    engine.write(changes).unwrap();
    engine.sync().unwrap();
    engine.publish();
}

/// Closes a store, checks its folder, and opens it again.
async fn reopened(store: DurableStore, path: &Path, max_inbox: Option<u64>) -> DurableStore {
    store.close().await.unwrap();
    drop(store);
    let findings = Inspection::open(path).unwrap().check();
    assert_eq!((findings.wrong, findings.problems), (0, vec![]));
    open_store(path, max_inbox)
}

#[tokio::test]
async fn a_message_with_an_id_of_the_server_has_one_record_and_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_store(folder.path(), None);
    for ms in 1..=40 {
        assert!(is_new(&store, to_2(1, &server_id(ms), NOW)).await);
    }
    assert_eq!(id_records(&store), 0);
    for _ in 0..2 {
        for ms in 1..=40 {
            assert!(!is_new(&store, to_2(1, &server_id(ms), NOW)).await, "{ms}");
        }
        store = reopened(store, folder.path(), None).await;
    }
    // Also within one commit.
    let twice = vec![to_2(1, &server_id(50), NOW), to_2(1, &server_id(50), NOW)];
    let committed = store.commit(twice).await.unwrap();
    assert_eq!(committed.results[1], Ok(WriteOutcome::Duplicate));
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 41);
}

#[tokio::test]
async fn ids_of_every_kind_stand_in_one_inbox() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_store(folder.path(), None);
    let create = Write::CreateGroup {
        group: GroupId(9),
        name: "team".into(),
        owner: Uid(1),
        members: vec![Uid(2), Uid(3)],
        made_at: NOW,
    };
    store.commit(vec![create]).await.unwrap();
    let to_group = |id: &str| {
        let group = Some(GroupId(9));
        let message = Message::new(Kind::Group, Uid(1), group, MsgId(id), "all", NOW);
        Write::Group {
            message: message.into(),
        }
    };
    // Each round sends an ordered id, a lower one, a client's text, a group's id, an accepted message, a number that is far from
    // the time, and the first id from another user.
    let writes = |ms: i64| {
        vec![
            to_2(1, &server_id(ms), NOW),
            to_2(1, &server_id(ms - 3), NOW),
            to_2(1, &format!("client {ms}"), NOW),
            to_group(&server_id(ms + 1)),
            to_1(&server_id(ms)),
            ack(1, &server_id(ms)),
            to_2(1, &ms.to_string(), NOW),
            to_2(3, &server_id(ms), NOW),
        ]
    };
    for ms in (10..300).step_by(10) {
        for write in writes(ms) {
            let committed = store.commit(vec![write.clone()]).await.unwrap();
            assert_ne!(
                committed.results[0],
                Ok(WriteOutcome::Duplicate),
                "{write:?}"
            );
        }
    }
    let total = store.inbox_state(Uid(2)).await.unwrap().total;
    for _ in 0..2 {
        for write in (10..300).step_by(10).flat_map(writes) {
            let committed = store.commit(vec![write.clone()]).await.unwrap();
            assert_eq!(
                committed.results[0],
                Ok(WriteOutcome::Duplicate),
                "{write:?}"
            );
        }
        store = reopened(store, folder.path(), None).await;
    }
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, total);
}

#[tokio::test]
async fn an_id_that_a_client_has_foreseen_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_store(folder.path(), None);
    // Far ahead of its message, so it has a record. Later the server gives it.
    let later = 2 * 3_600_000;
    assert!(is_new(&store, to_2(1, &server_id(later), NOW)).await);
    assert_eq!(id_records(&store), 1);
    store = reopened(store, folder.path(), None).await;
    assert!(is_new(&store, to_2(1, &server_id(5), NOW)).await);
    assert!(!is_new(&store, to_2(1, &server_id(later), NOW + later)).await);
    assert!(is_new(&store, to_2(1, &server_id(later + 1), NOW + later)).await);
    assert_eq!(id_records(&store), 1);
    assert_eq!(highest_recorded_id(&store), server_id(later));
    // A check notices when the number is too low: nobody would look for the id then.
    let state = StateRecord {
        highest_recorded_id: 7,
        ..state(&store)
    };
    write(&store, vec![state.change()]);
    store.close().await.unwrap();
    let findings = Inspection::open(folder.path()).unwrap().check();
    assert!(
        findings.problems[0].contains("and the state says up to 7"),
        "{findings:?}"
    );
}

#[tokio::test]
async fn a_folder_of_format_2_is_upgraded_with_its_highest_id() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path(), None);
    let later = 2 * 3_600_000;
    for id in [server_id(later), "1".into(), "text".into()] {
        assert!(is_new(&store, to_2(1, &id, NOW)).await);
    }
    // This is all that format 2 lacks.
    let state = StateRecord {
        highest_recorded_id: 0,
        ..state(&store)
    };
    write(&store, vec![state.change()]);
    store.close().await.unwrap();
    std::fs::write(folder.path().join("format"), "imd store, format 2\n").unwrap();
    // A check upgrades its own copy.
    assert_eq!(Inspection::open(folder.path()).unwrap().check().wrong, 0);

    let store = open_store(folder.path(), None);
    assert_eq!(highest_recorded_id(&store), server_id(later));
    assert!(!is_new(&store, to_2(1, &server_id(later), NOW + later)).await);
    let store = reopened(store, folder.path(), None).await;
    assert!(!is_new(&store, to_2(1, "1", NOW)).await);
}

#[tokio::test]
async fn a_snapshot_has_ordered_ids_and_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path(), Some(3));
    let later = 2 * 3_600_000;
    let ids = [server_id(1), server_id(2), server_id(later), server_id(3)];
    for id in &ids {
        assert!(is_new(&store, to_2(1, id, NOW)).await);
    }
    assert_eq!(store.clean(NOW).await.unwrap(), 1);
    let snapshot = store.snapshot(usize::MAX).await.unwrap();
    store.replace(Snapshot::default()).await.unwrap();
    assert_eq!(highest_recorded_id(&store), "0");
    store.replace(snapshot.clone()).await.unwrap();
    assert!(store.snapshot(usize::MAX).await.unwrap() == snapshot);
    for id in &ids {
        assert!(!is_new(&store, to_2(1, id, NOW)).await, "{id}");
    }
    let store = reopened(store, folder.path(), Some(3)).await;
    assert_eq!(highest_recorded_id(&store), server_id(later));
    assert!(is_new(&store, to_2(1, &server_id(4), NOW)).await);
    assert!(!is_new(&store, to_2(1, &server_id(4), NOW)).await);
}

#[tokio::test]
async fn an_inbox_that_was_emptied_remembers_its_young_ids() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path(), None);
    for ms in 1..=3 {
        assert!(is_new(&store, to_2(1, &server_id(ms), NOW)).await);
    }
    let removed = store.ask(|answer| Job::Trim {
        generation: 0,
        uid: Uid(2),
        through: Version(3),
        now: NOW,
        answer,
    });
    assert_eq!(removed.await.unwrap().unwrap(), 3);
    for ms in 1..=3 {
        assert!(!is_new(&store, to_2(1, &server_id(ms), NOW)).await, "{ms}");
    }
    // Without the cache, nothing tells which ids the inbox had.
    store.shared.forget_recent();
    for ms in 1..=3 {
        assert!(!is_new(&store, to_2(1, &server_id(ms), NOW)).await, "{ms}");
    }
    assert!(is_new(&store, to_2(1, &server_id(4), NOW)).await);
    let store = reopened(store, folder.path(), None).await;
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 4);
}

#[tokio::test]
async fn a_damaged_newest_entry_stops_only_what_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path(), None);
    for ms in 1..=3 {
        assert!(is_new(&store, to_2(1, &server_id(ms), NOW)).await);
    }
    let key = record::entry_key(Uid(2), Version(3));
    write(&store, vec![(key, Some(b"damaged".as_slice().into()))]);
    store.shared.forget_recent();
    assert!(is_new(&store, to_2(1, "text", NOW)).await);
    let reply = store.commit(vec![to_2(1, &server_id(3), NOW)]).await;
    assert_eq!(reply.unwrap().results, [Err(Rejected::Unreadable)]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_id_of_a_removed_message_is_remembered_for_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_store(folder.path(), Some(1));
    for ms in 1..=10 {
        assert!(is_new(&store, to_2(1, &server_id(ms), NOW)).await);
    }
    assert_eq!(store.clean(NOW).await.unwrap(), 9);
    assert_eq!(id_records(&store), 9);
    for _ in 0..2 {
        for ms in 1..=10 {
            assert!(!is_new(&store, to_2(1, &server_id(ms), NOW)).await, "{ms}");
        }
        store = reopened(store, folder.path(), Some(1)).await;
    }
    let keep_ids = i64::try_from(KEEP_IDS.as_millis()).unwrap();
    store.clean(NOW + keep_ids + 1).await.unwrap();
    assert_eq!(id_records(&store), 0);
    assert!(is_new(&store, to_2(1, &server_id(1), NOW)).await);
    // An old message is forgotten with its id at once.
    store.clean(NOW + keep_ids + 1).await.unwrap();
    assert_eq!(id_records(&store), 1);
    reopened(store, folder.path(), Some(1)).await;
}

#[tokio::test]
async fn a_message_with_an_id_of_the_server_can_be_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_store(folder.path(), None);
    for ms in 1..=20 {
        assert!(is_new(&store, to_1(&server_id(ms))).await);
    }
    let reply = store.commit(vec![ack(1, &server_id(21))]).await.unwrap();
    assert_eq!(reply.results, [Err(Rejected::NoSuchMessage)]);
    for ms in 1..=10 {
        assert!(is_new(&store, ack(1, &server_id(ms))).await, "{ms}");
    }
    store = reopened(store, folder.path(), None).await;
    for ms in 11..=20 {
        assert!(is_new(&store, ack(1, &server_id(ms))).await, "{ms}");
        assert!(!is_new(&store, ack(1, &server_id(ms))).await, "{ms}");
    }
    // User 3 has received nothing.
    let reply = store.commit(vec![ack(3, &server_id(3))]).await.unwrap();
    assert_eq!(reply.results, [Err(Rejected::NoSuchMessage)]);
    reopened(store, folder.path(), None).await;
}

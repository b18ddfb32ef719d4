//! What needs a seam: a disk without room, formats that are no more, and pages from memory beside those of the engine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use futures_util::future::BoxFuture;
use proptest::prelude::*;

use super::record::Record;
use super::writer::{ASK_AFTER, MAX_COST, PLENTY};
use super::*;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{Kind, Message, Rejected};

const FLOOR: u64 = 1_000;

/// Generous: it is only ever used up by a failure.
const PATIENCE: Duration = Duration::from_secs(120);

fn message(source: Uid, id: &str) -> Message {
    Message::new(Kind::P2p, source, None, MsgId(id), "hello", 1)
}

fn p2p(source: Uid, target: Uid, id: &str) -> Write {
    Write::P2p {
        target,
        message: message(source, id).into(),
    }
}

/// A store on a disk with as much room as the number says.
fn open(path: &Path, room: &Arc<AtomicU64>) -> DurableStore {
    let config = config::Store {
        min_free: FLOOR,
        max_inbox: Some(1),
        ..config::Store::default()
    };
    let room = Arc::clone(room);
    DurableStore::open_with(
        path,
        &config,
        Arc::new(move |_| Ok(room.load(Ordering::SeqCst))),
    )
    .unwrap()
}

/// Holds the writer of a store: it asks for room before it takes up what waits.
struct Gate {
    asks: Receiver<()>,
    go: Sender<()>,
}

impl Gate {
    fn open(path: &Path) -> (DurableStore, Gate) {
        let (asking, asks) = channel();
        let (go, goes) = channel();
        let goes = Mutex::new(goes);
        let room = move |_: &Path| {
            // Without the gate the writer just goes on.
            let _ = asking.send(());
            let _ = goes.lock().recv();
            Ok(FLOOR)
        };
        let config = config::Store {
            min_free: FLOOR,
            ..config::Store::default()
        };
        let store = DurableStore::open_with(path, &config, Arc::new(room)).unwrap();
        (store, Gate { asks, go })
    }

    /// Waits until the writer stands at the gate: then it has answered whatever it did before.
    fn wait(&self) {
        self.asks.recv_timeout(PATIENCE).unwrap();
    }

    /// Two commits that the writer does as one; it answers the second, which holds the answer of the first.
    async fn hold_two<'a>(
        &self,
        store: &'a DurableStore,
    ) -> [BoxFuture<'a, Result<Committed, StoreError>>; 2] {
        let mut one = store.commit(vec![p2p(Uid(1), Uid(2), "a")]);
        let mut holder = store.commit(vec![p2p(Uid(1), Uid(2), "b")]);
        assert!(futures_util::poll!(&mut one).is_pending());
        self.wait();
        assert!(futures_util::poll!(&mut holder).is_pending());
        [one, holder]
    }

    fn let_go(&self) {
        self.go.send(()).unwrap();
    }
}

async fn send(store: &DurableStore, id: &str) -> Result<(), Rejected> {
    store
        .commit(vec![p2p(Uid(1), Uid(2), id)])
        .await
        .unwrap()
        .accepted()[0]
}

const ALL: PageLimit = PageLimit {
    entries: 0,
    bytes: usize::MAX,
};

#[tokio::test]
async fn without_room_nothing_is_stored_and_everything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let room = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &room);
    assert_eq!(send(&store, "a").await, Ok(()));
    assert_eq!(send(&store, "b").await, Ok(()));

    room.store(FLOOR - 1, Ordering::SeqCst);
    assert_eq!(send(&store, "c").await, Err(Rejected::DiskFull));
    // Read marks are small, and the room below the floor is for them.
    assert_eq!(
        store
            .sync(Uid(2), Version(1), ALL)
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().read, 1);
    // Removing is what gives room in the end.
    assert_eq!(store.clean(2).await.unwrap(), 1);

    room.store(0, Ordering::SeqCst);
    assert_eq!(store.sync(Uid(2), Version(2), ALL).await.unwrap().total, 2);
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().read, 1);
    assert_eq!(store.user(Uid(2)).await.unwrap(), None);
    assert_eq!(store.clean(2).await.unwrap(), 0);

    room.store(FLOOR, Ordering::SeqCst);
    assert_eq!(send(&store, "c").await, Ok(()));
    assert_eq!(store.sync(Uid(2), Version(2), ALL).await.unwrap().total, 3);
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().read, 2);
    store.close().await.unwrap();
}

#[tokio::test]
async fn without_room_nothing_is_loaded_and_everything_can_go() {
    let folder = tempfile::tempdir().unwrap();
    let room = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &room);
    send(&store, "a").await.unwrap();
    let snapshot = store.snapshot(usize::MAX).await.unwrap();
    send(&store, "b").await.unwrap();
    for free in [FLOOR - 1, 0] {
        room.store(free, Ordering::SeqCst);
        let refused = store.replace(snapshot.clone()).await;
        assert!(matches!(refused, Err(ReplaceError::Full)), "{refused:?}");
        assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 2);
    }
    let refused = store.replace(Snapshot::default()).await;
    assert!(matches!(refused, Err(ReplaceError::Full)), "{refused:?}");
    room.store(FLOOR - 1, Ordering::SeqCst);
    store.replace(Snapshot::default()).await.unwrap();
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 0);
    room.store(FLOOR, Ordering::SeqCst);
    store.replace(snapshot).await.unwrap();
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1);
}

#[tokio::test]
async fn where_there_is_plenty_a_disk_that_fills_up_is_seen_soon() {
    const BIG: usize = 64 << 10;
    let folder = tempfile::tempdir().unwrap();
    let room = Arc::new(AtomicU64::new(FLOOR + PLENTY));
    let store = open(folder.path(), &room);
    let big = |n: usize| {
        let message = message(Uid(1), &n.to_string()).with_text(&"x".repeat(BIG));
        Write::P2p {
            target: Uid(2),
            message: message.into(),
        }
    };
    for round in [0, 1_000] {
        room.store(FLOOR + PLENTY, Ordering::SeqCst);
        assert_eq!(send(&store, &format!("first of {round}")).await, Ok(()));
        room.store(FLOOR - 1, Ordering::SeqCst);
        let mut stored = 0;
        let refused = loop {
            let committed = store.commit(vec![big(round + stored)]).await.unwrap();
            match committed.accepted()[0] {
                Ok(()) => stored += 1,
                Err(rejected) => break rejected,
            }
            assert!(stored <= ASK_AFTER / BIG + 1);
        };
        assert_eq!(refused, Rejected::DiskFull);
    }
    // However little is written, it is looked again after a while.
    room.store(FLOOR + PLENTY, Ordering::SeqCst);
    assert_eq!(send(&store, "small").await, Ok(()));
    room.store(FLOOR - 1, Ordering::SeqCst);
    // Nothing is written for a message that is there already, so that it is the time that ends this.
    let refused = async {
        loop {
            if let Err(rejected) = send(&store, "small").await {
                break rejected;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await;
    assert_eq!(refused, Ok(Rejected::DiskFull));
    store.close().await.unwrap();
}

#[tokio::test]
async fn who_holds_the_answer_of_another_may_go_before_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = Gate::open(folder.path());
    let [one, holder] = gate.hold_two(&store).await;
    drop(holder);
    gate.let_go();
    let answered = tokio::time::timeout(PATIENCE, one).await;
    assert_eq!(answered.unwrap().unwrap().grown_inboxes[0].total, 1);
    // What was submitted is done, whoever waits for it.
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 2);
    drop(gate);
    store.close().await.unwrap();
}

#[tokio::test]
async fn who_holds_the_answer_of_another_may_go_before_taking_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = Gate::open(folder.path());
    let [mut one, holder] = gate.hold_two(&store).await;
    gate.let_go();
    // From then on the commit takes in nothing more.
    while store.inbox_state(Uid(2)).await.unwrap().total < Version(2) {
        tokio::task::yield_now().await;
    }
    let mut next = store.commit(vec![p2p(Uid(1), Uid(2), "c")]);
    assert!(futures_util::poll!(&mut next).is_pending());
    gate.wait();
    // Both are done; the one that was told has not looked yet.
    assert!(futures_util::poll!(&mut one).is_pending());
    drop(holder);
    let answered = tokio::time::timeout(PATIENCE, one).await;
    assert_eq!(answered.unwrap().unwrap().grown_inboxes[0].total, 1);
    gate.let_go();
    assert_eq!(next.await.unwrap().grown_inboxes[0].total, 3);
    drop(gate);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_cleaning_without_room_ends() {
    let folder = tempfile::tempdir().unwrap();
    let room = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &room);
    // More than is removed at once.
    let writes = (0..1_200).map(|n| p2p(Uid(1), Uid(2), &n.to_string()));
    store.commit(writes.collect()).await.unwrap();
    room.store(0, Ordering::SeqCst);
    assert_eq!(store.clean(2).await.unwrap(), 0);
    room.store(FLOOR, Ordering::SeqCst);
    assert_eq!(store.clean(2).await.unwrap(), 1_199);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_has_failed_answers_nothing_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    assert_eq!(send(&store, "a").await, Ok(()));
    let waits = store.failed();
    tokio::pin!(waits);
    assert!(futures_util::poll!(&mut waits).is_pending());

    let broken = io::Error::other("the disk is broken");
    store.shared.fail(broken.into());
    let why = "the store has failed: the disk is broken";
    assert_eq!(waits.await.to_string(), why);
    assert_eq!(store.failed().await.to_string(), why);
    let refused = store.commit(vec![p2p(Uid(1), Uid(2), "b")]).await;
    assert_eq!(refused.unwrap_err().to_string(), why);
    assert_eq!(
        store
            .sync(Uid(2), Version(0), ALL)
            .await
            .unwrap_err()
            .to_string(),
        why
    );
    assert_eq!(
        store
            .sync(Uid(2), Version(1), ALL)
            .await
            .unwrap_err()
            .to_string(),
        why
    );
    assert_eq!(
        store.inbox_state(Uid(2)).await.unwrap_err().to_string(),
        why
    );
    assert_eq!(store.close().await.unwrap_err().to_string(), why);
    // What was acknowledged is there.
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_dropped_lets_its_folder_go() {
    let folder = tempfile::tempdir().unwrap();
    let room = Arc::new(AtomicU64::new(FLOOR));
    let store = open(folder.path(), &room);
    assert_eq!(send(&store, "a").await, Ok(()));
    let gone = Arc::downgrade(&store.shared);
    drop(store);
    // Nobody waits for the writer; this does, and it has an end.
    tokio::time::timeout(PATIENCE, async {
        while gone.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let store = open(folder.path(), &room);
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_inbox_that_lacks_an_entry_is_an_error_and_no_other_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    let writes = ["a", "b", "c"].map(|id| p2p(Uid(1), Uid(2), id));
    store.commit(writes.to_vec()).await.unwrap();
    store.commit(vec![p2p(Uid(1), Uid(3), "a")]).await.unwrap();
    {
        let engine = store.shared.engine.read();
        let engine = engine.as_ref().unwrap();
        let gone = (record::inbox_key(Uid(2), Version(2)), None);
        engine.write(vec![gone]).unwrap();
        engine.publish();
        // Else nobody would ask the engine.
        store.shared.forget_recent();
    }
    for after in [0, 1] {
        let refused = store.sync(Uid(2), Version(after), ALL).await.unwrap_err();
        assert!(refused.to_string().contains("lacks version 2"), "{refused}");
    }
    assert_eq!(
        store
            .sync(Uid(2), Version(2), ALL)
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    assert_eq!(
        store
            .sync(Uid(3), Version(0), ALL)
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    store.close().await.unwrap();

    // Who looks into the folder is told, also by what is printed.
    let inspection = Inspection::open(folder.path()).unwrap();
    let findings = inspection.check();
    assert_eq!(findings.problems, ["the inbox of 2 lacks version 2"]);
    for (uid, problems) in [(None, 1), (Some(Uid(2)), 1), (Some(Uid(3)), 0)] {
        let found = inspection.dump(uid, |_| Ok::<_, ()>(())).unwrap();
        assert_eq!(found, findings.problems[..problems], "{uid:?}");
    }
}

/// Writes a folder as format 1 had it: commits, mark and folder without an id.
fn write_format_1(path: &Path, commits: u64) {
    let engine = Engine::open(&path.join("engine"), config::Store::default().buffer).unwrap();
    let user = UserRecord {
        name: "ann".into(),
        password_hash: "hash".into(),
    };
    for commits in 1..=commits {
        let uid = i64::try_from(commits).unwrap();
        let state = StateRecord {
            commits,
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
    let mut mark = Mark::open(path).unwrap();
    let reached = mark::Reached {
        synced: commits,
        written: commits,
        store: 0,
    };
    mark.write(reached).unwrap();
    mark.write(reached).unwrap();
    std::fs::write(path.join("format"), "imd store, format 1\n").unwrap();
}

#[tokio::test]
async fn a_folder_of_format_1_gets_an_id_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    write_format_1(folder.path(), 3);
    // To look at it changes nothing.
    assert_eq!(Inspection::open(folder.path()).unwrap().check().users, 3);
    assert!(!folder.path().join("id").exists());

    let store = DurableStore::open(folder.path(), &config::Store::default()).unwrap();
    assert_eq!(store.users(Uid(0), 10).await.unwrap().len(), 3);
    assert_eq!(send(&store, "a").await, Ok(()));
    store.close().await.unwrap();
    let format = std::fs::read_to_string(folder.path().join("format")).unwrap();
    assert_eq!(format, "imd store, format 2\n");
    let store = DurableStore::open(folder.path(), &config::Store::default()).unwrap();
    assert_eq!(store.users(Uid(0), 10).await.unwrap().len(), 3);
    store.close().await.unwrap();

    // From here on a journal without an id is a stranger.
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

#[tokio::test]
async fn a_disk_whose_room_is_not_known_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let is_known = Arc::new(AtomicU64::new(1));
    let room = {
        let is_known = Arc::clone(&is_known);
        move |_: &Path| match is_known.load(Ordering::SeqCst) {
            0 => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(FLOOR),
        }
    };
    let config = config::Store {
        min_free: FLOOR,
        ..config::Store::default()
    };
    let store = DurableStore::open_with(folder.path(), &config, std::sync::Arc::new(room)).unwrap();
    assert_eq!(send(&store, "a").await, Ok(()));
    assert_eq!(store.shortage(), None);
    is_known.store(0, Ordering::SeqCst);
    assert_eq!(send(&store, "b").await, Err(Rejected::DiskFull));
    let shortage = store.shortage().unwrap();
    assert!(shortage.contains("is not known"), "{shortage}");
    is_known.store(1, Ordering::SeqCst);
    assert_eq!(send(&store, "b").await, Ok(()));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_flood_leaves_the_pages_right_and_later_ones_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    let create = Write::CreateGroup {
        group: GroupId(9),
        name: "team".into(),
        owner: Uid(1),
        members: Vec::new(),
        made_at: 1,
    };
    let join = |uid| Write::Join {
        group: GroupId(9),
        uids: vec![uid],
        max_members: 1_000,
    };
    let to_group = |id: &str| {
        let group = Some(GroupId(9));
        let message = Message::new(Kind::Group, Uid(1), group, MsgId(id), "hello", 1).into();
        Write::Group { message }
    };
    let joins = (2..=1_000).map(Uid).map(join);
    store
        .commit([create].into_iter().chain(joins).collect())
        .await
        .unwrap();
    store.commit(vec![to_group("before")]).await.unwrap();
    // One message to so many is never divided.
    let create = Write::CreateGroup {
        group: GroupId(10),
        name: "all".into(),
        owner: Uid(1),
        members: (2..=17_000).map(Uid).collect(),
        made_at: 1,
    };
    let flood = Write::Group {
        message: Message::new(
            Kind::Group,
            Uid(1),
            Some(GroupId(10)),
            MsgId("flood"),
            "hello",
            1,
        )
        .into(),
    };
    store.commit(vec![create, flood]).await.unwrap();
    compare_pages(&store);
    let from_memory = |uid, after| store.shared.recent.lock().page(uid, after, ALL);
    for uid in [1, 2, 1_000] {
        assert_eq!(from_memory(Uid(uid), Version(0)), None);
        let page = store.sync(Uid(uid), Version(0), ALL).await.unwrap();
        assert_eq!(
            (page.entries.len(), page.current, page.total),
            (2, Version(2), Version(2))
        );
    }
    store
        .commit(vec![p2p(Uid(1), Uid(2), "after")])
        .await
        .unwrap();
    store.commit(vec![to_group("after")]).await.unwrap();
    compare_pages(&store);
    for (uid, entries) in [(1, 1), (2, 2), (1_000, 1)] {
        let (page, _) = from_memory(Uid(uid), Version(2)).unwrap();
        assert_eq!(page.entries.len(), entries);
        assert_eq!(page, store.sync(Uid(uid), Version(2), ALL).await.unwrap());
        let page = store.sync(Uid(uid), Version(0), ALL).await.unwrap();
        assert_eq!(page.entries.len(), 2 + entries);
    }
    store.close().await.unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Send(i64),
    ToGroup,
    Read(i64, i64),
    Clean,
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let uid = || 1..4_i64;
    let step = prop_oneof![
        6 => uid().prop_map(Step::Send),
        4 => Just(Step::ToGroup),
        3 => (uid(), 0..20_i64).prop_map(|(uid, after)| Step::Read(uid, after)),
        2 => Just(Step::Clean),
        1 => Just(Step::Forget),
    ];
    prop::collection::vec(step, 1..40)
}

/// Whatever is answered from memory must be what the engine would answer, after any commit.
fn compare_pages(store: &DurableStore) {
    let engine = store.shared.engine.read();
    let view = engine.as_ref().unwrap().view();
    let recent = store.shared.recent.lock();
    for uid in 1..5 {
        let head = bounds::InboxBounds::read(&view, Uid(uid)).unwrap();
        if let Some(level) = recent.inbox_state(Uid(uid)) {
            assert_eq!(level, head.inbox_state(Uid(uid)));
        }
        let limits = [(0, usize::MAX), (2, usize::MAX), (0, 60), (0, 0)];
        for (after, (entries, bytes)) in (-1..20).flat_map(|n| limits.map(|limit| (n, limit))) {
            let limit = PageLimit { entries, bytes };
            if let Some((page, read)) = recent.page(Uid(uid), Version(after), limit) {
                assert_eq!(read, head.read);
                assert_eq!(
                    page,
                    reader::page(&view, Uid(uid), Version(after), limit).unwrap()
                );
            }
        }
    }
}

#[test]
fn a_page_from_memory_is_the_one_of_the_engine() {
    let config = proptest::test_runner::Config {
        failure_persistence: None,
        ..proptest::test_runner::Config::with_cases(24)
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let compared = proptest::test_runner::TestRunner::new(config).run(&steps(), |steps| {
        let folder = tempfile::tempdir().unwrap();
        let config = config::Store {
            min_free: 0,
            max_inbox: Some(3),
            ..config::Store::default()
        };
        let store = DurableStore::open(folder.path(), &config).unwrap();
        runtime.block_on(async {
            let create = Write::CreateGroup {
                group: GroupId(9),
                name: "team".into(),
                owner: Uid(1),
                members: Vec::new(),
                made_at: 1,
            };
            let join = |uid| Write::Join {
                group: GroupId(9),
                uids: vec![uid],
                max_members: 9,
            };
            store
                .commit(vec![create, join(Uid(2)), join(Uid(4))])
                .await
                .unwrap();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Send(uid) => drop(
                        store
                            .commit(vec![p2p(Uid(3), Uid(uid), &n.to_string())])
                            .await,
                    ),
                    Step::ToGroup => {
                        let (group, id) = (Some(GroupId(9)), n.to_string());
                        let message =
                            Message::new(Kind::Group, Uid(1), group, MsgId(&id), "hello", 1);
                        let message = message.into();
                        drop(store.commit(vec![Write::Group { message }]).await);
                    }
                    Step::Read(uid, after) => drop(store.sync(Uid(uid), Version(after), ALL).await),
                    Step::Clean => drop(store.clean(2).await),
                    Step::Forget => store.shared.forget_recent(),
                }
                compare_pages(&store);
            }
            store.close().await.unwrap();
        });
        Ok(())
    });
    compared.unwrap();
}

/// Members of a group that is large for these tests.
const MANY: i64 = 1_000;

/// So many messages to them are in one commit.
const IN_ONE: usize = MAX_COST.div_ceil(MANY as usize + 1);

fn create(group: GroupId) -> Write {
    Write::CreateGroup {
        group,
        name: "many".into(),
        owner: Uid(group.0),
        members: (group.0 + 1..group.0 + MANY).map(Uid).collect(),
        made_at: 1,
    }
}

fn to_group(group: GroupId, messages: usize) -> Vec<Write> {
    let write = |n: usize| Write::Group {
        message: Message::new(
            Kind::Group,
            Uid(group.0),
            Some(group),
            MsgId(&n.to_string()),
            "hello",
            1,
        )
        .into(),
    };
    (0..messages).map(write).collect()
}

#[tokio::test]
async fn who_sends_to_many_holds_up_neither_the_others_nor_one_of_their_kind() {
    const MESSAGES: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = Gate::open(folder.path());
    let groups = [10_000, 20_000];
    for group in groups {
        let mut created = store.commit(vec![create(GroupId(group))]);
        assert!(futures_util::poll!(&mut created).is_pending());
        gate.wait();
        gate.let_go();
        assert_eq!(created.await.unwrap().accepted(), [Ok(())]);
    }
    let [mut one, mut other] = groups.map(|group| store.commit(to_group(GroupId(group), MESSAGES)));
    assert!(futures_util::poll!(&mut one).is_pending());
    assert!(futures_util::poll!(&mut other).is_pending());
    gate.wait();
    for commits in 1..=3 {
        let id = commits.to_string();
        let mut small = store.commit(vec![p2p(Uid(1), Uid(2), &id)]);
        assert!(futures_util::poll!(&mut small).is_pending());
        gate.let_go();
        // The writer stands before the next commit.
        gate.wait();
        assert_eq!(small.await.unwrap().accepted(), [Ok(())]);
        assert!(futures_util::poll!(&mut one).is_pending());
        assert!(futures_util::poll!(&mut other).is_pending());
        let mut stored = [Version::START; 2];
        for (stored, group) in stored.iter_mut().zip(groups) {
            *stored = store.inbox_state(Uid(group + 1)).await.unwrap().total;
        }
        let [one, other] = stored;
        assert!(one.0 + other.0 <= (commits * IN_ONE) as i64);
        assert!((one - other).abs() <= 1 && other > Version::START);
    }
    // What was there before is done before the end.
    let mut closed = store.close();
    assert!(futures_util::poll!(&mut closed).is_pending());
    drop(gate);
    let (one, other, closed) = tokio::join!(one, other, closed);
    closed.unwrap();
    for (committed, group) in [one, other].into_iter().zip(groups) {
        let committed = committed.unwrap();
        assert_eq!(committed.accepted(), [Ok(()); MESSAGES]);
        let levels = (group..group + MANY).map(|uid| InboxState {
            uid: Uid(uid),
            read: Version(0),
            total: Version(MESSAGES as i64),
        });
        assert!(committed.grown_inboxes.into_iter().eq(levels));
    }
}

/// A message to others is stored without the large one that waits, and the large one gets on all the same.
#[tokio::test]
async fn a_write_that_is_large_by_itself_is_in_every_second_commit() {
    const MESSAGES: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    let group = 10_000;
    let members = group + 1..group + 2 * MAX_COST as i64;
    {
        let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
        let create = Write::CreateGroup {
            group: GroupId(group),
            name: "large".into(),
            owner: Uid(group),
            members: members.map(Uid).collect(),
            made_at: 1,
        };
        store.commit(vec![create]).await.unwrap();
        store.close().await.unwrap();
    }
    let (store, gate) = Gate::open(folder.path());
    let mut large = store.commit(to_group(GroupId(group), MESSAGES));
    assert!(futures_util::poll!(&mut large).is_pending());
    gate.wait();
    for (commit, stored) in [0, 1, 1, 2].into_iter().enumerate() {
        let mut small = store.commit(vec![p2p(Uid(1), Uid(2), &commit.to_string())]);
        assert!(futures_util::poll!(&mut small).is_pending());
        gate.let_go();
        gate.wait();
        assert_eq!(small.await.unwrap().accepted(), [Ok(())]);
        assert_eq!(store.inbox_state(Uid(group)).await.unwrap().total, stored);
        assert!(futures_util::poll!(&mut large).is_pending());
    }
    drop(gate);
    assert_eq!(large.await.unwrap().accepted(), [Ok(()); MESSAGES]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn acks_of_an_id_that_many_groups_know_take_a_commit_each() {
    const GROUPS: i64 = 600;
    const ACKS: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
        let create = |group| Write::CreateGroup {
            group,
            name: String::new(),
            owner: Uid(1),
            members: Vec::new(),
            made_at: 1,
        };
        let send = |group| Write::Group {
            message: Message::new(Kind::Group, Uid(1), Some(group), MsgId("same"), "hello", 1)
                .into(),
        };
        let writes = (1..=GROUPS).flat_map(|group| [create(GroupId(group)), send(GroupId(group))]);
        store.commit(writes.collect()).await.unwrap();
        store.close().await.unwrap();
    }
    let (store, gate) = Gate::open(folder.path());
    // User 2 is in none of the groups, so each of them is looked at.
    let ack = |_| Write::Ack {
        target: Uid(1),
        message: Message::new(Kind::Ack, Uid(2), None, MsgId("same"), "", 1).into(),
    };
    let mut acks = store.commit((0..ACKS).map(ack).collect());
    assert!(futures_util::poll!(&mut acks).is_pending());
    gate.wait();
    // What an ack costs is known only after it was done: the first commit does two, and nothing else.
    gate.let_go();
    gate.wait();
    for commits in 2..ACKS - 1 {
        let mut small = store.commit(vec![p2p(Uid(1), Uid(2), &commits.to_string())]);
        assert!(futures_util::poll!(&mut small).is_pending());
        gate.let_go();
        gate.wait();
        assert_eq!(small.await.unwrap().accepted(), [Ok(())]);
        assert!(futures_util::poll!(&mut acks).is_pending());
    }
    drop(gate);
    let results = acks.await.unwrap().accepted();
    assert_eq!(results, [Err(Rejected::NoSuchMessage); ACKS]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_was_stored_of_a_batch_is_told_also_when_the_rest_finds_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let commits = AtomicU64::new(0);
    let config = config::Store {
        min_free: FLOOR,
        ..config::Store::default()
    };
    // For the group, and for a piece of the batch.
    let room = move |_: &Path| Ok(FLOOR * u64::from(commits.fetch_add(1, Ordering::SeqCst) < 2));
    let store = DurableStore::open_with(folder.path(), &config, Arc::new(room)).unwrap();
    store.commit(vec![create(GroupId(10_000))]).await.unwrap();
    let committed = store
        .commit(to_group(GroupId(10_000), IN_ONE + 2))
        .await
        .unwrap();
    let accepted = committed.accepted();
    let (stored, refused) = accepted.split_at(IN_ONE);
    assert_eq!(stored, [Ok(()); IN_ONE]);
    assert_eq!(refused, [Err(Rejected::DiskFull); 2]);
    assert_eq!(committed.grown_inboxes.len(), MANY as usize);
    for level in committed.grown_inboxes {
        assert_eq!(level.total, IN_ONE as i64);
        assert_eq!(level, store.inbox_state(level.uid).await.unwrap());
    }
}

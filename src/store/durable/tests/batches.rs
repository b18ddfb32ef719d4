//! Tests batches that take several commits, and what other batches wait for meanwhile.

use super::*;
use crate::store::WriteOutcome;

/// The number of members of a group that is large for these tests.
const MANY: i64 = 1_000;

/// The number of messages to such a group that one commit takes.
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
        // The writer now waits before the next commit.
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
    drop(gate);
    let (one, other) = tokio::join!(one, other);
    for (committed, group) in [one, other].into_iter().zip(groups) {
        let committed = committed.unwrap();
        assert_eq!(committed.accepted(), [Ok(()); MESSAGES]);
        let states = (group..group + MANY).map(|uid| InboxState {
            uid: Uid(uid),
            read: Version(0),
            total: Version(MESSAGES as i64),
        });
        assert!(committed.grown_inboxes.into_iter().eq(states));
    }
}

/// The caller of the batch gets the error that the store is closed. The pieces that were stored before are kept.
#[tokio::test]
async fn a_store_closes_after_the_piece_in_progress() {
    const MESSAGES: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = Gate::open(folder.path());
    let group = GroupId(10_000);
    let mut created = store.commit(vec![create(group)]);
    assert!(futures_util::poll!(&mut created).is_pending());
    gate.wait();
    gate.let_go();
    created.await.unwrap();
    let mut batch = store.commit(to_group(group, MESSAGES));
    assert!(futures_util::poll!(&mut batch).is_pending());
    gate.wait();
    gate.let_go();
    // The commit of the second piece begins.
    gate.wait();
    let mut closed = store.close();
    assert!(futures_util::poll!(&mut closed).is_pending());
    drop(gate);
    let (batch, closed) = tokio::join!(batch, closed);
    closed.unwrap();
    assert!(matches!(batch, Err(StoreError::Closed)), "{batch:?}");

    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    for uid in group.0..group.0 + MANY {
        let state = store.inbox_state(Uid(uid)).await.unwrap();
        assert_eq!(state.total, 2 * IN_ONE as i64);
    }
    // When the batch is sent again, its stored messages are duplicates, and the others are stored.
    let again = store.commit(to_group(group, MESSAGES)).await.unwrap();
    let known = again
        .results
        .iter()
        .map(|result| *result == Ok(WriteOutcome::Duplicate));
    assert!(known.eq((0..MESSAGES).map(|n| n < 2 * IN_ONE)));
    assert_eq!(
        store.inbox_state(Uid(group.0)).await.unwrap().total,
        MESSAGES as i64
    );
    store.close().await.unwrap();
}

/// A small message is stored without the large write before it, and the large write is done nonetheless.
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
    // User 2 is a member of none of the groups, so each ack reads the records of all of them.
    let ack = |_| Write::Ack {
        target: Uid(1),
        message: Message::new(Kind::Ack, Uid(2), None, MsgId("same"), "", 1).into(),
    };
    let mut acks = store.commit((0..ACKS).map(ack).collect());
    assert!(futures_util::poll!(&mut acks).is_pending());
    gate.wait();
    // The cost of an ack is known only after it was done. So the first commit does two acks, and nothing else.
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
async fn what_was_stored_of_a_batch_is_told_also_when_the_rest_finds_no_space() {
    let folder = tempfile::tempdir().unwrap();
    let commits = AtomicU64::new(0);
    let config = config::Store {
        min_free: FLOOR,
        ..config::Store::default()
    };
    // There is space for two commits: that of the group, and that of one piece of the batch.
    let free = move |_: &Path| Ok(FLOOR * u64::from(commits.fetch_add(1, Ordering::SeqCst) < 2));
    let store = DurableStore::open_with(folder.path(), &config, Arc::new(free)).unwrap();
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
    for state in committed.grown_inboxes {
        assert_eq!(state.total, IN_ONE as i64);
        assert_eq!(state, store.inbox_state(state.uid).await.unwrap());
    }
}

/// The answer has the totals that the earlier pieces have left, since the last piece has given out no versions.
#[tokio::test]
async fn a_batch_whose_last_piece_finds_no_space_tells_only_the_versions_that_exist() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = Gate::open(folder.path());
    let mut created = store.commit(vec![create(GroupId(10_000))]);
    assert!(futures_util::poll!(&mut created).is_pending());
    gate.wait();
    gate.let_go();
    created.await.unwrap();
    let mut batch = store.commit(to_group(GroupId(10_000), IN_ONE + 1));
    assert!(futures_util::poll!(&mut batch).is_pending());
    gate.wait();
    gate.let_go();
    // The first piece is stored, and the commit of the last one begins.
    gate.wait();
    poison(&store, folder.path());
    drop(gate);
    let committed = batch.await.unwrap();
    let accepted = committed.accepted();
    let (stored, refused) = accepted.split_at(IN_ONE);
    assert_eq!(stored, [Ok(()); IN_ONE]);
    assert_eq!(refused, [Err(Rejected::DiskFull)]);
    assert_eq!(committed.grown_inboxes.len(), MANY as usize);
    for state in committed.grown_inboxes {
        assert_eq!(state.total, IN_ONE as i64);
        assert_eq!(state, store.inbox_state(state.uid).await.unwrap());
    }
    store.close().await.unwrap();
}

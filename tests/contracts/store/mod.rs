//! The contract of `imd::store`: one suite for every store, which runs on the memory store and on the durable one.
//!
//! This file has the promises of commits, pages, read marks, groups and acks; `retention` those of removed entries, and
//! `snapshot` those of looking at a store and replacing it. `model` compares a store with an implementation that is
//! obviously right. A new store is added at the end of the macro [`suite`]; below it are promises of the memory store alone.

#[cfg(feature = "durable")]
mod folder;
mod model;
mod retention;
mod snapshot;

use std::sync::Arc;

use crate::writes::{
    MAX_MEMBERS, ack, create, join, message, p2p, quit, register, text_of, to_group,
};
use imd::id::{GroupId, Uid, Version};
use imd::store::{
    AccountStore, Committed, EncodedPage, Entry, InboxState, Kind, Ledger, MemoryStore,
    MessageStore, PageLimit, Rejected, Retention, Snapshot, Store, StoreAdmin, User, Write,
    WriteOutcome,
};

/// A page of the whole inbox.
const ALL: PageLimit = PageLimit {
    entries: 0,
    bytes: usize::MAX,
};
/// Commits a batch, which must not fail as a whole.
async fn commit(store: &dyn Store, batch: Vec<Write>) -> Committed {
    store.commit(batch).await.unwrap()
}

/// Commits one write, and returns whether it was accepted.
async fn one(store: &dyn Store, write: Write) -> Result<(), Rejected> {
    commit(store, vec![write]).await.accepted()[0]
}

/// Returns the entries of an inbox: (version, kind, source, msgID).
async fn inbox(store: &dyn Store, uid: i64) -> Vec<(i64, Kind, i64, String)> {
    let page = store.read_page(Uid(uid), Version(0), ALL).await.unwrap();
    let row = |e: &Entry| {
        (
            e.version.0,
            e.message.kind,
            e.message.source.0,
            e.message.msg_id().to_string(),
        )
    };
    page.entries.iter().map(row).collect()
}

/// Returns the message ids in an inbox.
async fn ids(store: &dyn Store, uid: i64) -> Vec<String> {
    inbox(store, uid)
        .await
        .into_iter()
        .map(|(.., id)| id)
        .collect()
}

async fn read_mark(store: &dyn Store, uid: i64) -> i64 {
    store.inbox_state(Uid(uid)).await.unwrap().read.0
}

/// The contract of [`Store`]. `$make` is an async function that makes an empty `Arc<dyn Store>` with a [`Retention`].
/// `$cases` is the number of random sequences that are compared with the model.
macro_rules! suite {
    ($name:ident, $cases:expr, $make:expr) => {
        mod $name {
            use super::*;
            suite!(@tests $make;
                versions_count_up_per_inbox,
                a_message_sent_again_is_stored_once,
                a_batch_is_done_in_order_and_each_write_by_itself,
                grown_inboxes_are_reported_with_their_state,
                each_write_of_a_batch_has_its_outcome,
                an_outcome_has_the_version_among_concurrent_writes,
                a_group_message_reaches_every_member,
                a_group_message_sent_again_is_stored_once,
                only_members_send_to_a_group,
                joining_and_quitting,
                a_group_is_created_once,
                a_group_is_created_with_all_its_members_or_not_at_all,
                users_who_join_together_all_join_or_none_does,
                the_newest_time_never_goes_back,
                issued_ids_are_remembered,
                an_ack_needs_a_message_and_is_stored_once,
                a_group_message_can_be_accepted_by_its_receivers,
                pages_end_by_count,
                pages_end_by_bytes,
                the_read_mark_only_moves_forward,
                a_read_mark_can_come_with_other_writes,
                a_request_beyond_the_inbox_starts_again,
                an_empty_inbox_has_an_empty_page,
                users_are_registered_once,
                the_ledger_counts_each_receiver,
                entries_that_a_reader_skips_are_not_counted_as_delivered,
                joining_again_takes_no_room,
                the_signing_key_stays,
                concurrent_senders_leave_no_gap,
                a_long_batch_and_another_beside_it_leave_no_gap,
            );
            suite!(@snapshot $make;
                a_peek_leaves_no_trace,
                users_and_groups_are_listed_in_parts,
                each_inbox_is_counted,
                inboxes_without_counts_are_not_listed,
                an_empty_snapshot_replaces_everything,
                a_snapshot_goes_from_any_store_to_any_other,
                clients_go_on_after_a_snapshot_was_loaded,
                the_receivers_of_a_group_message_are_known_after_a_load,
                a_snapshot_beyond_its_limit_is_refused,
                a_batch_during_a_replacement_is_stored_whole_or_not_at_all,
            );
            suite!(@retention $make;
                without_limits_nothing_is_removed,
                entries_older_than_keep_are_removed,
                a_clock_that_stepped_back_removes_nothing_behind_a_young_entry,
                the_newest_of_each_inbox_are_kept,
                the_stricter_of_two_limits_holds,
                versions_continue_after_a_cleaning,
                removed_entries_count_as_read,
                a_sync_from_before_the_cut_begins_at_the_oldest_left,
                a_sync_where_nothing_is_left_says_the_total,
                a_message_id_is_remembered_for_a_day,
                a_message_id_is_remembered_as_long_as_its_message,
                a_group_message_is_remembered_until_no_inbox_has_it,
                a_removed_message_can_be_accepted_while_its_id_is_remembered,
                unread_entries_that_are_removed_are_no_longer_pending,
                clients_are_served_during_a_cleaning,
                a_cleaning_leaves_replaced_contents_alone,
            );

            #[test]
            fn random_operations_have_the_results_of_the_model() {
                model::compare($cases, $make);
            }
        }
    };
    (@tests $make:expr; $($test:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            super::$test($make(Retention::default()).await).await;
        })*
    };
    (@snapshot $make:expr; $($test:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            super::snapshot::$test($make).await;
        })*
    };
    (@retention $make:expr; $($test:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            super::retention::$test($make).await;
        })*
    };
}

suite!(memory, 256, memory);
#[cfg(feature = "durable")]
suite!(durable, 24, folder::make);

async fn memory(retention: Retention) -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(1 << 30, retention))
}

/// Returns a memory store of at most `limit` bytes, whose cleanings remove nothing.
fn memory_store(limit: usize) -> MemoryStore {
    MemoryStore::new(limit, Retention::default())
}

async fn versions_count_up_per_inbox(store: Arc<dyn Store>) {
    let batch = vec![p2p(1, 2, "a"), p2p(1, 3, "b"), p2p(3, 2, "c")];
    assert_eq!(
        commit(&*store, batch).await.accepted(),
        [Ok(()), Ok(()), Ok(())]
    );
    one(&*store, p2p(1, 2, "d")).await.unwrap();
    assert_eq!(
        inbox(&*store, 2).await,
        [
            (1, Kind::P2p, 1, "a".into()),
            (2, Kind::P2p, 3, "c".into()),
            (3, Kind::P2p, 1, "d".into()),
        ]
    );
    assert_eq!(inbox(&*store, 3).await, [(1, Kind::P2p, 1, "b".into())]);
}

async fn a_message_sent_again_is_stored_once(store: Arc<dyn Store>) {
    one(&*store, p2p(1, 2, "a")).await.unwrap();
    let again = Write::P2p {
        target: Uid(2),
        message: message(Kind::P2p, 1, 0, "a", "another text"),
    };
    let committed = commit(&*store, vec![again, p2p(1, 2, "b"), p2p(1, 2, "b")]).await;
    assert_eq!(committed.accepted(), [Ok(()), Ok(()), Ok(())]);
    assert_eq!(
        committed.grown_inboxes,
        [InboxState {
            uid: Uid(2),
            read: Version(0),
            total: Version(2)
        }]
    );
    assert_eq!(ids(&*store, 2).await, ["a", "b"]);
    // The same id of another sender, or to another receiver, is another message.
    commit(&*store, vec![p2p(3, 2, "a"), p2p(1, 4, "a")]).await;
    assert_eq!(ids(&*store, 2).await, ["a", "b", "a"]);
    assert_eq!(ids(&*store, 4).await, ["a"]);
}

async fn a_batch_is_done_in_order_and_each_write_by_itself(store: Arc<dyn Store>) {
    let batch = vec![
        to_group(1, 50, "early"),
        create(50, 1),
        to_group(1, 50, "m"),
        to_group(2, 50, "stranger"),
        join(50, 2),
        to_group(2, 50, "n"),
    ];
    let results = commit(&*store, batch).await.accepted();
    let not_member = Err(Rejected::NotAMember);
    assert_eq!(
        results,
        [
            Err(Rejected::NoSuchGroup),
            Ok(()),
            Ok(()),
            not_member,
            Ok(()),
            Ok(())
        ]
    );
    assert_eq!(ids(&*store, 1).await, ["m", "n"]);
    assert_eq!(ids(&*store, 2).await, ["n"]);
}

async fn grown_inboxes_are_reported_with_their_state(store: Arc<dyn Store>) {
    commit(&*store, vec![p2p(1, 2, "a"), p2p(1, 2, "b")]).await;
    store.read_page(Uid(2), Version(1), ALL).await.unwrap();
    let committed = commit(&*store, vec![p2p(1, 2, "c"), p2p(1, 3, "d")]).await;
    let newest = |uid| {
        committed
            .grown_inboxes
            .iter()
            .filter(|l| l.uid == uid)
            .max_by_key(|l| l.total)
    };
    assert_eq!(
        newest(2),
        Some(&InboxState {
            uid: Uid(2),
            read: Version(1),
            total: Version(3)
        })
    );
    assert_eq!(
        newest(3),
        Some(&InboxState {
            uid: Uid(3),
            read: Version(0),
            total: Version(1)
        })
    );
    assert_eq!(newest(1), None);
    assert_eq!(
        store.inbox_state(Uid(2)).await.unwrap(),
        InboxState {
            uid: Uid(2),
            read: Version(1),
            total: Version(3)
        }
    );
}

/// Sorts the receivers of group messages in these results, because a store may have them in any order.
fn in_order(
    mut results: Vec<Result<WriteOutcome, Rejected>>,
) -> Vec<Result<WriteOutcome, Rejected>> {
    for result in &mut results {
        if let Ok(WriteOutcome::StoredForGroup { receivers }) = result {
            Arc::make_mut(receivers).sort_unstable();
        }
    }
    results
}

fn delivered(uid: i64, version: i64) -> Result<WriteOutcome, Rejected> {
    Ok(WriteOutcome::Stored {
        uid: Uid(uid),
        version: Version(version),
    })
}

async fn each_write_of_a_batch_has_its_outcome(store: Arc<dyn Store>) {
    let to_members = |members: [i64; 2]| {
        Ok(WriteOutcome::StoredForGroup {
            receivers: Arc::new(members.map(Uid).to_vec()),
        })
    };
    let batch = vec![
        register(1),
        create(50, 2),
        join(50, 1),
        p2p(1, 2, "a"),
        to_group(1, 50, "b"),
        ack(2, 1, "a"),
        ack(2, 1, "b"),
        p2p(3, 2, "a"),
        // This message is sent again in the same batch.
        p2p(1, 2, "a"),
        to_group(1, 50, "b"),
        ack(2, 1, "a"),
    ];
    let committed = commit(&*store, batch).await;
    assert_eq!(
        in_order(committed.results),
        [
            Ok(WriteOutcome::Done),
            Ok(WriteOutcome::Done),
            Ok(WriteOutcome::Done),
            delivered(2, 1),
            to_members([1, 2]),
            delivered(1, 2),
            delivered(1, 3),
            delivered(2, 3),
            Ok(WriteOutcome::Duplicate),
            Ok(WriteOutcome::Duplicate),
            Ok(WriteOutcome::Duplicate),
        ]
    );
    let again = vec![p2p(1, 2, "a"), to_group(2, 50, "c"), ack(1, 1, "a")];
    let committed = commit(&*store, again).await;
    // The message to the group is the newest entry of each inbox, so the totals are its versions.
    let mut grown = committed.grown_inboxes;
    grown.sort_unstable_by_key(|inbox| inbox.uid);
    let totals: Vec<_> = grown
        .iter()
        .map(|inbox| (inbox.uid.0, inbox.total.0))
        .collect();
    assert_eq!(totals, [(1, 4), (2, 4)]);
    assert_eq!(
        in_order(committed.results),
        [
            Ok(WriteOutcome::Duplicate),
            to_members([1, 2]),
            Err(Rejected::NoSuchMessage),
        ]
    );
    let marks = vec![
        Write::MarkRead {
            uid: Uid(1),
            read: Version(2),
        },
        Write::IssuedIds { up_to_ms: 9 },
        quit(50, 2),
    ];
    let committed = commit(&*store, marks).await;
    assert_eq!(committed.results, vec![Ok(WriteOutcome::Done); 3]);
}

async fn an_outcome_has_the_version_among_concurrent_writes(store: Arc<dyn Store>) {
    let senders = (10..20).map(|source| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for round in 0..10 {
                let ids = [format!("{round} a"), format!("{round} b")];
                let batch = ids.iter().map(|id| p2p(source, 2, id)).collect();
                let results = commit(&*store, batch).await.results;
                for (result, id) in results.into_iter().zip(ids) {
                    match result {
                        Ok(WriteOutcome::Stored { uid, version }) if uid == 2 => {
                            sent.push((version.0, Kind::P2p, source, id));
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            sent
        })
    });
    let mut sent = Vec::new();
    for sender in senders.collect::<Vec<_>>() {
        sent.extend(sender.await.unwrap());
    }
    sent.sort_unstable();
    assert_eq!(inbox(&*store, 2).await, sent);
}

async fn a_group_message_reaches_every_member(store: Arc<dyn Store>) {
    commit(
        &*store,
        vec![create(50, 1), join(50, 2), join(50, 3), p2p(9, 3, "before")],
    )
    .await;
    let committed = commit(&*store, vec![to_group(2, 50, "m")]).await;
    let mut notified: Vec<Uid> = committed
        .grown_inboxes
        .iter()
        .map(|inbox| inbox.uid)
        .collect();
    notified.sort_unstable();
    assert_eq!(notified, [1, 2, 3], "the sender is a member too");
    for (uid, version) in [(1, 1), (2, 1), (3, 2)] {
        let page = store
            .read_page(Uid(uid), Version(version - 1), ALL)
            .await
            .unwrap();
        assert_eq!(page.entries.len(), 1);
        assert_eq!(page.entries[0].version, version);
        assert_eq!(
            page.entries[0].message,
            message(Kind::Group, 2, 50, "m", &text_of("m"))
        );
    }
}

async fn a_group_message_sent_again_is_stored_once(store: Arc<dyn Store>) {
    commit(
        &*store,
        vec![create(50, 1), create(51, 1), to_group(1, 50, "m")],
    )
    .await;
    let committed = commit(&*store, vec![to_group(1, 50, "m")]).await;
    assert_eq!(committed.accepted(), [Ok(())]);
    assert_eq!(committed.grown_inboxes, []);
    // The same id to another group, or to a user, is another message.
    commit(&*store, vec![to_group(1, 51, "m"), p2p(1, 1, "m")]).await;
    assert_eq!(ids(&*store, 1).await, ["m", "m", "m"]);
    // A message of a user who has left the group since is still known, although this user may send no other one.
    one(&*store, quit(50, 1)).await.unwrap();
    assert_eq!(
        one(&*store, to_group(1, 50, "new")).await,
        Err(Rejected::NotAMember)
    );
}

async fn only_members_send_to_a_group(store: Arc<dyn Store>) {
    assert_eq!(
        one(&*store, to_group(1, 50, "m")).await,
        Err(Rejected::NoSuchGroup)
    );
    one(&*store, create(50, 1)).await.unwrap();
    assert_eq!(
        one(&*store, to_group(2, 50, "m")).await,
        Err(Rejected::NotAMember)
    );
    assert!(ids(&*store, 1).await.is_empty());
    assert!(ids(&*store, 2).await.is_empty());
}

async fn a_group_is_created_once(store: Arc<dyn Store>) {
    let store = &*store;
    one(store, create(9, 1)).await.unwrap();
    one(store, join(9, 2)).await.unwrap();
    assert_eq!(one(store, create(9, 3)).await, Err(Rejected::GroupExists));
    one(store, to_group(2, 9, "a")).await.unwrap();
    assert_eq!(
        (ids(store, 1).await.len(), ids(store, 3).await.len()),
        (1, 0)
    );
}

fn create_with(group: i64, owner: i64, members: &[i64]) -> Write {
    Write::CreateGroup {
        group: GroupId(group),
        name: "team".into(),
        owner: Uid(owner),
        members: members.iter().copied().map(Uid).collect(),
        made_at: 1,
    }
}

fn join_all(group: i64, uids: &[i64], max_members: usize) -> Write {
    let uids = uids.iter().copied().map(Uid).collect();
    Write::Join {
        group: GroupId(group),
        uids,
        max_members,
    }
}

/// Returns the members of each group.
async fn members(store: &dyn Store) -> Vec<(i64, Vec<i64>)> {
    let groups = store.groups(GroupId(0), MAX_MEMBERS).await.unwrap();
    let members = groups.into_iter().map(|group| {
        let members = group.members.into_iter().map(i64::from);
        (group.gid.0, members.collect())
    });
    members.collect()
}

async fn a_group_is_created_with_all_its_members_or_not_at_all(store: Arc<dyn Store>) {
    let store = &*store;
    one(store, create_with(9, 7, &[8, 7, 8, 3])).await.unwrap();
    assert_eq!(members(store).await, [(9, vec![3, 7, 8])]);
    // The id is that of an existing group, which gets no members by this.
    let again = commit(store, vec![create_with(9, 1, &[2, 4]), to_group(7, 9, "a")]).await;
    assert_eq!(again.accepted(), [Err(Rejected::GroupExists), Ok(())]);
    assert_eq!(members(store).await, [(9, vec![3, 7, 8])]);
    for uid in [3, 7, 8] {
        assert_eq!(ids(store, uid).await, ["a"]);
    }
    for uid in [1, 2, 4] {
        assert_eq!(ids(store, uid).await.len(), 0);
    }
}

async fn users_who_join_together_all_join_or_none_does(store: Arc<dyn Store>) {
    let store = &*store;
    one(store, create_with(9, 1, &[2])).await.unwrap();
    let full = one(store, join_all(9, &[2, 3, 4, 5], 4)).await;
    assert_eq!(full, Err(Rejected::GroupFull));
    assert_eq!(
        one(store, join_all(8, &[2], 4)).await,
        Err(Rejected::NoSuchGroup)
    );
    assert_eq!(members(store).await, [(9, vec![1, 2])]);
    one(store, join_all(9, &[2, 3, 3, 4, 1], 4)).await.unwrap();
    // A member joins again although the group is full, or has more members than are allowed by now.
    one(store, join_all(9, &[4, 1], 2)).await.unwrap();
    assert_eq!(members(store).await, [(9, vec![1, 2, 3, 4])]);
    one(store, to_group(4, 9, "a")).await.unwrap();
    assert_eq!(ids(store, 3).await, ["a"]);
}

async fn issued_ids_are_remembered(store: Arc<dyn Store>) {
    let store = &*store;
    let issued = |up_to_ms| Write::IssuedIds { up_to_ms };
    let committed = commit(store, vec![p2p(1, 2, "a"), issued(50)]).await;
    assert_eq!(committed.accepted(), [Ok(()), Ok(())]);
    assert_eq!(store.latest_time_ms().await.unwrap(), 50);
    one(store, issued(40)).await.unwrap();
    one(store, issued(60)).await.unwrap();
    assert_eq!(store.latest_time_ms().await.unwrap(), 60);
}

async fn the_newest_time_never_goes_back(store: Arc<dyn Store>) {
    let store = &*store;
    assert_eq!(store.latest_time_ms().await.unwrap(), 0);
    let at = |sent_at, mut write| {
        match &mut write {
            Write::P2p { message, .. } | Write::Group { message } => {
                Arc::make_mut(message).sent_at = sent_at;
            }
            Write::CreateGroup { made_at, .. } => *made_at = sent_at,
            _ => unreachable!(),
        }
        write
    };
    let steps = [
        (at(50, p2p(1, 2, "a")), 50),
        (at(20, p2p(1, 2, "b")), 50),
        (at(70, create(9, 1)), 70),
        (at(90, to_group(1, 9, "c")), 90),
        (at(99, p2p(1, 2, "a")), 90),
    ];
    for (write, newest) in steps {
        one(store, write).await.unwrap();
        assert_eq!(store.latest_time_ms().await.unwrap(), newest);
    }
    let versions: Vec<_> = inbox(store, 2)
        .await
        .into_iter()
        .map(|(v, .., id)| (v, id))
        .collect();
    assert_eq!(versions, [(1, "a".to_owned()), (2, "b".to_owned())]);
}

async fn joining_and_quitting(store: Arc<dyn Store>) {
    assert_eq!(one(&*store, join(50, 2)).await, Err(Rejected::NoSuchGroup));
    let quit = |uid| Write::Quit {
        group: GroupId(50),
        uid,
    };
    assert_eq!(one(&*store, quit(Uid(2))).await, Err(Rejected::NoSuchGroup));
    let batch = vec![
        create(50, 1),
        join(50, 2),
        join(50, 2),
        to_group(1, 50, "a"),
    ];
    assert_eq!(commit(&*store, batch).await.accepted(), [Ok(()); 4]);
    let batch = vec![
        quit(Uid(2)),
        quit(Uid(2)),
        quit(Uid(7)),
        to_group(1, 50, "b"),
    ];
    assert_eq!(commit(&*store, batch).await.accepted(), [Ok(()); 4]);
    assert_eq!(ids(&*store, 1).await, ["a", "b"]);
    assert_eq!(ids(&*store, 2).await, ["a"], "what was received stays");
    let third = Write::Join {
        group: GroupId(50),
        uids: vec![Uid(3)],
        max_members: 1,
    };
    assert_eq!(one(&*store, third).await, Err(Rejected::GroupFull));
    let again = Write::Join {
        group: GroupId(50),
        uids: vec![Uid(1)],
        max_members: 1,
    };
    assert_eq!(
        one(&*store, again).await,
        Ok(()),
        "a member of a full group is still one"
    );
}

async fn an_ack_needs_a_message_and_is_stored_once(store: Arc<dyn Store>) {
    assert_eq!(
        one(&*store, ack(2, 1, "a")).await,
        Err(Rejected::NoSuchMessage)
    );
    one(&*store, p2p(1, 2, "a")).await.unwrap();
    assert_eq!(
        one(&*store, ack(3, 1, "a")).await,
        Err(Rejected::NoSuchMessage)
    );
    assert_eq!(
        one(&*store, ack(2, 1, "b")).await,
        Err(Rejected::NoSuchMessage)
    );
    // User 1 has sent the message and not received it.
    assert_eq!(
        one(&*store, ack(1, 2, "a")).await,
        Err(Rejected::NoSuchMessage)
    );
    let committed = commit(&*store, vec![ack(2, 1, "a"), ack(2, 1, "a")]).await;
    assert_eq!(committed.accepted(), [Ok(()), Ok(())]);
    assert_eq!(
        committed.grown_inboxes,
        [InboxState {
            uid: Uid(1),
            read: Version(0),
            total: Version(1)
        }]
    );
    assert_eq!(inbox(&*store, 1).await, [(1, Kind::Ack, 2, "a".into())]);
    // An ack can't be accepted.
    assert_eq!(
        one(&*store, ack(1, 2, "a")).await,
        Err(Rejected::NoSuchMessage)
    );
}

async fn a_group_message_can_be_accepted_by_its_receivers(store: Arc<dyn Store>) {
    commit(
        &*store,
        vec![
            create(50, 1),
            join(50, 2),
            to_group(1, 50, "m"),
            join(50, 3),
        ],
    )
    .await;
    assert_eq!(
        one(&*store, ack(3, 1, "m")).await,
        Err(Rejected::NoSuchMessage),
        "joined later"
    );
    one(&*store, quit(50, 2)).await.unwrap();
    assert_eq!(
        one(&*store, ack(2, 1, "m")).await,
        Ok(()),
        "got it before quitting"
    );
    assert_eq!(inbox(&*store, 1).await[1], (2, Kind::Ack, 2, "m".into()));
}

async fn pages_end_by_count(store: Arc<dyn Store>) {
    commit(
        &*store,
        (1..=5).map(|n| p2p(1, 2, &n.to_string())).collect(),
    )
    .await;
    let mut current = 0;
    let mut pages = Vec::new();
    loop {
        let limit = PageLimit {
            entries: 2,
            bytes: usize::MAX,
        };
        let page = store
            .read_page(Uid(2), Version(current), limit)
            .await
            .unwrap();
        assert_eq!(page.total, 5);
        if page.entries.is_empty() {
            assert_eq!(page.current, 5);
            break;
        }
        current = page.current.0;
        pages.push(page.entries.iter().map(|e| e.version).collect::<Vec<_>>());
    }
    assert_eq!(pages, [vec![1, 2], vec![3, 4], vec![5]]);
}

async fn pages_end_by_bytes(store: Arc<dyn Store>) {
    commit(
        &*store,
        (1..=5).map(|n| p2p(1, 2, &n.to_string())).collect(),
    )
    .await;
    let all = store.read_page(Uid(2), Version(0), ALL).await.unwrap();
    let len = |n: usize| {
        all.entries
            .iter()
            .take(n)
            .map(|e| e.in_page(Uid(2)).size())
            .sum::<usize>()
    };
    let page = |bytes| store.read_page(Uid(2), Version(0), PageLimit { entries: 0, bytes });
    assert_eq!(page(len(3)).await.unwrap().entries, all.entries[..3]);
    assert_eq!(page(len(3) - 1).await.unwrap().entries, all.entries[..2]);
    let none = page(0).await.unwrap();
    assert_eq!(
        (none.entries.len(), none.current, none.total),
        (0, Version(0), Version(5))
    );
}

async fn the_read_mark_only_moves_forward(store: Arc<dyn Store>) {
    commit(
        &*store,
        (1..=5).map(|n| p2p(1, 2, &n.to_string())).collect(),
    )
    .await;
    for (asked, mark) in [
        (0, 0),
        (3, 3),
        (1, 3),
        (-4, 3),
        (5, 5),
        (6, 5),
        (i64::MAX, 5),
    ] {
        store.read_page(Uid(2), Version(asked), ALL).await.unwrap();
        assert_eq!(
            read_mark(&*store, 2).await,
            mark,
            "after a request from {asked}"
        );
    }
}

async fn a_read_mark_can_come_with_other_writes(store: Arc<dyn Store>) {
    let read = |read| Write::MarkRead { uid: Uid(2), read };
    for (n, (asked, mark)) in [(1, 1), (0, 1), (3, 3), (9, 3), (-1, 3), (2, 3)]
        .into_iter()
        .enumerate()
    {
        let writes = vec![p2p(1, 2, &n.to_string()), read(Version(asked))];
        let committed = store.commit(writes).await.unwrap();
        assert_eq!(committed.accepted(), [Ok(()), Ok(())]);
        assert_eq!(committed.grown_inboxes.len(), 1);
        assert_eq!(read_mark(&*store, 2).await, mark, "after {asked}");
    }
    // A read mark creates no inbox, and is no growth of one.
    let nobody = Write::MarkRead {
        uid: Uid(7),
        read: Version(1),
    };
    let committed = store.commit(vec![nobody]).await.unwrap();
    assert_eq!(
        (committed.accepted(), committed.grown_inboxes),
        (vec![Ok(())], Vec::new())
    );
    assert_eq!(read_mark(&*store, 7).await, 0);
}

async fn a_request_beyond_the_inbox_starts_again(store: Arc<dyn Store>) {
    commit(&*store, vec![p2p(1, 2, "a"), p2p(1, 2, "b")]).await;
    let page = store.read_page(Uid(2), Version(3), ALL).await.unwrap();
    assert_eq!(
        page.entries.iter().map(|e| e.version).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!((page.current, page.total), (Version(2), Version(2)));
    assert_eq!(read_mark(&*store, 2).await, 0);
    let at_the_end = store.read_page(Uid(2), Version(2), ALL).await.unwrap();
    assert!(at_the_end.entries.is_empty());
    let below = store
        .read_page(
            Uid(2),
            Version(i64::MIN),
            PageLimit {
                entries: 1,
                bytes: usize::MAX,
            },
        )
        .await
        .unwrap();
    assert_eq!(below.current, 1);
}

async fn an_empty_inbox_has_an_empty_page(store: Arc<dyn Store>) {
    for after in [0, -1, 7] {
        let page = store.read_page(Uid(2), Version(after), ALL).await.unwrap();
        assert_eq!(page.entries, []);
        assert_eq!((page.current, page.total), (Version(0), Version(0)));
    }
    assert_eq!(
        store.inbox_state(Uid(2)).await.unwrap(),
        InboxState {
            uid: Uid(2),
            read: Version(0),
            total: Version(0)
        }
    );
}

async fn users_are_registered_once(store: Arc<dyn Store>) {
    assert_eq!(store.user(Uid(1)).await.unwrap(), None);
    assert_eq!(one(&*store, register(1)).await, Ok(()));
    let other = User {
        name: "other".into(),
        password_hash: "other".into(),
    };
    let again = Write::Register {
        uid: Uid(1),
        user: other,
    };
    assert_eq!(one(&*store, again).await, Err(Rejected::UserExists));
    let user = User {
        name: "user 1".into(),
        password_hash: "hash".into(),
    };
    assert_eq!(store.user(Uid(1)).await.unwrap(), Some(user));
}

async fn the_ledger_counts_each_receiver(store: Arc<dyn Store>) {
    assert_eq!(store.ledger(), Ledger::default());
    let batch = vec![
        create(50, 1),
        join(50, 2),
        to_group(1, 50, "m"),
        p2p(1, 2, "a"),
        p2p(1, 2, "a"),
    ];
    commit(&*store, batch).await;
    assert_eq!(
        store.ledger(),
        Ledger {
            stored: 3,
            delivered: 0,
            removed: 0
        }
    );
    let first = PageLimit {
        entries: 1,
        bytes: usize::MAX,
    };
    store.read_page(Uid(2), Version(0), first).await.unwrap();
    store.read_page(Uid(2), Version(0), first).await.unwrap();
    assert_eq!(
        store.ledger(),
        Ledger {
            stored: 3,
            delivered: 1,
            removed: 0
        },
        "a page sent twice counts once"
    );
    store.read_page(Uid(2), Version(1), ALL).await.unwrap();
    store.read_page(Uid(1), Version(0), ALL).await.unwrap();
    assert_eq!(
        store.ledger(),
        Ledger {
            stored: 3,
            delivered: 3,
            removed: 0
        }
    );
}

async fn entries_that_a_reader_skips_are_not_counted_as_delivered(store: Arc<dyn Store>) {
    commit(
        &*store,
        (1..=5).map(|n| p2p(1, 2, &n.to_string())).collect(),
    )
    .await;
    store.read_page(Uid(2), Version(4), ALL).await.unwrap();
    assert_eq!(
        store.ledger(),
        Ledger {
            stored: 5,
            delivered: 1,
            removed: 0
        }
    );
    store.read_page(Uid(2), Version(4), ALL).await.unwrap();
    store.read_page(Uid(2), Version(5), ALL).await.unwrap();
    assert_eq!(store.ledger().delivered, 1);
}

async fn joining_again_takes_no_room(store: Arc<dyn Store>) {
    one(&*store, create(50, 1)).await.unwrap();
    for _ in 0..5_000 {
        let batch = vec![join(50, 2), quit(50, 2)];
        assert_eq!(commit(&*store, batch).await.accepted(), [Ok(()), Ok(())]);
    }
}

async fn the_signing_key_stays(store: Arc<dyn Store>) {
    let key = store.signing_key().await.unwrap();
    assert_ne!(key, [0; 32]);
    one(&*store, register(1)).await.unwrap();
    assert_eq!(store.signing_key().await.unwrap(), key);
}

async fn concurrent_senders_leave_no_gap(store: Arc<dyn Store>) {
    one(&*store, create(50, 1)).await.unwrap();
    for uid in 2..=4 {
        one(&*store, join(50, uid)).await.unwrap();
    }
    let senders: Vec<_> = (1..=4_i64)
        .map(|sender| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..50 {
                    let batch = vec![
                        p2p(sender, n % 4 + 1, &format!("p{n}")),
                        to_group(sender, 50, &format!("g{n}")),
                        p2p(sender, n % 4 + 1, &format!("p{n}")),
                    ];
                    assert_eq!(commit(&*store, batch).await.accepted(), [Ok(()); 3]);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let mut total = 0;
    for uid in 1..=4 {
        let entries = inbox(&*store, uid).await;
        total += entries.len();
        let versions: Vec<i64> = entries.iter().map(|entry| entry.0).collect();
        assert_eq!(versions, (1..=entries.len() as i64).collect::<Vec<_>>());
    }
    assert_eq!(total, 4 * 50 + 4 * 50 * 4);
}

/// The batch has more entries than the memory store does in one turn, so that another batch is committed in its middle.
async fn a_long_batch_and_another_beside_it_leave_no_gap(store: Arc<dyn Store>) {
    let store = &*store;
    let everyone = 1..=1_000;
    let mut batch = vec![create(50, 1)];
    batch.extend((2..=1_000).map(|uid| join(50, uid)));
    commit(store, batch).await;

    let mut batch = Vec::new();
    for n in 0..20 {
        batch.push(p2p(1, 2, &format!("long p{n}")));
        batch.push(to_group(1, 50, &format!("long g{n}")));
        batch.push(to_group(7_000, 50, "stranger"));
        batch.push(p2p(1, 2_000 + n, "long alone"));
    }
    let beside = async {
        for n in 0..3 {
            let batch = vec![
                p2p(5, 2, &format!("p{n}")),
                to_group(5, 50, &format!("g{n}")),
                p2p(5, 3_000, &format!("p{n}")),
            ];
            assert_eq!(commit(store, batch).await.accepted(), [Ok(()); 3]);
        }
    };
    let (long, ()) = tokio::join!(commit(store, batch), beside);

    let one_round = [Ok(()), Ok(()), Err(Rejected::NotAMember), Ok(())];
    assert_eq!(long.accepted(), one_round.repeat(20));
    let alone = 2_000..2_020;
    for uid in everyone.clone().chain(alone.clone()) {
        let entries = inbox(store, uid).await;
        let versions = entries.iter().map(|entry| entry.0);
        assert!(versions.eq(1..=entries.len() as i64), "the inbox of {uid}");
        let own = entries.iter().filter(|entry| entry.3.starts_with("long"));
        let expected: Vec<String> = match uid {
            2 => (0..20)
                .flat_map(|n| [format!("long p{n}"), format!("long g{n}")])
                .collect(),
            1..=1_000 => (0..20).map(|n| format!("long g{n}")).collect(),
            _ => vec!["long alone".into()],
        };
        assert!(own.clone().map(|entry| &entry.3).eq(&expected));
        let last = own.map(|entry| entry.0).max();
        let grown = long.grown_inboxes.iter().filter(|inbox| inbox.uid == uid);
        assert_eq!(grown.map(|inbox| inbox.total.0).max(), last, "{uid}");
    }
    let is_receiver = |uid| everyone.contains(&uid) || alone.contains(&uid);
    assert!(
        long.grown_inboxes
            .iter()
            .all(|inbox| is_receiver(inbox.uid.0))
    );
    assert_eq!(store.inbox_state(Uid(2)).await.unwrap().total, 40 + 6);
    assert_eq!(store.ledger().stored, 20 * 1_002 + 3 * 1_002);
}

#[tokio::test]
async fn a_small_memory_store_takes_repeated_joins() {
    joining_again_takes_no_room(Arc::new(memory_store(1 << 16))).await;
}

#[tokio::test]
async fn the_debug_form_of_a_memory_store_has_no_contents() {
    let store = memory_store(1 << 20);
    commit(&store, vec![p2p(1, 2, "canary-id"), register(7)]).await;
    let key = format!("{:?}", store.signing_key().await.unwrap());
    let debug = format!("{store:?}");
    assert!(
        !debug.contains("canary") && !debug.contains(&key) && !debug.contains("hash"),
        "{debug}"
    );
}

#[tokio::test]
async fn a_full_memory_store_refuses_and_still_serves() {
    let store = memory_store(1 << 16);
    let batch = vec![create(50, 1), join(50, 2), p2p(2, 3, "first")];
    assert_eq!(commit(&store, batch).await.accepted(), [Ok(()); 3]);
    let big = |n: usize| {
        let message = message(Kind::P2p, 1, 0, &n.to_string(), &"x".repeat(8_000));
        Write::P2p {
            target: Uid(2),
            message,
        }
    };
    let mut stored = 0;
    let refused = loop {
        match one(&store, big(stored)).await {
            Ok(()) => stored += 1,
            Err(rejected) => break rejected,
        }
    };
    assert_eq!(refused, Rejected::Full);
    assert!(
        (4..=8).contains(&stored),
        "{stored} messages of 8,000 bytes fit 65,536"
    );
    assert_eq!(ids(&store, 2).await.len(), stored);
    assert_eq!(
        one(&store, big(0)).await,
        Ok(()),
        "what is there already is still answered"
    );
    // A group message is refused as a whole: no member has it.
    let text = "y".repeat(30_000);
    let group = Write::Group {
        message: message(Kind::Group, 1, 50, "g", &text),
    };
    assert_eq!(one(&store, group).await, Err(Rejected::Full));
    assert!(ids(&store, 1).await.is_empty());
    // Writes that need no room are still done.
    assert_eq!(
        one(
            &store,
            Write::Quit {
                group: GroupId(50),
                uid: Uid(2)
            }
        )
        .await,
        Ok(())
    );
    assert_eq!(ids(&store, 3).await, ["first"]);
}

/// Returns a memory store that is full up to the last bytes, with the group 9 of user 1.
async fn nearly_full() -> MemoryStore {
    let store = memory_store(1 << 16);
    one(&store, create(9, 1)).await.unwrap();
    for n in 10.. {
        let user = User {
            name: "x".repeat(if n == 10 { 60_000 } else { 1 }),
            password_hash: String::new(),
        };
        let uid = n;
        if one(
            &store,
            Write::Register {
                uid: Uid(uid),
                user,
            },
        )
        .await
        .is_err()
        {
            return store;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_write_without_room_is_not_done_in_part() {
    let store = nearly_full().await;
    let before = store.snapshot(usize::MAX).await.unwrap();
    let many: Vec<i64> = (100..120).collect();
    let refused = vec![
        create_with(10, 1, &many),
        create(11, 2),
        join_all(9, &many, MAX_MEMBERS),
        join(9, 2),
        register(2),
        p2p(1, 2, "a"),
        to_group(1, 9, "a"),
    ];
    let results = commit(&store, refused).await.accepted();
    assert_eq!(results, [Err(Rejected::Full); 7]);
    assert_eq!(store.snapshot(usize::MAX).await.unwrap(), before);
    // A write that takes no room is done.
    one(&store, join(9, 1)).await.unwrap();
}

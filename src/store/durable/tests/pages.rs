//! Tests that a page from memory is the one that the engine would return.

use super::*;

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
        let gone = (record::entry_key(Uid(2), Version(2)), None);
        engine.write(vec![gone]).unwrap();
        engine.publish();
        // Otherwise the page would come from memory.
        store.shared.forget_recent();
    }
    for after in [0, 1] {
        let refused = store
            .read_page(Uid(2), Version(after), ALL)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("lacks version 2"), "{refused}");
    }
    assert_eq!(
        store
            .read_page(Uid(2), Version(2), ALL)
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    assert_eq!(
        store
            .read_page(Uid(3), Version(0), ALL)
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    store.close().await.unwrap();

    // An inspection reports the gap, both in a check and in a dump.
    let inspection = Inspection::open(folder.path()).unwrap();
    let findings = inspection.check();
    assert_eq!(findings.problems, ["the inbox of 2 lacks version 2"]);
    for (uid, problems) in [(None, 1), (Some(Uid(2)), 1), (Some(Uid(3)), 0)] {
        let found = inspection.dump(uid, |_| Ok::<_, ()>(())).unwrap();
        assert_eq!(found, findings.problems[..problems], "{uid:?}");
    }
}

/// Creates group 9, of user 1 alone.
fn create_team() -> Write {
    Write::CreateGroup {
        group: GroupId(9),
        name: "team".into(),
        owner: Uid(1),
        members: Vec::new(),
        made_at: 1,
    }
}

/// Adds a user to group 9, which may have `max_members` members.
fn join_team(uid: Uid, max_members: usize) -> Write {
    Write::Join {
        group: GroupId(9),
        uids: vec![uid],
        max_members,
    }
}

#[tokio::test]
async fn a_flood_leaves_the_pages_right_and_later_ones_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(AtomicU64::new(FLOOR)));
    let create = create_team();
    let join = |uid| join_team(uid, 1_000);
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
    // One message is never divided among commits, however many receivers it has.
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
        let page = store.read_page(Uid(uid), Version(0), ALL).await.unwrap();
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
        assert_eq!(
            page,
            store.read_page(Uid(uid), Version(2), ALL).await.unwrap()
        );
        let page = store.read_page(Uid(uid), Version(0), ALL).await.unwrap();
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

/// Asserts that every page that the cache answers is the one that the engine returns.
fn compare_pages(store: &DurableStore) {
    let engine = store.shared.engine.read();
    let view = engine.as_ref().unwrap().view();
    let recent = store.shared.recent.lock();
    for uid in 1..5 {
        let stored = bounds::InboxBounds::read(&view, Uid(uid)).unwrap();
        if let Some(state) = recent.inbox_state(Uid(uid)) {
            let noted = recent.marks.get(Uid(uid));
            assert_eq!(state, stored.with_mark(noted).inbox_state(Uid(uid)));
        }
        let limits = [(0, usize::MAX), (2, usize::MAX), (0, 60), (0, 0)];
        for (after, (entries, bytes)) in (-1..20).flat_map(|n| limits.map(|limit| (n, limit))) {
            let limit = PageLimit { entries, bytes };
            if let Some((page, read)) = recent.page(Uid(uid), Version(after), limit) {
                assert_eq!(read, stored.read);
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
            let create = create_team();
            let join = |uid| join_team(uid, 9);
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
                    Step::Read(uid, after) => {
                        drop(store.read_page(Uid(uid), Version(after), ALL).await)
                    }
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

//! Tests that each task gets the answer of a commit, even if the task that should hand it on is gone.

use super::*;

#[tokio::test]
async fn who_holds_the_answer_of_another_may_go_before_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (store, gate) = Gate::open(folder.path());
    let [one, holder] = gate.hold_two(&store).await;
    drop(holder);
    gate.let_go();
    let answered = tokio::time::timeout(PATIENCE, one).await;
    assert_eq!(answered.unwrap().unwrap().grown_inboxes[0].total, 1);
    // The writes of the dropped commit are done nonetheless.
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
    // Once both messages are visible, the commit takes no more jobs.
    while store.inbox_state(Uid(2)).await.unwrap().total < Version(2) {
        tokio::task::yield_now().await;
    }
    let mut next = store.commit(vec![p2p(Uid(1), Uid(2), "c")]);
    assert!(futures_util::poll!(&mut next).is_pending());
    gate.wait();
    // Both batches are stored. The answer to `one` came with that to `holder`, which was not polled since.
    assert!(futures_util::poll!(&mut one).is_pending());
    drop(holder);
    let answered = tokio::time::timeout(PATIENCE, one).await;
    assert_eq!(answered.unwrap().unwrap().grown_inboxes[0].total, 1);
    gate.let_go();
    assert_eq!(next.await.unwrap().grown_inboxes[0].total, 3);
    drop(gate);
    store.close().await.unwrap();
}

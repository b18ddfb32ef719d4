//! A client that has left leaves nothing behind: no task, no session, and no entry in the directory.
//!
//! Open files are counted in `program/limits`, because other tests of this process open files too.

use tokio::runtime::Handle;

use crate::support::{start_manual, until, user};

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn a_thousand_clients_who_have_left_leave_no_task_and_no_session() {
    let imd = start_manual().await;
    let before = tasks();
    let mut clients = Vec::new();
    for uid in 1..=1_000 {
        clients.push(user(&imd, uid).await);
    }
    assert_eq!(tasks(), before + 1_000, "one task each, and no timer");
    drop(clients);
    until(|| tasks() <= before).await;
    let servers = imd.access_servers();
    assert!(servers.iter().all(|server| server.sessions().is_empty()));
    assert!((1..=1_000).all(|uid| !imd.is_online(uid)));
}

//! The contract of `imd::session` towards its owners: a session closes once, and each of its callbacks runs once.
//!
//! Sessions are opened here without a connection. What clients see of sessions is tested in `sockets`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use imd::clock::ManualClock;
use imd::config::SecondLogin;
use imd::directory::{Entered, LocalDirectory, SessionDirectory, SessionHandle};
use imd::id::Uid;
use imd::session::{CloseReason, Deadlines, Session, SessionIds, SessionManager};

/// Returns a manager whose sessions may have `unwritten_limit` bytes waiting to be written.
fn manager(unwritten_limit: usize) -> Arc<SessionManager> {
    manager_of(&SessionIds::default(), unwritten_limit)
}

fn manager_of(ids: &SessionIds, unwritten_limit: usize) -> Arc<SessionManager> {
    let deadlines = Deadlines {
        login: None,
        idle: Duration::from_secs(60),
        half_frame: Duration::from_secs(10),
        write: Duration::from_secs(10),
    };
    let clock = Arc::new(ManualClock::default());
    SessionManager::new(ids.clone(), clock, deadlines, unwritten_limit)
}

/// Opens a session without a connection.
fn open(manager: &SessionManager) -> Arc<Session> {
    let addr = "127.0.0.1:1".parse().unwrap();
    manager.open(addr, addr)
}

/// Counts how often a close callback of the session runs.
fn counter(session: &Session) -> Arc<AtomicU32> {
    let count = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&count);
    session.on_close(move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
    });
    count
}

#[test]
fn a_close_happens_once_and_its_first_reason_stays() {
    let session = open(&manager(1 << 20));
    let count = counter(&session);
    let closers: Vec<_> = [CloseReason::Idle, CloseReason::Logout, CloseReason::Broken]
        .into_iter()
        .map(|reason| {
            let session = Arc::clone(&session);
            std::thread::spawn(move || session.close(reason))
        })
        .collect();
    closers
        .into_iter()
        .for_each(|closer| closer.join().unwrap());
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let first = session.close_reason().unwrap();
    session.close(CloseReason::Shutdown);
    assert_eq!(session.close_reason(), Some(first));
}

#[test]
fn a_callback_registered_after_the_close_runs_at_once() {
    let session = open(&manager(1 << 20));
    session.close(CloseReason::Idle);
    assert_eq!(counter(&session).load(Ordering::SeqCst), 1);
}

#[test]
fn all_callbacks_run_in_the_order_of_their_registration() {
    let session = open(&manager(1 << 20));
    let (sender, receiver) = std::sync::mpsc::channel();
    for number in 1..=3 {
        let sender = sender.clone();
        session.on_close(move |_| sender.send(number).unwrap());
    }
    assert!(receiver.try_recv().is_err(), "the session is open");
    session.close(CloseReason::Idle);
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_callback_may_use_the_session() {
    let session = open(&manager(1 << 20));
    session.on_close(|session| {
        session.close(CloseReason::Broken);
        session.on_close(|_| {});
        let _ = session.notify(imd::id::Version(1), imd::id::Version(2));
    });
    session.close(CloseReason::Idle);
    assert_eq!(session.close_reason(), Some(CloseReason::Idle));
}

#[tokio::test]
async fn a_manager_that_was_shut_down_closes_new_sessions() {
    let manager = manager(1 << 20);
    let sessions: Vec<_> = (0..100).map(|_| open(&manager)).collect();
    assert_eq!(manager.len(), 100);
    assert_eq!(manager.shut_down(Duration::from_secs(1)).await, 0);
    assert!(
        sessions
            .iter()
            .all(|s| s.close_reason() == Some(CloseReason::Shutdown))
    );
    assert_eq!(open(&manager).close_reason(), Some(CloseReason::Shutdown));
    sessions
        .iter()
        .for_each(|session| manager.remove(session.id()));
    manager.remove(sessions[0].id());
    assert_eq!(manager.len(), 1);
}

#[test]
fn ids_are_never_used_twice_even_across_managers() {
    let ids = SessionIds::default();
    let (one, two) = (manager_of(&ids, 1 << 20), manager_of(&ids, 1 << 20));
    let mut seen: Vec<_> = (0..50)
        .flat_map(|_| [open(&one).id(), open(&two).id()])
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 100);
}

/// The older session logs in once more after it has been displaced and before it is closed. The user stays with the
/// newer one.
#[tokio::test]
async fn a_session_that_was_displaced_does_not_take_its_user_back() {
    let manager = manager(1 << 20);
    let clock = Arc::new(ManualClock::default());
    let ttl = Duration::from_secs(15);
    let directory = LocalDirectory::new(clock, ttl, SecondLogin::Close, Arc::default());
    let directory: Arc<dyn SessionDirectory> = Arc::new(directory);
    let [older, newer] = [open(&manager), open(&manager)].map(|s| s as Arc<dyn SessionHandle>);
    assert!(matches!(
        directory.enter(Uid(1), &older).await,
        Entered::Accepted
    ));
    older.log_in(Uid(1), &directory);
    // A second login on the same session changes nothing.
    assert!(matches!(
        directory.enter(Uid(1), &older).await,
        Entered::Accepted
    ));
    let entered = directory.enter(Uid(1), &newer).await;
    assert!(matches!(entered, Entered::Displaces(session) if session.id() == older.id()));
    newer.log_in(Uid(1), &directory);
    assert!(matches!(
        directory.enter(Uid(1), &older).await,
        Entered::Refused
    ));
    older.displace();
    let present = directory.look_up(Uid(1)).await.unwrap();
    assert_eq!(present.session.id(), newer.id());
}

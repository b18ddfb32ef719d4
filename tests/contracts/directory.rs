//! The contract of `imd::directory`: which session of a user is online, which is notified, and who displaces whom.
//!
//! `suite` runs on the local directory, and is meant for every further implementation, such as one that several
//! processes share. `sockets/presence` and `sockets/takeover` show what clients see of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use imd::clock::{Clock, ClockControl, ManualClock};
use imd::config::SecondLogin;
use imd::directory::{Entered, LocalDirectory, SessionDirectory, SessionHandle, SessionId};
use imd::id::{MsgId, Uid, Version};
use imd::store::{Entry, InboxState, Kind, Message as StoredMessage};
use parking_lot::Mutex;

/// How long a user counts as online after a login or a ping.
const TTL: Duration = Duration::from_secs(15);

/// A session without a connection. It records the notifies and the pushed entries that it gets.
#[derive(Debug)]
struct FakeSession {
    id: SessionId,
    uid: AtomicI64,
    is_closed: AtomicBool,
    notified: Mutex<Vec<Version>>,
    pushed: Mutex<Vec<Version>>,
    directory: Mutex<Option<Arc<dyn SessionDirectory>>>,
}

impl FakeSession {
    fn new(id: u64) -> Arc<FakeSession> {
        Arc::new(FakeSession {
            id: SessionId(id),
            uid: AtomicI64::new(0),
            is_closed: AtomicBool::new(false),
            notified: Mutex::default(),
            pushed: Mutex::default(),
            directory: Mutex::default(),
        })
    }

    /// Returns the newest versions of which the client was notified.
    fn notified(&self) -> Vec<i64> {
        let versions = self.notified.lock();
        versions.iter().map(|version| version.0).collect()
    }
}

impl SessionHandle for FakeSession {
    fn id(&self) -> SessionId {
        self.id
    }

    fn uid(&self) -> Option<Uid> {
        Uid::nonzero(self.uid.load(Ordering::SeqCst))
    }

    fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::SeqCst)
    }

    fn log_in(&self, uid: Uid, directory: &Arc<dyn SessionDirectory>) {
        self.uid.store(uid.0, Ordering::SeqCst);
        *self.directory.lock() = Some(Arc::clone(directory));
    }

    fn notify(&self, inbox: &InboxState) -> bool {
        self.notified.lock().push(inbox.total);
        false
    }

    fn push(&self, entry: &Entry) -> bool {
        self.pushed.lock().push(entry.version);
        true
    }

    fn displace(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        if let (Some(directory), Some(uid)) = (self.directory.lock().take(), self.uid()) {
            directory.leave(uid, self.id);
        }
    }

    fn poll_unserved(&self, _: &Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_abandoned(&self, _: &Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Enters a session into the directory as a login does, and displaces the older session if the directory says so.
async fn log_in(
    directory: &Arc<dyn SessionDirectory>,
    uid: i64,
    session: &Arc<FakeSession>,
) -> Entered {
    let handle: Arc<dyn SessionHandle> = session.clone();
    let entered = directory.enter(Uid(uid), &handle).await;
    if let Entered::Accepted | Entered::Displaces(_) = entered {
        handle.log_in(Uid(uid), directory);
    }
    if let Entered::Displaces(older) = &entered {
        older.displace();
    }
    entered
}

/// Renews the presence of a user as a ping on this session does.
fn renew(directory: &Arc<dyn SessionDirectory>, uid: i64, session: &Arc<FakeSession>) {
    let handle: Arc<dyn SessionHandle> = session.clone();
    directory.renew(Uid(uid), &handle);
}

/// Returns the session that receives the user's notifies.
async fn notified_session(directory: &Arc<dyn SessionDirectory>, uid: i64) -> Option<u64> {
    let present = directory.look_up(Uid(uid)).await?;
    Some(present.session.id().0)
}

/// Returns the state of an inbox that has grown to the version `total` and is not read.
fn unread_inbox(uid: i64, total: i64) -> InboxState {
    InboxState {
        uid: Uid(uid),
        read: Version::START,
        total: Version(total),
    }
}

/// Makes an empty directory.
type Make = fn(Arc<dyn Clock>, SecondLogin) -> Arc<dyn SessionDirectory>;

/// Runs the suite on the directories that `make` creates: empty ones, in which a user counts as online for [`TTL`].
async fn suite(make: Make) {
    presence_lasts_until_the_session_leaves(make).await;
    a_notify_reaches_the_session_of_its_user(make).await;
    a_pushed_entry_reaches_the_session_that_is_notified(make).await;
    a_second_login_displaces_the_older_session(make).await;
    a_second_login_may_be_refused_or_share_the_user(make).await;
    a_closed_session_does_not_enter(make).await;
}

async fn presence_lasts_until_the_session_leaves(make: Make) {
    let clock = Arc::new(ManualClock::default());
    let directory = make(clock.clone(), SecondLogin::Close);
    let session = FakeSession::new(1);
    assert!(directory.look_up(Uid(7)).await.is_none());
    assert!(matches!(
        log_in(&directory, 7, &session).await,
        Entered::Accepted
    ));
    log_in(&directory, 9, &FakeSession::new(2)).await;
    let expires_in = async || directory.look_up(Uid(7)).await.unwrap().expires_in;
    assert_eq!(expires_in().await, TTL);
    clock.advance(Duration::from_secs(10)).await;
    assert_eq!(expires_in().await, Duration::from_secs(5));
    renew(&directory, 7, &session);
    assert_eq!(expires_in().await, TTL);
    assert!(directory.is_online(Uid(7)) && !directory.is_online(Uid(8)));
    // A user who has not pinged in time is offline, and still notified.
    clock.advance(Duration::from_secs(60)).await;
    assert!(!directory.is_online(Uid(7)));
    assert_eq!(expires_in().await, Duration::ZERO);
    let mut users = directory.users(Uid(0)).await;
    users.sort_unstable();
    assert_eq!(users, [Uid(7), Uid(9)]);
    assert_eq!(directory.users(Uid(7)).await, [Uid(9)]);
    directory.leave(Uid(7), SessionId(2));
    assert_eq!(notified_session(&directory, 7).await, Some(1));
    directory.leave(Uid(7), SessionId(1));
    assert!(directory.look_up(Uid(7)).await.is_none());
}

async fn a_notify_reaches_the_session_of_its_user(make: Make) {
    let directory = make(Arc::new(ManualClock::default()), SecondLogin::Close);
    let (one, two) = (FakeSession::new(1), FakeSession::new(2));
    log_in(&directory, 7, &one).await;
    log_in(&directory, 9, &two).await;
    directory.notify(&[unread_inbox(7, 3), unread_inbox(8, 4), unread_inbox(7, 5)]);
    assert_eq!((one.notified(), two.notified()), (vec![3, 5], vec![]));
}

/// No session can be pushed to but the one that is notified.
async fn a_pushed_entry_reaches_the_session_that_is_notified(make: Make) {
    let directory = make(Arc::new(ManualClock::default()), SecondLogin::Demote);
    let (older, newer, other) = (
        FakeSession::new(1),
        FakeSession::new(2),
        FakeSession::new(3),
    );
    log_in(&directory, 7, &older).await;
    log_in(&directory, 7, &newer).await;
    log_in(&directory, 9, &other).await;
    let message = StoredMessage::new(Kind::P2p, Uid(9), None, MsgId("a"), "text", 1);
    let entry = Entry {
        version: Version(4),
        message: Arc::new(message),
    };
    directory.push(Uid(7), &entry);
    directory.push(Uid(8), &entry);
    assert_eq!(*newer.pushed.lock(), [Version(4)]);
    assert!(older.pushed.lock().is_empty() && other.pushed.lock().is_empty());
    assert!(newer.notified().is_empty());
}

async fn a_second_login_displaces_the_older_session(make: Make) {
    let directory = make(Arc::new(ManualClock::default()), SecondLogin::Close);
    let (older, newer) = (FakeSession::new(1), FakeSession::new(2));
    log_in(&directory, 7, &older).await;
    // A login on the same session changes nothing.
    assert!(matches!(
        log_in(&directory, 7, &older).await,
        Entered::Accepted
    ));
    let handle: Arc<dyn SessionHandle> = newer.clone();
    let entered = directory.enter(Uid(7), &handle).await;
    assert!(matches!(&entered, Entered::Displaces(session) if session.id() == older.id()));
    newer.log_in(Uid(7), &directory);
    // Between being displaced and being closed, the older session can't take its user back.
    assert!(matches!(
        log_in(&directory, 7, &older).await,
        Entered::Refused
    ));
    older.displace();
    assert_eq!(notified_session(&directory, 7).await, Some(2));
    directory.notify(&[unread_inbox(7, 1)]);
    assert_eq!((older.notified(), newer.notified()), (vec![], vec![1]));
}

async fn a_second_login_may_be_refused_or_share_the_user(make: Make) {
    let (older, newer) = (FakeSession::new(1), FakeSession::new(2));
    let directory = make(Arc::new(ManualClock::default()), SecondLogin::Refuse);
    log_in(&directory, 7, &older).await;
    assert!(matches!(
        log_in(&directory, 7, &newer).await,
        Entered::Refused
    ));
    assert_eq!(notified_session(&directory, 7).await, Some(1));

    let directory = make(Arc::new(ManualClock::default()), SecondLogin::Demote);
    log_in(&directory, 7, &older).await;
    assert!(matches!(
        log_in(&directory, 7, &newer).await,
        Entered::Accepted
    ));
    assert_eq!(notified_session(&directory, 7).await, Some(2));
    // The older session stays, and is notified again when the newer one is gone and the user pings on it.
    newer.displace();
    assert_eq!(notified_session(&directory, 7).await, None);
    renew(&directory, 7, &older);
    assert_eq!(notified_session(&directory, 7).await, Some(1));
}

async fn a_closed_session_does_not_enter(make: Make) {
    let directory = make(Arc::new(ManualClock::default()), SecondLogin::Close);
    let session = FakeSession::new(1);
    session.displace();
    assert!(matches!(
        log_in(&directory, 7, &session).await,
        Entered::Closed
    ));
    // Nor does one on which another user is logged in, or a closed one, by a ping.
    renew(&directory, 7, &session);
    renew(&directory, 7, &FakeSession::new(2));
    assert!(directory.look_up(Uid(7)).await.is_none());
}

#[tokio::test]
async fn the_local_directory_keeps_the_contract() {
    suite(|clock, second_login| {
        let directory = LocalDirectory::new(clock, TTL, second_login, Arc::default());
        Arc::new(directory)
    })
    .await;
}

//! The sessions of one listener.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::sweep::Sweep;
use super::{CloseReason, Deadlines, Pause, Session, SessionId};
use crate::clock::Clock;
use crate::sharded::Sharded;
use crate::shutdown::Shutdown;

/// Sessions by id.
pub(super) type Sessions = Sharded<SessionId, Arc<Session>>;

/// Gives out the session ids of one `imd`. Clones go on from the same number.
#[derive(Debug, Clone, Default)]
pub struct SessionIds(Arc<AtomicU64>);

impl SessionIds {
    fn next(&self) -> SessionId {
        SessionId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The sessions of one listener, by id.
#[derive(Debug)]
pub struct Manager {
    sessions: Sessions,
    count: AtomicUsize,
    ids: SessionIds,
    clock: Arc<dyn Clock>,
    deadlines: Deadlines,
    outbound_limit: usize,
    shutdown: Shutdown,
    pause: Arc<Pause>,
    /// Since when it rests. Held while that changes; a session's locks are taken inside it.
    paused_since: Mutex<Option<Duration>>,
    killed: AtomicBool,
    /// Notified whenever a session is done.
    session_done: Notify,
    /// How many callers wait in [`all_idle`](Manager::all_idle). While there are none, no session notifies `parked`.
    watchers: AtomicUsize,
    /// Notified when a session may have come to rest.
    parked: Notify,
}

impl Manager {
    /// A manager without sessions.
    pub fn new(
        ids: SessionIds,
        clock: Arc<dyn Clock>,
        deadlines: Deadlines,
        outbound_limit: usize,
    ) -> Arc<Self> {
        Arc::new(Manager {
            sessions: Sessions::default(),
            count: AtomicUsize::new(0),
            ids,
            clock,
            deadlines,
            outbound_limit,
            shutdown: Shutdown::default(),
            pause: Arc::default(),
            paused_since: Mutex::default(),
            killed: AtomicBool::new(false),
            session_done: Notify::new(),
            watchers: AtomicUsize::new(0),
            parked: Notify::new(),
        })
    }

    /// A new session.
    pub fn open(&self, peer: SocketAddr, local: SocketAddr) -> Arc<Session> {
        let id = self.ids.next();
        let session = Arc::new(Session::new(
            id,
            (peer, local),
            self.clock.now(),
            self.outbound_limit,
        ));
        self.sessions
            .of(id.0)
            .lock()
            .insert(id, Arc::clone(&session));
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.is_killed() {
            session.close(CloseReason::Killed);
        } else if self.shutdown.has_begun() {
            session.close(CloseReason::Shutdown);
        }
        session
    }

    /// Forgets a session whose task has ended.
    pub fn remove(&self, id: SessionId) {
        if self.sessions.of(id.0).lock().remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.parked();
        }
    }

    /// Notes that a session's task waits for its peer, or has ended. One relaxed load, as long as nobody watches.
    #[inline]
    pub(super) fn parked(&self) {
        if self.watchers.load(Ordering::Relaxed) > 0 {
            self.parked.notify_waiters();
        }
    }

    /// Waits until each session has been at rest at some moment, or has ended. Ends early when the sessions are paused.
    pub async fn all_idle(&self) {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        let _watching = Watching(&self.watchers);
        for session in self.sessions() {
            let mut is_woken = false;
            loop {
                let mut parked = pin!(self.parked.notified());
                // Before the check, so that what happens right after it is noticed.
                parked.as_mut().enable();
                if session.is_idle() || !self.has(session.id()) || self.is_paused() {
                    break;
                }
                // Takes the lock that the session's task takes before it parks. So a task that does not see the watcher
                // yet has parked before this, and is woken: when it parks again, it sees it.
                if !std::mem::replace(&mut is_woken, true) {
                    session.wake();
                }
                parked.await;
            }
        }
    }

    /// Notes that nothing more comes of a session.
    pub(super) fn done(&self, session: &Session) {
        session.done();
        self.session_done.notify_waiters();
    }

    /// Returns how many sessions are closed and not done.
    pub fn closing(&self) -> usize {
        let closed = self
            .sessions()
            .filter(|session| session.close_reason().is_some());
        closed.filter(|session| !session.is_done()).count()
    }

    /// Waits until each session that is closed is done.
    pub async fn closed_sessions_done(&self) {
        for session in self.sessions() {
            if session.close_reason().is_none() {
                continue;
            }
            loop {
                let mut done = pin!(self.session_done.notified());
                // Before the check, so that what happens right after it is noticed.
                done.as_mut().enable();
                if session.is_done() {
                    break;
                }
                done.await;
            }
        }
    }

    /// Forgets the sessions that are over but for the last word to their peers. Their tasks go on to say it.
    pub fn forget_done(&self) {
        for session in self.sessions().filter(|session| session.is_done()) {
            self.remove(session.id());
        }
    }

    /// Whether this is one of them.
    pub fn has(&self, id: SessionId) -> bool {
        self.sessions.of(id.0).lock().contains_key(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the sessions' times are counted by.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// What their tasks are spawned on.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Closes every session.
    pub fn close_all(&self, reason: CloseReason) {
        for session in self.sessions() {
            session.close(reason);
        }
    }

    /// Stops everything that was spawned on this manager's shutdown, tells and closes every session, and waits for
    /// their tasks: at most the grace period, and a second for those that have to be cut off then.
    ///
    /// A pause ends with it. Returns how many tasks had not ended by then.
    pub async fn dispose(&self, grace: Duration) -> usize {
        self.tell_all();
        self.shutdown.ended_within(grace).await
    }

    /// The same without waiting: what a socket takes at once is said, and that is all.
    pub fn abandon(&self) {
        self.tell_all();
        self.shutdown.hurry();
    }

    fn tell_all(&self) {
        self.shutdown.begin();
        self.close_all(CloseReason::Shutdown);
        self.resume();
    }

    /// Dies: stops everything that was spawned on this manager's shutdown, and resets every connection without a word,
    /// whatever its task is at. Ends a pause, and a disposal that is under way.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.shutdown.hurry();
        for session in self.sessions() {
            session.close(CloseReason::Killed);
            // One that was closed before may be waiting for its handler.
            session.wake();
        }
        self.resume();
    }

    /// Whether it was killed.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// Lets the sessions rest, with their sockets open: nothing is read or written, no deadline runs, and no close is
    /// worked off. A handler that is at work goes on; its answers wait.
    pub fn pause(&self) {
        let mut since = self.paused_since.lock();
        if since.is_none() {
            *since = Some(self.clock.now());
            self.pause.set(true);
            self.parked.notify_waiters();
        }
    }

    /// Ends the rest. Deadlines go on where they stopped.
    pub fn resume(&self) {
        let mut since = self.paused_since.lock();
        let Some(since) = since.take() else {
            return;
        };
        let now = self.clock.now();
        for session in self.sessions() {
            session.timers.postpone(now.saturating_sub(since), now);
        }
        self.pause.set(false);
        for session in self.sessions() {
            session.wake();
        }
    }

    /// Whether its sessions rest.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.pause.is_on()
    }

    /// What the accept loop rests by.
    pub fn pause_state(&self) -> &Arc<Pause> {
        &self.pause
    }

    /// Whether a session's task has to rest. If so, it is woken when that is over.
    #[inline]
    pub(super) fn park_if_paused(&self, session: &Session, cx: &Context<'_>) -> bool {
        self.is_paused() && {
            session.park(cx);
            // Who resumes wakes the task afterwards: either that finds it parked, or this look sees the change.
            self.is_paused()
        }
    }

    /// Waits for what is done for a session, but not past a kill.
    ///
    /// # Errors
    ///
    /// When the manager was killed while the work had to wait.
    pub(super) fn unless_killed<F: Future>(
        &self,
        session: &Session,
        mut work: Pin<&mut F>,
    ) -> impl Future<Output = io::Result<F::Output>> {
        poll_fn(move |cx| {
            // What is dead does nothing more, also what a fault no longer holds.
            if !self.is_killed()
                && let Poll::Ready(done) = work.as_mut().poll(cx)
            {
                return Poll::Ready(Ok(done));
            }
            // In this order, as in `rests`.
            session.park(cx);
            // One that was left half-open is at rest wherever its task waits.
            self.parked();
            if self.is_killed() {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            } else {
                Poll::Pending
            }
        })
    }

    /// Closes sessions that have missed a deadline, until the shutdown begins. One sweep looks after all of them, so that
    /// a session needs no timer of its own.
    ///
    /// Its time runs from this call, not from the future's first poll.
    pub fn sweep(self: Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let mut ticks = self.clock.rounds(self.deadlines.tick());
        let mut sweep = Sweep::new(self.deadlines.clone(), self.clock.now());
        async move {
            loop {
                tokio::select! {
                    () = self.shutdown.begun() => return,
                    _ = ticks.tick() => {}
                }
                // By the lock: with the end of a pause come the deadlines that it has put off.
                if self.paused_since.lock().is_some() {
                    continue;
                }
                for (session, reason) in sweep.tick(&self.sessions, self.clock.now()) {
                    session.close(reason);
                }
            }
        }
    }

    /// The sessions at this moment, shard by shard: no lock is held while the caller works on one.
    pub fn sessions(&self) -> impl Iterator<Item = Arc<Session>> {
        self.sessions
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
    }
}

/// Counts one watcher less when it is dropped.
struct Watching<'a>(&'a AtomicUsize);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

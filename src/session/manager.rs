//! The sessions of one listener: their ids, their pause, their deadlines and their common end.
//!
//! Serves the listeners, which open sessions here, and the lifecycle of the gateway and of the access servers, which pauses
//! and ends them. A session stays in the manager until its task has ended, or until a reset forgets it once it is done.
//!
//! The order of locks: `paused_since` is taken before a lock of a session, never the other way round.

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
use super::{Addresses, CloseReason, Deadlines, Pause, Session, SessionId, Sessions};
use crate::clock::Clock;
use crate::task_group::TaskGroup;

/// Gives out the ids of the sessions of one `imd`. Clones count on from the same number, so that no two sessions have the
/// same id.
#[derive(Debug, Clone, Default)]
pub struct SessionIds(Arc<AtomicU64>);

impl SessionIds {
    fn next(&self) -> SessionId {
        SessionId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The sessions of one listener, by id, with their pause, their deadlines and their common end.
#[derive(Debug)]
pub struct SessionManager {
    sessions: Sessions,
    /// The number of sessions, so that it is read without the locks of the shards.
    count: AtomicUsize,
    ids: SessionIds,
    clock: Arc<dyn Clock>,
    deadlines: Deadlines,
    /// How many bytes may wait to be written to one session.
    unwritten_limit: usize,
    /// The tasks that end with this manager.
    tasks: TaskGroup,
    pause: Arc<Pause>,
    /// When the pause began; none if there is no pause. The lock is held while a pause begins or ends.
    paused_since: Mutex<Option<Duration>>,
    killed: AtomicBool,
    /// Notified whenever a session is done.
    session_done: Notify,
    /// The number of callers that wait in [`all_settled`](SessionManager::all_settled). While there are none, no session
    /// notifies `maybe_settled`.
    watchers: AtomicUsize,
    /// Notified when a session may have become settled.
    maybe_settled: Notify,
}

impl SessionManager {
    /// Creates a manager without sessions.
    pub fn new(
        ids: SessionIds,
        clock: Arc<dyn Clock>,
        deadlines: Deadlines,
        unwritten_limit: usize,
    ) -> Arc<Self> {
        Arc::new(SessionManager {
            sessions: Sessions::default(),
            count: AtomicUsize::new(0),
            ids,
            clock,
            deadlines,
            unwritten_limit,
            tasks: TaskGroup::default(),
            pause: Arc::default(),
            paused_since: Mutex::default(),
            killed: AtomicBool::new(false),
            session_done: Notify::new(),
            watchers: AtomicUsize::new(0),
            maybe_settled: Notify::new(),
        })
    }

    /// Opens a session. It is closed already if this manager was shut down or killed.
    pub fn open(&self, peer: SocketAddr, local: SocketAddr) -> Arc<Session> {
        let id = self.ids.next();
        let session = Arc::new(Session::new(
            id,
            Addresses::new(peer, local),
            self.clock.now(),
            self.unwritten_limit,
        ));
        self.sessions
            .of(id.0)
            .lock()
            .insert(id, Arc::clone(&session));
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.is_killed() {
            session.close(CloseReason::Killed);
        } else if self.tasks.has_shutdown_begun() {
            session.close(CloseReason::Shutdown);
        }
        session
    }

    /// Removes a session whose task has ended.
    pub fn remove(&self, id: SessionId) {
        if self.sessions.of(id.0).lock().remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.note_maybe_settled();
        }
    }

    /// Notes that a session may have become settled: its task waits for its peer, or has ended. Costs one relaxed load while
    /// nobody is in [`all_settled`](Self::all_settled).
    #[inline]
    pub(super) fn note_maybe_settled(&self) {
        if self.watchers.load(Ordering::Relaxed) > 0 {
            self.maybe_settled.notify_waiters();
        }
    }

    /// Waits until each session has been [settled](Session::is_settled) at some moment, or has ended. Ends early when the
    /// sessions are paused.
    pub async fn all_settled(&self) {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        let _watching = Watching(&self.watchers);
        for session in self.sessions() {
            let mut is_woken = false;
            loop {
                let mut maybe_settled = pin!(self.maybe_settled.notified());
                // Enabled before the check, so that a change right after the check is noticed.
                maybe_settled.as_mut().enable();
                if session.is_settled() || !self.has(session.id()) || self.is_paused() {
                    break;
                }
                // A task may have parked before it could see that somebody watches. It is woken once, so that it parks
                // again and notifies. The lock that `wake` takes is the one that a task takes before it parks: a task that
                // parks after this call sees the watcher.
                if !std::mem::replace(&mut is_woken, true) {
                    session.wake();
                }
                maybe_settled.await;
            }
        }
    }

    /// Notes that a session is [done](Session::is_done).
    pub(super) fn note_done(&self, session: &Session) {
        session.note_done();
        self.session_done.notify_waiters();
    }

    /// Returns how many sessions are closed and not [done](Session::is_done).
    pub fn closing(&self) -> usize {
        let closed = self
            .sessions()
            .filter(|session| session.close_reason().is_some());
        closed.filter(|session| !session.is_done()).count()
    }

    /// Waits until each session that is closed is [done](Session::is_done).
    pub async fn closed_sessions_done(&self) {
        for session in self.sessions() {
            if session.close_reason().is_none() {
                continue;
            }
            loop {
                let mut done = pin!(self.session_done.notified());
                // Enabled before the check, so that a change right after the check is noticed.
                done.as_mut().enable();
                if session.is_done() {
                    break;
                }
                done.await;
            }
        }
    }

    /// Removes the sessions that are [done](Session::is_done). Their tasks may still write the last bytes.
    pub fn forget_done(&self) {
        for session in self.sessions().filter(|session| session.is_done()) {
            self.remove(session.id());
        }
    }

    /// Returns the session with this id, if it exists.
    pub(super) fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.of(id.0).lock().get(&id).cloned()
    }

    /// Returns whether a session with this id exists.
    pub fn has(&self, id: SessionId) -> bool {
        self.sessions.of(id.0).lock().contains_key(&id)
    }

    /// Returns the number of sessions.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the clock that times the sessions.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Returns how long the peers of the sessions may take for each thing that they have to do.
    pub fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Returns the group of tasks that ends with this manager: the accept loop, the tasks of the sessions, and whatever else
    /// its server spawns. [`shut_down`](Self::shut_down), [`end_now`](Self::end_now) and [`kill`](Self::kill) ask them to end.
    pub fn tasks(&self) -> &TaskGroup {
        &self.tasks
    }

    /// Closes every session.
    pub fn close_all(&self, reason: CloseReason) {
        for session in self.sessions() {
            session.close(reason);
        }
    }

    /// Asks this manager's [tasks](Self::tasks) to end, closes every session, and waits for the tasks: for `grace` at most, and
    /// then a second for those that have to be cut off. Returns how many tasks have not ended by then.
    ///
    /// Each client gets the farewell of [`CloseReason::Shutdown`]. A pause ends.
    pub async fn shut_down(&self, grace: Duration) -> usize {
        self.close_for_shutdown();
        self.tasks.finish_within(grace).await
    }

    /// Closes every session and asks this manager's tasks to end, as [`shut_down`](Self::shut_down) does, but without waiting:
    /// what a socket does not take at once is lost.
    pub fn end_now(&self) {
        self.close_for_shutdown();
        self.tasks.hurry();
    }

    fn close_for_shutdown(&self) {
        self.tasks.begin_shutdown();
        self.close_all(CloseReason::Shutdown);
        self.resume();
    }

    /// Asks this manager's tasks to end at once, and resets every connection without another byte, whatever its task is
    /// doing. Ends a pause, and cuts short a shutdown that is in progress.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.tasks.hurry();
        for session in self.sessions() {
            session.close(CloseReason::Killed);
            // A session that was closed before is not woken by a second close, and may be waiting for its handler.
            session.wake();
        }
        self.resume();
    }

    /// Returns whether the manager was killed.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// Pauses the sessions, with their sockets open: nothing is read or written, no deadline runs, and no session ends. A
    /// handler that is running goes on; its replies wait.
    pub fn pause(&self) {
        let mut since = self.paused_since.lock();
        if since.is_none() {
            *since = Some(self.clock.now());
            self.pause.set(true);
            self.maybe_settled.notify_waiters();
        }
    }

    /// Ends a pause. Deadlines go on where they stopped.
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

    /// Returns whether the sessions are paused.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.pause.is_on()
    }

    /// Returns the state of the pause, which the accept loop obeys too.
    pub fn pause_state(&self) -> &Arc<Pause> {
        &self.pause
    }

    /// Returns whether the sessions are paused. If so, the session's task is woken at the end of the pause.
    #[inline]
    pub(super) fn park_if_paused(&self, session: &Session, cx: &Context<'_>) -> bool {
        self.is_paused() && {
            session.park(cx);
            // The end of a pause is set before the tasks are woken: either the task is parked by then, or this check sees
            // the change.
            self.is_paused()
        }
    }

    /// Awaits work that is done for a session, at most until the manager is killed.
    ///
    /// # Errors
    ///
    /// When the manager was killed before the work was done.
    pub(super) fn unless_killed<F: Future>(
        &self,
        session: &Session,
        mut work: Pin<&mut F>,
    ) -> impl Future<Output = io::Result<F::Output>> {
        poll_fn(move |cx| {
            // A killed server carries nothing out any more, not even a request that a fault held back until now.
            if !self.is_killed()
                && let Poll::Ready(done) = work.as_mut().poll(cx)
            {
                return Poll::Ready(Ok(done));
            }
            // Parked before the check below, as in `park_if_paused`, so that a kill in between is noticed.
            session.park(cx);
            // A half-open session counts as settled even while its task waits here.
            self.note_maybe_settled();
            if self.is_killed() {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            } else {
                Poll::Pending
            }
        })
    }

    /// Closes sessions that have missed a deadline, until the shutdown begins. One sweep checks all of them, so that a
    /// session needs no timer of its own.
    ///
    /// The time of the sweep runs from this call, and not from the first poll of the future.
    pub fn sweep(self: Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let mut ticks = self.clock.housekeeping_ticks(self.deadlines.tick());
        let mut sweep = Sweep::new(self.deadlines.clone(), self.clock.now());
        async move {
            loop {
                tokio::select! {
                    () = self.tasks.shutdown_begun() => return,
                    _ = ticks.tick() => {}
                }
                // No deadline is missed during a pause. Its end postpones the deadlines before it releases this lock.
                if self.paused_since.lock().is_some() {
                    continue;
                }
                for (session, reason) in sweep.tick(&self.sessions, self.clock.now()) {
                    session.close(reason);
                }
            }
        }
    }

    /// Returns the sessions at this moment, shard by shard. No lock is held while the caller works on one.
    pub fn sessions(&self) -> impl Iterator<Item = Arc<Session>> {
        self.sessions
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
    }
}

/// Counts a watcher of [`SessionManager::all_settled`], until it is dropped.
struct Watching<'a>(&'a AtomicUsize);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

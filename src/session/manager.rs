//! The sessions of one listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::{CloseReason, Deadlines, Session, SessionId};
use crate::clock::Clock;
use crate::shutdown::Shutdown;

const SHARDS: usize = 32;

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
    shards: [Mutex<HashMap<SessionId, Arc<Session>>>; SHARDS],
    count: AtomicUsize,
    ids: SessionIds,
    clock: Arc<dyn Clock>,
    deadlines: Deadlines,
    outbound_limit: usize,
    shutdown: Shutdown,
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
            shards: Default::default(),
            count: AtomicUsize::new(0),
            ids,
            clock,
            deadlines,
            outbound_limit,
            shutdown: Shutdown::default(),
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
        self.shard(id).lock().insert(id, Arc::clone(&session));
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.shutdown.has_begun() {
            session.close(CloseReason::Shutdown);
        }
        session
    }

    /// Forgets a session whose task has ended.
    pub fn remove(&self, id: SessionId) {
        if self.shard(id).lock().remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
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
    /// Returns how many tasks had not ended by then.
    pub async fn dispose(&self, grace: Duration) -> usize {
        self.shutdown.begin();
        self.close_all(CloseReason::Shutdown);
        self.shutdown.ended_within(grace).await
    }

    /// Closes sessions that have missed a deadline, until the shutdown begins. One sweep looks at all of them, so that
    /// a session needs no timer of its own.
    ///
    /// Its time runs from this call, not from the future's first poll.
    pub fn sweep(self: Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let mut ticks = self.clock.ticks(self.deadlines.sweep());
        async move {
            loop {
                tokio::select! {
                    () = self.shutdown.begun() => return,
                    () = ticks.tick() => {}
                }
                let now = self.clock.now();
                for session in self.sessions() {
                    let logged_in = session.uid().is_some();
                    if let Some(reason) = self.deadlines.missed(&session.timers, logged_in, now) {
                        session.close(reason);
                    }
                }
            }
        }
    }

    fn shard(&self, id: SessionId) -> &Mutex<HashMap<SessionId, Arc<Session>>> {
        let index = usize::try_from(id.0).unwrap_or_default() % SHARDS;
        #[allow(clippy::indexing_slicing, reason = "the index is less than SHARDS")]
        &self.shards[index]
    }

    /// The sessions at this moment, shard by shard: no lock is held while the caller works on one.
    pub fn sessions(&self) -> impl Iterator<Item = Arc<Session>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
    }
}

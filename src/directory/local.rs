//! The directory of one process: the sessions of all its access servers, in a sharded map.
//!
//! Serves the services, which use it as a [`SessionDirectory`]; the wiring makes one for each stack. A session is
//! notified only after the lock of its entry was released.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Entered, Present, SessionDirectory, SessionHandle, SessionId};
use crate::clock::Clock;
use crate::config::SecondLogin;
use crate::id::Uid;
use crate::metrics::Metrics;
use crate::sharded::Sharded;
use crate::store::{self, InboxState};

/// A directory that knows the sessions of this process only. Nothing in it waits.
#[derive(Debug)]
pub struct LocalDirectory {
    shards: Sharded<Uid, Entry>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    second_login: SecondLogin,
    metrics: Arc<Metrics>,
}

/// A user who is logged in.
#[derive(Debug)]
struct Entry {
    session: Arc<dyn SessionHandle>,
    /// When the user logged in or pinged for the last time, by the directory's clock.
    renewed: Duration,
}

impl LocalDirectory {
    /// Creates an empty directory. A user counts as online for `ttl` after a login or ping.
    pub fn new(
        clock: Arc<dyn Clock>,
        ttl: Duration,
        second_login: SecondLogin,
        metrics: Arc<Metrics>,
    ) -> Self {
        LocalDirectory {
            shards: Default::default(),
            clock,
            ttl,
            second_login,
            metrics,
        }
    }

    fn expires_in(&self, entry: &Entry) -> Duration {
        let expires = entry.renewed.saturating_add(self.ttl);
        expires.saturating_sub(self.clock.now())
    }

    fn entry(&self, session: &Arc<dyn SessionHandle>) -> Entry {
        Entry {
            session: Arc::clone(session),
            renewed: self.clock.now(),
        }
    }

    fn session(&self, uid: Uid) -> Option<Arc<dyn SessionHandle>> {
        let shard = self.shards.of(uid.0.unsigned_abs()).lock();
        shard.get(&uid).map(|entry| Arc::clone(&entry.session))
    }
}

#[async_trait]
impl SessionDirectory for LocalDirectory {
    async fn enter(&self, uid: Uid, session: &Arc<dyn SessionHandle>) -> Entered {
        let mut shard = self.shards.of(uid.0.unsigned_abs()).lock();
        // A session that is closed after this check leaves only when this lock is free, and so finds its entry.
        if !session.is_open() {
            return Entered::Closed;
        }
        let older = shard.get(&uid).map(|entry| &entry.session);
        let older = older.filter(|older| older.id() != session.id());
        let entered = match (older, self.second_login) {
            (Some(_), SecondLogin::Refuse) => return Entered::Refused,
            // This session is logged in as `uid`, but another one holds the entry: it has displaced this session and is about
            // to close it. If this one displaced it in turn, each would close the other, and the user would have none.
            (Some(_), SecondLogin::Close) if session.uid() == Some(uid) => {
                return Entered::Refused;
            }
            (Some(older), SecondLogin::Close) => Entered::Displaces(Arc::clone(older)),
            (Some(_), SecondLogin::Demote) | (None, _) => Entered::Accepted,
        };
        shard.insert(uid, self.entry(session));
        entered
    }

    fn leave(&self, uid: Uid, session: SessionId) {
        let mut shard = self.shards.of(uid.0.unsigned_abs()).lock();
        if shard
            .get(&uid)
            .is_some_and(|entry| entry.session.id() == session)
        {
            shard.remove(&uid);
        }
    }

    fn renew(&self, uid: Uid, session: &Arc<dyn SessionHandle>) {
        let mut shard = self.shards.of(uid.0.unsigned_abs()).lock();
        match shard.get_mut(&uid) {
            Some(entry) => entry.renewed = self.clock.now(),
            // A session on which this user is not logged in gets no entry: it would not leave when it is closed.
            None if session.uid() == Some(uid) && session.is_open() => {
                shard.insert(uid, self.entry(session));
            }
            None => {}
        }
    }

    fn is_online(&self, uid: Uid) -> bool {
        let expires_in = |entry: &Entry| self.expires_in(entry);
        let shard = self.shards.of(uid.0.unsigned_abs()).lock();
        shard.get(&uid).map(expires_in) > Some(Duration::ZERO)
    }

    async fn look_up(&self, uid: Uid) -> Option<Present> {
        let shard = self.shards.of(uid.0.unsigned_abs()).lock();
        let entry = shard.get(&uid)?;
        Some(Present {
            session: Arc::clone(&entry.session),
            expires_in: self.expires_in(entry),
        })
    }

    async fn users(&self, after: Uid) -> Vec<Uid> {
        let shards = self.shards.iter().map(|shard| shard.lock());
        shards
            .flat_map(|shard| -> Vec<Uid> {
                let uids = shard.keys().copied();
                uids.filter(|&uid| uid > after).collect()
            })
            .collect()
    }

    fn push(&self, uid: Uid, entry: &store::Entry) {
        // As in `notify`, no lock of the directory is held meanwhile.
        if let Some(session) = self.session(uid) {
            session.push(entry);
        }
    }

    fn notify(&self, grown_inboxes: &[InboxState]) {
        for inbox in grown_inboxes {
            // The shard's lock is free while the session is notified, which takes a lock of its own.
            if let Some(session) = self.session(inbox.uid)
                && session.notify(inbox)
            {
                self.metrics.merged();
            }
        }
    }
}

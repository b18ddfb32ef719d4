//! Who is where (uid to session), and from receivers to their sessions.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::SecondLogin;
use crate::id::Uid;
use crate::metrics::Metrics;
use crate::session::{Session, SessionId};
use crate::sharded::Sharded;
use crate::store::Level;

/// The sessions of the users who are logged in, on all access servers.
#[derive(Debug)]
pub struct Presence {
    shards: Sharded<Uid, Present>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    second_login: SecondLogin,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Present {
    /// The session that is notified.
    session: Arc<Session>,
    /// The last login or ping.
    renewed: Duration,
}

/// What a login has met.
#[derive(Debug)]
pub enum Entered {
    /// Nobody that has to go.
    Alone,
    /// An older session, which has to be closed.
    InPlaceOf(Arc<Session>),
    /// Another session, which stays: this login is refused.
    Refused,
    /// The session has been closed meanwhile. Nothing has changed.
    Closed,
}

impl Presence {
    /// Nobody is there. A user counts as online for `ttl` after a login or ping.
    pub fn new(
        clock: Arc<dyn Clock>,
        ttl: Duration,
        second_login: SecondLogin,
        metrics: Arc<Metrics>,
    ) -> Self {
        Presence {
            shards: Default::default(),
            clock,
            ttl,
            second_login,
            metrics,
        }
    }

    /// From now on `session` is the one that is notified for `uid`, until it [leaves](Self::leave).
    pub fn enter(&self, uid: Uid, session: &Arc<Session>) -> Entered {
        let mut shard = self.shards.of(uid.0.unsigned_abs()).lock();
        // A session that is closed from here on leaves only after this lock is free.
        if session.close_reason().is_some() {
            return Entered::Closed;
        }
        let older = shard.get(&uid).map(|present| &present.session);
        let older = older.filter(|older| older.id() != session.id());
        let entered = match (older, self.second_login) {
            (Some(_), SecondLogin::Refuse) => return Entered::Refused,
            // A session that was logged in has been replaced and is about to be closed. Were it to take over in its turn,
            // each of the two would close the other, and the user would have no session.
            (Some(_), SecondLogin::Close) if session.uid() == Some(uid) => {
                return Entered::Refused;
            }
            (Some(older), SecondLogin::Close) => Entered::InPlaceOf(Arc::clone(older)),
            (Some(_), SecondLogin::Demote) | (None, _) => Entered::Alone,
        };
        shard.insert(uid, self.present(session));
        entered
    }

    fn present(&self, session: &Arc<Session>) -> Present {
        Present {
            session: Arc::clone(session),
            renewed: self.clock.now(),
        }
    }

    /// The session leaves. One that has been replaced can't remove its successor.
    pub fn leave(&self, uid: Uid, session: SessionId) {
        let mut shard = self.shards.of(uid.0.unsigned_abs()).lock();
        if shard
            .get(&uid)
            .is_some_and(|present| present.session.id() == session)
        {
            shard.remove(&uid);
        }
    }

    /// The user has given a sign of life, on this session. If the one that had replaced it is gone, it is the one that
    /// is notified again.
    pub fn renew(&self, uid: Uid, session: &Arc<Session>) {
        let mut shard = self.shards.of(uid.0.unsigned_abs()).lock();
        match shard.get_mut(&uid) {
            Some(present) => present.renewed = self.clock.now(),
            // Not one that is logged in as nobody: nothing would take it off the list.
            None if session.uid() == Some(uid) && session.close_reason().is_none() => {
                shard.insert(uid, self.present(session));
            }
            None => {}
        }
    }

    /// Whether the user counts as online: logged in, and heard of within the ttl.
    pub fn is_online(&self, uid: Uid) -> bool {
        let now = self.clock.now();
        let shard = self.shards.of(uid.0.unsigned_abs()).lock();
        shard
            .get(&uid)
            .is_some_and(|present| now.saturating_sub(present.renewed) < self.ttl)
    }

    /// The session that is notified for the user, and for how long yet they count as online.
    pub fn seen(&self, uid: Uid) -> Option<(Arc<Session>, Duration)> {
        let now = self.clock.now();
        let shard = self.shards.of(uid.0.unsigned_abs()).lock();
        let Present { session, renewed } = shard.get(&uid)?;
        let left = (*renewed + self.ttl).saturating_sub(now);
        Some((Arc::clone(session), left))
    }

    /// The users above uid `after` who have a session, in no order.
    pub fn uids(&self, after: Uid) -> Vec<Uid> {
        let shards = self.shards.iter().map(|shard| shard.lock());
        shards
            .flat_map(|shard| -> Vec<Uid> {
                let uids = shard.keys().copied();
                uids.filter(|&uid| uid > after).collect()
            })
            .collect()
    }

    /// Tells the sessions of these users how far their inboxes have grown. Whoever has no session learns it at login.
    pub fn notify(&self, grown: &[Level]) {
        for level in grown {
            self.tell(level);
        }
    }

    /// Tells the session of one user; whether there is one.
    pub fn tell(&self, level: &Level) -> bool {
        let shard = self.shards.of(level.uid.0.unsigned_abs()).lock();
        let session = shard
            .get(&level.uid)
            .map(|present| Arc::clone(&present.session));
        drop(shard);
        let is_merged = |session: &Arc<Session>| session.notify(level.read, level.total);
        if session.as_ref().is_some_and(is_merged) {
            self.metrics.merged();
        }
        session.is_some()
    }
}

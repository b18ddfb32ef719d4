//! What the commands do. A service answers with a reply, or with a write and the reply for when it is stored; none of
//! them holds a socket.

mod account;
mod audit;
mod batch;
mod commit;
mod delays;
mod direct;
mod fixtures;
mod group;
mod login;
mod message;
mod password;
mod presence;
mod quirks;
mod refusal;
mod report;
mod token;

pub use account::{AuthError, RegisterError, WriteError};
pub use audit::{Audited, Refused};
pub use batch::{Answer, Batch, Entrusted};
pub use commit::OwedNotifies;
pub use delays::Suspended;
pub use direct::To;
pub use fixtures::FixtureError;
pub use group::GroupError;
pub use message::Synced;
pub use refusal::Refusal;
pub use report::{InboxReport, Report};
pub use token::{Tokens, salted_token};

use std::sync::Arc;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::clock::Clock;
use crate::config::{Config, Limits, Quirks};
use crate::id::Uid;
use crate::idgen::Snowflake;
use crate::lab::{Action, Lab, Passing, Site};
use crate::metrics::Metrics;
use crate::notify::Presence;
use crate::session::Session;
use crate::store::{ReplaceError, SNAPSHOT_LIMIT, SaveError, Snapshot, Store, StoreFailed};

/// The services of one `imd`, and what they work on.
#[derive(Debug)]
pub struct Services {
    store: Arc<dyn Store>,
    presence: Arc<Presence>,
    committer: Arc<commit::Committer>,
    ids: Snowflake,
    clock: Arc<dyn Clock>,
    lab: Arc<Lab>,
    metrics: Arc<Metrics>,
    tokens: Tokens,
    passwords: password::Passwords,
    limits: Limits,
    /// The longest name or password, in bytes: what fits the body of a request to the HTTP API.
    text_limit: usize,
    auto_register: bool,
    quirks: Quirks,
    /// Cuts short what a quirk or a fault holds up.
    delays: delays::Delays,
    /// Held by those who log in, and alone by who replaces everything.
    door: RwLock<()>,
    audit: audit::Audit,
}

/// A snowflake that was given out.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    id: i64,
    /// Whether a fault has met it: then it may not be new.
    is_bent: bool,
}

/// A name or a password that is too long, whichever way it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} has {len} bytes, at most {max}")]
pub struct TextTooLong {
    /// The field of the request.
    pub field: &'static str,
    /// Its length in bytes.
    pub len: usize,
    /// The limit in bytes: `http.body`.
    pub max: usize,
}

impl Services {
    /// Creates the services over a store.
    ///
    /// # Errors
    ///
    /// When the store can't say its signing key.
    pub async fn new(
        config: &Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        lab: Arc<Lab>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreFailed> {
        let presence = Arc::new(Presence::new(
            Arc::clone(&clock),
            config.session.presence,
            config.second_login(),
            Arc::clone(&metrics),
        ));
        let key = store.signing_key().await?;
        let newest = store.newest().await?;
        Ok(Services {
            committer: commit::Committer::new(
                Arc::clone(&store),
                Arc::clone(&presence),
                Arc::clone(&metrics),
            ),
            presence,
            ids: Snowflake::new(config.idgen.machine, Arc::clone(&clock), newest),
            tokens: Tokens::new(&config.auth, key, Arc::clone(&clock)),
            passwords: password::Passwords::default(),
            limits: config.limits.clone(),
            text_limit: config.http.body,
            auto_register: config.auth.auto_register,
            quirks: config.quirks,
            delays: delays::Delays::default(),
            door: RwLock::default(),
            audit: audit::Audit::default(),
            store,
            clock,
            lab,
            metrics,
        })
    }

    /// Makes sure that a name or a password is none that the HTTP API could not take.
    fn check_text(&self, field: &'static str, text: &str) -> Result<(), TextTooLong> {
        let (len, max) = (text.len(), self.text_limit);
        if len > max {
            return Err(TextTooLong { field, len, max });
        }
        Ok(())
    }

    /// The tokens that log users in.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Who is where.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Goes in: what is done until this is dropped is done before everything is replaced, or after it.
    pub async fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.door.read().await
    }

    /// Waits until nobody is inside, and keeps everybody out until the guard is dropped: logins and requests to the HTTP
    /// API wait. Those that are inside are not delayed meanwhile.
    pub async fn close_door(&self) -> RwLockWriteGuard<'_, ()> {
        let _suspended = self.delays.suspend();
        self.door.write().await
    }

    /// Everything that the store holds, and how far ids have come.
    ///
    /// # Errors
    ///
    /// [`SaveError`]
    pub async fn snapshot(&self) -> Result<Snapshot, SaveError> {
        let snapshot = self.store.snapshot(SNAPSHOT_LIMIT).await?;
        // Some of the ids may be in it, and on a clock that stands they run ahead of it.
        Ok(snapshot.reaching(self.ids.reached()))
    }

    /// Replaces everything in the store, and begins to count anew. Ids go on, beyond those of the snapshot too.
    ///
    /// # Errors
    ///
    /// [`ReplaceError`]; then nothing has changed.
    pub async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError> {
        self.store.replace(snapshot).await?;
        self.ids.go_beyond(self.store.newest().await?);
        self.audit.clear();
        Ok(())
    }

    /// Where they behave as the original does.
    pub fn quirks(&self) -> &Quirks {
        &self.quirks
    }

    /// Where everything is kept.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// How many commits go on whose caller has gone: what they store is notified when they are finished.
    pub fn unfinished_commits(&self) -> usize {
        self.committer.unfinished()
    }

    /// Resolves when every commit whose caller has gone is stored and notified.
    pub async fn finished_commits(&self) {
        self.committer.finished().await;
    }

    /// What clients were refused, and told that was not so.
    pub fn audited(&self) -> Audited {
        self.audit.read()
    }

    /// What a fault does at a site that frames do not pass, of what it `can` do, after the wait that it may ask for; mostly
    /// nothing. The wait ends early when the `session` that it is done for, if there is one, is closed or its peer has hung
    /// up.
    async fn meet(
        &self,
        at: Site,
        (uid, session): (Option<Uid>, Option<&Session>),
        can: impl Fn(&Action) -> bool,
    ) -> Option<Action> {
        if !self.lab.watches([at]) {
            return None;
        }
        let passing = Passing {
            uid,
            ..Passing::default()
        };
        let mut hit = self.lab.meet(at, &passing, can)?;
        tokio::select! {
            biased;
            () = hit.hold.wait() => {}
            () = self.delays.cancelled() => {}
            () = left(session) => {}
        }
        Some(hit.action)
    }

    /// The next snowflake.
    fn next_id(&self, uid: Uid) -> i64 {
        self.draw_id(uid).id
    }

    /// The next snowflake, or what a fault makes of it.
    fn draw_id(&self, uid: Uid) -> Drawn {
        if !self.lab.watches([Site::IdgenNext]) {
            return Drawn {
                id: self.ids.next_id(),
                is_bent: false,
            };
        }
        let passing = Passing {
            uid: Some(uid),
            ..Passing::default()
        };
        // Before the first id there is none to be repeated.
        let is_first = self.ids.reached() == 0;
        let can = |action: &Action| !(is_first && *action == Action::Duplicate);
        let hit = self.lab.meet(Site::IdgenNext, &passing, can);
        let is_bent = hit.is_some();
        let id = match hit.map(|hit| hit.action) {
            Some(Action::Duplicate) => self.ids.last_id(),
            Some(Action::Stale) => self.ids.stale_id(),
            _ => self.ids.next_id(),
        };
        Drawn { id, is_bent }
    }

    /// Whether `uid` may take part: everyone, unless only registered users may.
    async fn is_admitted(&self, uid: Uid) -> Result<bool, StoreFailed> {
        Ok(self.auto_register || self.store.user(uid).await?.is_some())
    }
}

/// Resolves when nothing need wait for this session any more; never without one.
async fn left(session: Option<&Session>) {
    match session {
        Some(session) => session.left().await,
        None => std::future::pending().await,
    }
}

//! The operations behind the commands of the wire and the requests of the HTTP APIs: logins, presence, messages, groups and
//! accounts.
//!
//! Serves the fronts: access servers, HTTP APIs, admin API, and the methods of [`Imd`](crate::Imd). Every operation takes
//! values of the domain and returns a `Result` of the domain, which the front turns into its own form. Services know
//! neither frames nor sessions: they see a connection as a [`SessionHandle`]. The errors carry the codes of the wire
//! contract, see [`ServiceError`].
//!
//! Messages are handed to the store in batches: a front collects them in a [`WriteBatch`], and has it stored by
//! [`Services::commit_batch`]. The front acknowledges what was stored, and then has the receivers notified.
//!
//! | file | content |
//! |---|---|
//! | `login`, `token` | logins, pings and logouts; the tokens that log users in |
//! | `account`, `password` | registered users, and their passwords |
//! | `group`, `fixtures` | groups; the users and groups of the config |
//! | `message`, `request`, `direct` | messages and pages, what a front asks for, and messages that the admin API sends |
//! | `batch`, `commit` | messages that are stored together, and the notifies that follow |
//! | `quirks`, `announced` | behaviours of the original stack that a config can ask for |
//! | `delays` | the end of injected delays at a shutdown or a reset |
//! | `audit`, `report` | counts of what was refused or untrue, and the report of all messages |
//! | `error` | the code of the wire contract for each error |

mod account;
mod announced;
mod audit;
mod batch;
mod commit;
mod delays;
mod direct;
mod error;
mod fixtures;
mod group;
mod login;
mod message;
mod password;
mod quirks;
mod report;
mod request;
mod token;

pub use account::{AuthError, RegisterError, WriteError};
pub use audit::{Audited, RefusalCount};
// The first name of `RefusalCount`, kept because tests of the library's users may have it.
#[doc(hidden)]
pub use audit::RefusalCount as Refused;
pub use batch::{BatchOutcome, PendingWrite, WriteBatch};
pub use commit::PendingNotifies;
pub use delays::Suspended;
pub use direct::DirectSendError;
pub use error::{Refusal, ServiceError, Verdict};
pub use fixtures::FixtureError;
pub use group::GroupError;
pub use login::{IdentityError, LoginError, LoginOutcome, UidMismatch};
pub use report::{InboxReport, MAX_REPORTED_INBOXES, Report};
pub use request::{SendError, SendRequest, SyncError, SyncRequest, Target};
pub use token::{Tokens, salted_token};

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::clock::Clock;
use crate::config::{Config, Limits, Quirks};
use crate::directory::{SessionDirectory, SessionHandle};
use crate::id::Uid;
use crate::idgen::Snowflake;
use crate::lab::{Action, FrameContext, Lab, Site};
use crate::metrics::Metrics;
use crate::proto::Cmd;
use crate::store::{AccountStore, MessageStore, StoreError};

/// The services of one `imd`, over its store and its directory of sessions.
#[derive(Debug)]
pub struct Services {
    messages: Arc<dyn MessageStore>,
    accounts: Arc<dyn AccountStore>,
    directory: Arc<dyn SessionDirectory>,
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
    delays: delays::Delays,
    /// Locked shared by logins and requests of the HTTP APIs, and exclusively while everything is replaced.
    replacing: RwLock<()>,
    audit: audit::Audit,
    /// How many messages the metrics had counted as pushed when the counts of the report began.
    earlier_pushes: AtomicU64,
}

/// An id that was given out.
#[derive(Debug, Clone, Copy)]
struct IssuedId {
    /// A snowflake.
    id: i64,
    /// Whether a fault was injected, because of which the id may have been given out before.
    is_injected: bool,
}

/// The parts of an `imd` over which the services are created.
#[derive(Debug, Clone)]
pub struct Deps {
    /// Stores messages, and everything else that is written.
    pub messages: Arc<dyn MessageStore>,
    /// Knows users and groups.
    pub accounts: Arc<dyn AccountStore>,
    /// Times every presence, token, message and id.
    pub clock: Arc<dyn Clock>,
    /// Injects faults, and journals them.
    pub lab: Arc<Lab>,
    /// Counts commits, pages and refused logins.
    pub metrics: Arc<Metrics>,
}

/// Says on whose behalf an operation runs: its user, by whom rules of the lab filter, and the session of its request.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The user. The session may have none: with the quirk `login_not_required`, each request claims its own.
    pub uid: Uid,
    /// The session on which the request came, if it came on one. An injected delay ends early when it is closed.
    pub session: Option<&'a dyn SessionHandle>,
}

/// A name or a password is longer than the HTTP API could take, whichever way it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} has {len} bytes, at most {max}")]
pub struct TextTooLong {
    /// The field of the request: `name` or `pw`.
    pub field: &'static str,
    /// The length of the text in bytes.
    pub len: usize,
    /// The limit in bytes: `http.body` of the config.
    pub max: usize,
}

impl Caller<'_> {
    /// Resolves when the session is closed or its peer has hung up; never without a session.
    async fn abandoned(self) {
        match self.session {
            Some(session) => poll_fn(|cx| session.poll_abandoned(cx)).await,
            None => pending().await,
        }
    }
}

impl Services {
    /// Creates the services over the stores of `deps` and a directory.
    ///
    /// # Errors
    ///
    /// When the store can't read its signing key or how far its ids have come.
    pub async fn new(
        config: &Config,
        directory: Arc<dyn SessionDirectory>,
        deps: Deps,
    ) -> Result<Self, StoreError> {
        let Deps {
            messages,
            accounts,
            clock,
            lab,
            metrics,
        } = deps;
        let key = accounts.signing_key().await?;
        let newest = accounts.latest_time_ms().await?;
        Ok(Services {
            committer: commit::Committer::new(
                Arc::clone(&messages),
                Arc::clone(&directory),
                Arc::clone(&metrics),
                config.delivery.push,
            ),
            directory,
            ids: Snowflake::new(config.idgen.machine, Arc::clone(&clock), newest),
            tokens: Tokens::new(&config.auth, key, Arc::clone(&clock)),
            passwords: password::Passwords::default(),
            limits: config.limits.clone(),
            text_limit: config.http.body,
            auto_register: config.auth.auto_register,
            quirks: config.quirks,
            delays: delays::Delays::default(),
            replacing: RwLock::default(),
            audit: audit::Audit::default(),
            earlier_pushes: AtomicU64::new(0),
            messages,
            accounts,
            clock,
            lab,
            metrics,
        })
    }

    /// Checks that a name or a password is short enough for a request to the HTTP API. Texts that come another way, such as
    /// from the config, are held to the same limit.
    fn check_text(&self, field: &'static str, text: &str) -> Result<(), TextTooLong> {
        let (len, max) = (text.len(), self.text_limit);
        if len > max {
            return Err(TextTooLong { field, len, max });
        }
        Ok(())
    }

    /// Returns what issues and checks the tokens that log users in.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Returns the directory of the sessions that are notified.
    pub fn directory(&self) -> &dyn SessionDirectory {
        self.directory.as_ref()
    }

    /// Waits until nothing is being replaced, and keeps a replacement from beginning until the returned guard is dropped. So
    /// what is done under the guard belongs as a whole to the contents before a replacement or to those after it.
    pub async fn block_replacement(&self) -> RwLockReadGuard<'_, ()> {
        self.replacing.read().await
    }

    /// Waits for the end of everything that is done under [`block_replacement`](Self::block_replacement), and keeps new work out until
    /// the returned guard is dropped. Injected delays end at once while this waits.
    pub async fn begin_replacement(&self) -> RwLockWriteGuard<'_, ()> {
        let _suspended = self.delays.suspend();
        self.replacing.write().await
    }

    /// Cancels the delays that faults at `store.*` and the quirk `notify_before_store` impose: those in progress and those
    /// that begin until the guard is dropped. The delayed requests are carried out at once. A delay of a frame, at
    /// `access.request` or `access.reply`, ends when its session is closed.
    pub fn suspend_delays(&self) -> Suspended<'_> {
        self.delays.suspend()
    }

    /// Cancels the delays of [`suspend_delays`](Self::suspend_delays) for good, since a shutdown can't wait for them.
    pub fn end_delays(&self) {
        self.delays.end();
    }

    /// Returns the time in the newest id that was given out, in Unix milliseconds.
    pub fn last_issued_ms(&self) -> i64 {
        self.ids.last_issued_ms()
    }

    /// Adapts the services to new contents of the store, which have replaced the old ones: ids that are given out from now on
    /// are greater than those in the contents, and the counts of the report begin anew.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store can't read how far its ids have come.
    pub async fn go_on_after_replacement(&self) -> Result<(), StoreError> {
        self.ids.go_beyond(self.accounts.latest_time_ms().await?);
        self.audit.clear();
        let pushes = self.metrics.pushes();
        self.earlier_pushes.store(pushes, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the switches that make this stack behave as the original stack does.
    pub fn quirks(&self) -> &Quirks {
        &self.quirks
    }

    /// Returns the number of commits in progress whose caller has ended.
    pub fn unfinished_commits(&self) -> usize {
        self.committer.unfinished()
    }

    /// Resolves when every commit whose caller has ended is done, and its receivers are notified.
    pub async fn finished_commits(&self) {
        self.committer.finished().await;
    }

    /// Returns the counts of refused, lost, repeated and swapped messages.
    pub fn audited(&self) -> Audited {
        self.audit.read()
    }

    /// Counts that a client's command was refused, for the report and the metrics.
    ///
    /// The operations of the services count their own errors. A front calls this for a command that it refuses itself,
    /// because a fault asks for it.
    pub fn count_refusal(&self, cmd: Cmd, refusal: &Refusal) {
        self.audit.count_refusal(cmd, refusal);
        if cmd == Cmd::Login {
            self.metrics.login_refused(refusal.code);
        }
        tracing::debug!(code = refusal.code.number(), why = refusal.text, "refused");
    }

    /// Counts an error of the operation behind a command, and returns it.
    fn counted<E: ServiceError>(&self, cmd: Cmd, error: E) -> E {
        self.count_refusal(cmd, &Refusal::of(&error));
        error
    }

    /// Returns the action of the rule that hits a call at `site`, if one does, after waiting for the delay that the rule asks
    /// for. A rule for which `applies` returns false, because its action has no meaning for this call, does not hit it.
    ///
    /// The delay ends early when the caller's session is closed or its peer has hung up.
    async fn hit_after_delay(
        &self,
        site: Site,
        caller: Caller<'_>,
        applies: impl Fn(&Action) -> bool,
    ) -> Option<Action> {
        let context = FrameContext {
            uid: Some(caller.uid),
            ..FrameContext::default()
        };
        let mut hit = self.lab.find_and_record_call_hit(site, &context, applies)?;
        // Boxed, so that the future of a call that no rule hits does not reserve the memory for a delay.
        Box::pin(async {
            tokio::select! {
                biased;
                () = hit.hold.wait() => {}
                () = self.delays.cancelled() => {}
                () = caller.abandoned() => {}
            }
        })
        .await;
        Some(hit.action)
    }

    /// Gives out the next snowflake at the time `now`, in Unix milliseconds, or an old one if an injected fault asks for that.
    /// `uid` is the user for whose request it is.
    fn issue_id(&self, uid: Uid, now: i64) -> IssuedId {
        let context = FrameContext {
            uid: Some(uid),
            ..FrameContext::default()
        };
        // The first id can't repeat an earlier one.
        let applies =
            |action: &Action| *action != Action::Duplicate || self.ids.last_issued_ms() != 0;
        let hit = self
            .lab
            .find_and_record_call_hit(Site::IdgenNext, &context, applies);
        let is_injected = hit.is_some();
        let id = match hit.map(|hit| hit.action) {
            Some(Action::Duplicate) => self.ids.last_id(),
            Some(Action::Stale) => self.ids.stale_id(),
            _ => self.ids.next_id_at(now),
        };
        IssuedId { id, is_injected }
    }

    /// Returns whether `uid` may log in, receive messages and be a member of groups: every user may, unless the config
    /// admits only registered users.
    async fn may_participate(&self, uid: Uid) -> Result<bool, StoreError> {
        Ok(self.auto_register || self.accounts.user(uid).await?.is_some())
    }
}

//! Replaces everything that a running stack holds: by nothing, or by a snapshot.
//!
//! Serves the handle of a stack and the admin API. Logins and requests to the HTTP API wait meanwhile. All sessions are
//! ended first, and what they have sent is stored or refused before anything is replaced, so that no message from
//! before is stored into the new contents.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::access::{RestartError, ServerState};
use crate::clock::running;
use crate::config::{self, Config};
use crate::lab::{Fault, FaultError};
use crate::service::{FixtureError, Services};
use crate::session::{CloseReason, SessionManager};
use crate::stack::Stack;
use crate::store::{ReplaceError, Snapshot};

/// Whether the caller confirms that what a durable store holds may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The caller confirms it.
    Yes,
    /// The caller does not confirm it, so only a store in memory may be replaced.
    No,
}

/// Why a reset or a load failed. The store is unchanged, except after [`Fault`](Self::Fault) and
/// [`Fixture`](Self::Fixture), and after a [`Replace`](Self::Replace) whose store failed when it had taken the new contents.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// The store is durable, and the caller has not confirmed.
    #[error("all that is kept in {store} would be gone for good: this has to be confirmed")]
    NotConfirmed {
        /// The store, as [`StoreAdmin::describe`](crate::store::StoreAdmin::describe) names it.
        store: String,
    },
    /// An access server is paused, so its sessions can't be ended.
    #[error("access server {name} is paused: resume it first")]
    Paused {
        /// The server's name in the registry.
        name: String,
    },
    /// An access server could not be restarted.
    #[error(transparent)]
    Restart(#[from] RestartError),
    /// Closed sessions did not come to an end in time.
    #[error("{sessions} sessions have not ended within {}", humantime::format_duration(*.within))]
    Busy {
        /// The number of sessions, and of commits of ended sessions, that were left.
        sessions: usize,
        /// The time that they had: `shutdown.grace`.
        within: Duration,
    },
    /// The store refused the replacement.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// A fault of the config is not valid. The store has none of the config's users and groups; it is empty unless emptying
    /// failed too.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A user or a group of the config could not be created. The store has only the users and groups that stand before it in
    /// the config.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
}

/// What the config gives a stack at its start, which a reset restores.
pub struct Origin {
    users: Vec<config::User>,
    groups: Vec<config::Group>,
    faults: Vec<Fault>,
    gateway_starts_empty: bool,
    grace: Duration,
}

impl From<&Config> for Origin {
    fn from(config: &Config) -> Self {
        Origin {
            users: config.user.clone(),
            groups: config.group.clone(),
            faults: config.fault.clone(),
            gateway_starts_empty: config.quirks.gateway_starts_empty,
            grace: config.shutdown.grace,
        }
    }
}

/// Omits the users, whose passwords must not reach a log.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").finish_non_exhaustive()
    }
}

/// Resets a running stack, and loads snapshots into it.
#[derive(Debug)]
pub struct Reset {
    stack: Arc<Stack>,
    origin: Origin,
    /// Held over a reset or a load, so that they do not overlap.
    in_progress: Mutex<()>,
    /// Held while a snapshot that comes over HTTP is read. Each may be large, so only one is in memory at a time.
    pub loading: Mutex<()>,
}

impl Reset {
    /// Creates the reset of a stack that was started with `config`.
    pub fn new(stack: Arc<Stack>, config: &Config) -> Self {
        Reset {
            stack,
            origin: Origin::from(config),
            in_progress: Mutex::default(),
            loading: Mutex::default(),
        }
    }

    fn services(&self) -> &Services {
        &self.stack.core.services
    }

    /// Empties the store, ends all sessions and faults, revives the access servers, and restores what the config
    /// defines.
    ///
    /// # Errors
    ///
    /// - [`ResetError::NotConfirmed`]: nothing has changed.
    /// - [`ResetError::Restart`]: some access servers may have been revived, and nothing else has changed.
    /// - [`ResetError::Busy`] and [`ResetError::Replace`]: the sessions are closed, the faults are those of the
    ///   config, and the store is unchanged.
    /// - [`ResetError::Fault`]: the faults before it in the config are restored, and no users or groups. The store is empty,
    ///   unless emptying failed too.
    /// - [`ResetError::Fixture`]: everything is emptied, the faults are restored, and so are the users and groups before it
    ///   in the config.
    pub async fn reset(&self, confirmed: Confirmed) -> Result<(), ResetError> {
        self.confirm(confirmed)?;
        let _in_progress = self.in_progress.lock().await;
        for server in self.stack.access.all() {
            server.revive().await?;
        }
        self.stack.core.registry.tell_the_truth();
        self.stack.core.lab.faults().begin_anew();
        let replacing = self.services().begin_replacement().await;
        let emptied = self.empty().await;
        // The faults are restored even if emptying has failed: all were removed above, and those of the config must be
        // back.
        for fault in &self.origin.faults {
            self.stack.core.lab.faults().inject(fault.clone())?.keep();
        }
        emptied?;
        let Origin { users, groups, .. } = &self.origin;
        self.services().provide(users, groups).await?;
        drop(replacing);
        tracing::info!("everything was reset");
        Ok(())
    }

    async fn empty(&self) -> Result<(), ResetError> {
        self.end_sessions().await?;
        self.stack.core.replace(Snapshot::default()).await?;
        self.stack.core.lab.journal().clear();
        // The records must not count the sessions that have just ended, since the gateway may choose by their number.
        for server in self.stack.access.all() {
            server.register_anew().await;
        }
        self.stack
            .gateway
            .begin_anew(self.origin.gateway_starts_empty)
            .await;
        Ok(())
    }

    /// Ends all sessions, and replaces what the store holds.
    ///
    /// # Errors
    ///
    /// - [`ResetError::NotConfirmed`] and [`ResetError::Paused`]: nothing has changed.
    /// - [`ResetError::Busy`] and [`ResetError::Replace`]: the sessions are closed, and the store is unchanged.
    pub async fn load(&self, snapshot: Snapshot, confirmed: Confirmed) -> Result<(), ResetError> {
        self.confirm(confirmed)?;
        let _in_progress = self.in_progress.lock().await;
        let servers = self.stack.access.all();
        let paused = servers
            .iter()
            .find(|server| server.state() == ServerState::Paused);
        if let Some(server) = paused {
            let name = server.name().to_owned();
            return Err(ResetError::Paused { name });
        }
        let replacing = self.services().begin_replacement().await;
        self.end_sessions().await?;
        self.stack.core.replace(snapshot).await?;
        drop(replacing);
        tracing::info!("a snapshot was loaded");
        Ok(())
    }

    fn confirm(&self, confirmed: Confirmed) -> Result<(), ResetError> {
        let store = &self.stack.core.store;
        if store.is_durable() && confirmed == Confirmed::No {
            let store = store.describe();
            return Err(ResetError::NotConfirmed { store });
        }
        Ok(())
    }

    /// Closes all sessions, and waits until the requests that they took are done. Afterwards a session only waits for
    /// its peer to take its last frames.
    async fn end_sessions(&self) -> Result<(), ResetError> {
        let managers = self.stack.session_managers();
        for manager in &managers {
            manager.close_all(CloseReason::Replaced);
        }
        let _suspended = self.services().suspend_delays();
        let within = self.origin.grace;
        let ended = running::timeout(within, self.sessions_ended(&managers)).await;
        if ended.is_err() {
            let sessions = self.at_work(&managers);
            return Err(ResetError::Busy { sessions, within });
        }
        for manager in &managers {
            manager.forget_done();
        }
        Ok(())
    }

    async fn sessions_ended(&self, managers: &[Arc<SessionManager>]) {
        while self.at_work(managers) > 0 {
            for manager in managers {
                manager.closed_sessions_done().await;
            }
            self.services().finished_commits().await;
        }
    }

    /// Returns how many closed sessions are still at work. A commit whose session has gone already counts as one: it
    /// too stores into what is about to be replaced.
    fn at_work(&self, managers: &[Arc<SessionManager>]) -> usize {
        let closing = managers
            .iter()
            .map(|manager| manager.closing())
            .sum::<usize>();
        closing + self.services().unfinished_commits()
    }
}

//! One `imd`: the only module that wires the parts together. `start` makes them; this file is the handle of what runs.

mod addresses;
mod cleaning;
mod error;
mod lab;
mod people;
mod runtime;
mod start;

pub use addresses::{AccessAddress, Addresses, dialable};
pub use error::StartError;
pub use lab::NotSeen;
pub use runtime::runtime;

pub use crate::service::Report;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;

use crate::access::AccessServer;
use crate::clock::{ClockControl, running};
use crate::config::Config;
use crate::id::Uid;
use crate::listener::Room;
use crate::metrics::Metrics;
use crate::registry::{FaultyRegistry, Registry};
use crate::reset::Reset;
use crate::service::Services;
use crate::shutdown::Shutdown;
use crate::stack::Stack;
use crate::store::{Store, StoreAdmin, StoreError};
use start::Fronts;

/// How long a shutdown may take after its grace period. The store needs it to close.
const CLOSING: Duration = Duration::from_secs(1);

/// A running stack: gateway, access servers, registry, store and HTTP API as tasks of the current runtime.
///
/// Dropping it closes the listeners and the sessions; [`shutdown`](Imd::shutdown) also waits for that.
#[derive(Debug)]
pub struct Imd {
    stack: Arc<Stack>,
    fronts: Fronts,
    reset: Arc<Reset>,
    /// Ends the removal of old messages.
    cleaning: Shutdown,
    /// How long sessions get at a shutdown to take what was written to them.
    grace: Duration,
}

impl Imd {
    /// Starts a stack with the store that the config names. Every listener of its [roles](crate::config::Roles) is bound and
    /// serving when this returns.
    ///
    /// Also raises the process's open-file limit to what the system allows.
    ///
    /// # Errors
    ///
    /// When the config is wrong, or a port can't be had; then nothing runs.
    pub async fn start(config: Config) -> Result<Imd, StartError> {
        start::start(config, None).await
    }

    /// Starts a stack over a store of the caller's own.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and when the store can't say its signing key.
    pub async fn start_with_store(
        config: Config,
        store: Arc<dyn Store>,
    ) -> Result<Imd, StartError> {
        start::start_with_store(config, store).await
    }

    /// Starts a stack whose access servers register in a registry of the caller's own, from which its gateway reads them.
    /// Several stacks can share a registry: then each gateway hands out the access servers of all.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). A registry that can't be reached is no error: the stack goes on trying.
    pub async fn start_with_registry(
        config: Config,
        registry: Arc<dyn Registry>,
    ) -> Result<Imd, StartError> {
        start::start(config, Some(registry)).await
    }

    fn services(&self) -> &Services {
        &self.stack.core.services
    }

    fn store(&self) -> &dyn StoreAdmin {
        self.stack.core.store.as_ref()
    }

    /// Returns where the gateway listens; without the role `gateway`, where the config says that another process does.
    pub fn gateway_addr(&self) -> SocketAddr {
        self.stack.gateway.addr()
    }

    /// The access servers as of now: those of the config in its order, then those that were
    /// [added](Self::add_access), whatever their state.
    pub fn access_servers(&self) -> Vec<Arc<AccessServer>> {
        self.stack.access.all()
    }

    /// The access server of this name, to kill, stop, pause or restart it.
    pub fn access(&self, name: &str) -> Option<Arc<AccessServer>> {
        self.stack.access.get(name)
    }

    /// Starts one more access server, on a free port of the first one's host. It serves and is registered when this
    /// returns; the gateway hands it out from its next look at the registry on.
    ///
    /// # Errors
    ///
    /// When there is one of this name already, whatever its state, when it can't be a name, when no port can be had, or when
    /// this `imd` has not the role `access`.
    pub async fn add_access(&self, name: &str) -> Result<Arc<AccessServer>, StartError> {
        Ok(self.stack.access.add(name).await?)
    }

    /// Returns where the user API listens; without the role `access`, where the config says that another process does.
    pub fn user_api_addr(&self) -> SocketAddr {
        self.fronts.user_api
    }

    /// Returns where the group API listens; without the role `access`, where the config says that another process does.
    pub fn group_api_addr(&self) -> SocketAddr {
        self.fronts.group_api
    }

    /// Where the admin API listens, unless it is off.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.fronts.admin
    }

    /// Where clients on this machine find everything.
    pub fn addresses(&self) -> Addresses {
        let servers = self.stack.access.all();
        let access = servers.iter().map(|server| {
            let addr = match server.advertised().parse() {
                Ok(addr) => addresses::dialable(addr).to_string(),
                Err(_) => server.advertised().to_owned(),
            };
            AccessAddress {
                name: server.name().to_owned(),
                addr,
            }
        });
        Addresses {
            gateway: addresses::dialable(self.stack.gateway.addr()).to_string(),
            access: access.collect(),
            user_api: format!("http://{}", addresses::dialable(self.fronts.user_api)),
            group_api: format!("http://{}", addresses::dialable(self.fronts.group_api)),
            admin: self
                .fronts
                .admin
                .map(|addr| format!("http://{}", addresses::dialable(addr))),
        }
    }

    /// The token that logs `uid` in: what existing clients compute from the salt.
    pub fn token(&self, uid: impl Into<Uid>) -> String {
        self.services().tokens().salted(uid.into())
    }

    /// Whether `uid` counts as online: logged in, and heard of within `session.presence`.
    pub fn is_online(&self, uid: impl Into<Uid>) -> bool {
        self.services().directory().is_online(uid.into())
    }

    /// Returns the registry of the access servers, which can be made to mislead the gateway.
    pub fn registry(&self) -> &FaultyRegistry {
        &self.stack.core.registry
    }

    /// Returns the clock of this stack, to read and to move it.
    pub fn clock(&self) -> &Arc<dyn ClockControl> {
        &self.stack.core.clock_control
    }

    /// How many connections there may be on gateway, access servers and HTTP API, and how many there are.
    pub fn room(&self) -> Room {
        self.stack.core.admission.room()
    }

    /// What has passed through its sessions so far.
    pub fn metrics(&self) -> &Metrics {
        &self.stack.core.metrics
    }

    /// What the store is, for people.
    pub fn store_name(&self) -> String {
        self.store().describe()
    }

    /// What the store has too little of to take messages now, in words that name the limit; none where it has enough.
    pub fn shortage(&self) -> Option<String> {
        self.store().shortage()
    }

    /// What became of the messages so far.
    pub fn report(&self) -> Report {
        self.stack.core.report()
    }

    /// Resolves when the store has failed for good, and says why. From then on everything that needs it is refused: all
    /// that is left is to shut down.
    pub async fn failed(&self) -> StoreError {
        self.store().failed().await
    }

    /// Stops: accepts nothing more, deregisters, tells and drains the sessions, closes the store. Sessions and the commits
    /// that have begun get `shutdown.grace`. One more second is for what has to be cut off and for closing the store, which
    /// refuses the rest of the commits. The ports are free when this returns.
    pub async fn shutdown(self) -> Report {
        self.services().end_delays();
        let grace = self.grace;
        let grace_over = running::sleep(grace).shared();
        let time = {
            let grace_over = grace_over.clone();
            async move {
                grace_over.await;
                running::sleep(CLOSING).await;
            }
        };
        let mut ending = JoinSet::new();
        let gateway = Arc::clone(self.stack.gateway.session_manager());
        ending.spawn(async move { gateway.dispose(grace).await });
        for server in self.stack.access.all() {
            ending.spawn(async move { server.end(grace).await });
        }
        for shutdown in [&self.fronts.shutdown, &self.cleaning] {
            let shutdown = shutdown.clone();
            ending.spawn(async move {
                shutdown.begin();
                shutdown.ended_within(grace).await
            });
        }
        let ended = ending.join_all().shared();
        // What has ended early may have left commits behind, which the store can take before it is closed.
        let finished = async {
            ended.clone().await;
            self.services().finished_commits().await;
        };
        tokio::select! {
            biased;
            () = finished => {}
            () = grace_over => {}
        }
        // The store is closed while the rest is cut off: sessions that still wait for commits get an error from it.
        let (unfinished, ()) = tokio::join!(ended, self.close_store(time));
        let unfinished =
            unfinished.into_iter().sum::<usize>() + self.services().unfinished_commits();
        Report {
            unfinished,
            ..self.report()
        }
    }

    /// Closes the store, unless that is not done when `time` is over.
    async fn close_store(&self, time: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            closed = self.store().close() => if let Err(error) = closed {
                tracing::error!(%error, "the store was not closed");
            },
            () = time => tracing::error!("the store was not closed in time"),
        }
    }
}

impl Drop for Imd {
    fn drop(&mut self) {
        // Nobody waits for the tasks any more, so none of them may be delayed.
        self.services().end_delays();
        self.fronts.shutdown.hurry();
        self.cleaning.hurry();
        self.stack.gateway.session_manager().end_now();
        for server in self.stack.access.all() {
            server.end_now();
        }
    }
}

//! The wiring of one `imd`: the only module that decides which store, registry and directory a stack has.
//!
//! Serves the program, and tests in Rust, which hold a stack by its handle [`Imd`].
//!
//! | file | content |
//! |---|---|
//! | `start`, `error` | the start of a stack, and why it failed |
//! | `mod` | the handle: addresses, parts, and the shutdown |
//! | `lab`, `people` | methods of the handle for tests: faults, journal, reset; users and groups |
//! | `addresses` | the addresses that clients dial |
//! | `cleaning` | the task that removes old messages |
//! | `runtime` | the async runtime of the program |
//! | `tls` | the certificate of a stack |

mod addresses;
mod cleaning;
mod error;
mod lab;
mod people;
mod runtime;
mod start;
mod tls;

pub use addresses::{AccessAddress, Addresses, dialable};
pub use error::StartError;
pub use lab::NotSeen;
pub use runtime::runtime;

pub use crate::service::Report;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
use crate::stack::Stack;
use crate::store::{Store, StoreAdmin, StoreError};
use crate::task_group::TaskGroup;
use addresses::Urls;
use start::HttpServers;

/// How long a shutdown may take after its grace period, so that the store can close.
const CLOSING: Duration = Duration::from_secs(1);

/// A running stack: gateway, access servers, registry, store and HTTP API as tasks of the current runtime.
///
/// Dropping it closes the listeners and the sessions; [`shutdown`](Imd::shutdown) also waits for that.
#[derive(Debug)]
pub struct Imd {
    stack: Arc<Stack>,
    http_servers: HttpServers,
    reset: Arc<Reset>,
    /// The file with the certificate of the local CA, if it issues the stack's certificate.
    ca_certificate: Option<PathBuf>,
    /// Ends the tasks that remove old messages, and that keep the certificate up to date.
    upkeep: TaskGroup,
    /// How long a shutdown waits for clients to read what was written to them: `shutdown.grace` of the config.
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
    /// [`StartError`], when the config is not valid, a port is taken, or the store can't be opened. Nothing runs then.
    pub async fn start(config: Config) -> Result<Imd, StartError> {
        start::start(config, None).await
    }

    /// Starts a stack over a store of the caller's own.
    ///
    /// # Errors
    ///
    /// The errors of [`start`](Self::start), and [`StartError::Store`] when the store can't read its signing key. The store is
    /// left open then.
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
    /// The errors of [`start`](Self::start). A registry that can't be reached is no error: the stack tries again at each
    /// heartbeat.
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

    /// Returns the address of the gateway. Without the role `gateway` it is that of the config, where another process
    /// listens.
    pub fn gateway_addr(&self) -> SocketAddr {
        self.stack.gateway.addr()
    }

    /// Returns the address on which the gateway takes WebSocket clients, if it does. Without the role `gateway` it is that of
    /// the config, where another process listens.
    pub fn gateway_ws_addr(&self) -> Option<SocketAddr> {
        self.stack.gateway.ws_addr()
    }

    /// Returns all access servers, whatever their state: those of the config in its order, then those that were
    /// [added](Self::add_access).
    pub fn access_servers(&self) -> Vec<Arc<AccessServer>> {
        self.stack.access.all()
    }

    /// Returns the access server with this name, which can be killed, stopped, paused and restarted.
    pub fn access(&self, name: &str) -> Option<Arc<AccessServer>> {
        self.stack.access.get(name)
    }

    /// Starts one more access server, on a free port of the first one's host. It serves and is registered when this
    /// returns. The gateway hands it out once it has read the registry again, which takes up to `gateway.refresh`.
    ///
    /// # Errors
    ///
    /// [`StartError::Access`], when an access server has this name already, whatever its state; when the name is not valid;
    /// when the system has no free port; or when this `imd` does not have the role `access`.
    pub async fn add_access(&self, name: &str) -> Result<Arc<AccessServer>, StartError> {
        Ok(self.stack.access.add(name).await?)
    }

    /// Returns the address of the user API. Without the role `access` it is that of the config, where another process
    /// listens.
    pub fn user_api_addr(&self) -> SocketAddr {
        self.http_servers.user_api
    }

    /// Returns the address of the group API. Without the role `access` it is that of the config, where another process
    /// listens.
    pub fn group_api_addr(&self) -> SocketAddr {
        self.http_servers.group_api
    }

    /// Returns the address of the admin API, unless it is off.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.http_servers.admin
    }

    /// Returns the addresses of all servers, as clients on this machine dial them.
    pub fn addresses(&self) -> Addresses {
        let urls = self.urls();
        let servers = self.stack.access.all();
        let access = servers.iter().map(|server| {
            let addr = match server.advertised().parse() {
                Ok(addr) => urls.frames(addr),
                Err(_) => urls.frames_of(server.advertised()),
            };
            AccessAddress {
                name: server.name().to_owned(),
                addr,
                ws: server.ws_addr().map(|addr| urls.websocket(addr)),
            }
        });
        Addresses {
            gateway: urls.frames(self.stack.gateway.addr()),
            gateway_ws: self.gateway_ws_addr().map(|addr| urls.websocket(addr)),
            access: access.collect(),
            user_api: urls.http(self.http_servers.user_api),
            group_api: urls.http(self.http_servers.group_api),
            admin: self.http_servers.admin.map(|addr| urls.http(addr)),
        }
    }

    fn urls(&self) -> Urls<'_> {
        Urls(&self.stack.core.acceptor)
    }

    /// Returns the token with which `uid` logs in: the one that existing clients compute from the salt.
    pub fn token(&self, uid: impl Into<Uid>) -> String {
        self.services().tokens().salted(uid.into())
    }

    /// Returns whether `uid` counts as online: logged in, with a login or a ping within the last `session.presence`.
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

    /// Returns how many connections the gateway, the access servers and the HTTP APIs have together, and how many they may
    /// have.
    pub fn room(&self) -> Room {
        self.stack.core.admission.room()
    }

    /// Returns whether the listeners speak TLS.
    pub fn speaks_tls(&self) -> bool {
        self.stack.core.acceptor.is_tls()
    }

    /// Returns whether clients without TLS are refused.
    pub fn requires_tls(&self) -> bool {
        self.stack.core.acceptor.requires_tls()
    }

    /// Returns the file with the certificate of the local CA, which clients have to trust. None if the listeners do not speak
    /// TLS, or with a certificate from elsewhere.
    pub fn ca_certificate(&self) -> Option<&Path> {
        self.ca_certificate.as_deref()
    }

    /// Returns the counters of this stack, such as those of its frames, connections and commits.
    pub fn metrics(&self) -> &Metrics {
        &self.stack.core.metrics
    }

    /// Returns what kind of store this stack has, in words for people: `memory`, or the path of a folder.
    pub fn store_name(&self) -> String {
        self.store().describe()
    }

    /// Returns why the store can't take messages now for want of room, in words that name the limit; none if it has room.
    pub fn shortage(&self) -> Option<String> {
        self.store().shortage()
    }

    /// Returns what became of the messages so far.
    pub fn report(&self) -> Report {
        self.stack.core.report()
    }

    /// Resolves when the store has failed for good, with the reason. From then on the stack refuses every request that needs
    /// the store, so it should be shut down.
    pub async fn failed(&self) -> StoreError {
        self.store().failed().await
    }

    /// Shuts the stack down, and returns the final report. The ports are free when this returns.
    ///
    /// The listeners close, the access servers give their leases back, the clients are told, and the store is closed.
    /// Sessions and commits that have begun get up to `shutdown.grace` to finish. Then one more second is left for cutting
    /// off what still runs and for closing the store, which refuses the commits that are not done.
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
        ending.spawn(async move { gateway.shut_down(grace).await });
        for server in self.stack.access.all() {
            ending.spawn(async move { server.end(grace).await });
        }
        for tasks in [&self.http_servers.tasks, &self.upkeep] {
            let tasks = tasks.clone();
            ending.spawn(async move {
                tasks.begin_shutdown();
                tasks.finish_within(grace).await
            });
        }
        let ended = ending.join_all().shared();
        // Sessions that were cut off may have left commits behind. The store finishes them before it is closed.
        let finished = async {
            ended.clone().await;
            self.services().finished_commits().await;
        };
        tokio::select! {
            biased;
            () = finished => {}
            () = grace_over => {}
        }
        // The store is closed while sessions are still being cut off, so that those which wait for a commit get an error.
        let (unfinished, ()) = tokio::join!(ended, self.close_store(time));
        let unfinished =
            unfinished.into_iter().sum::<usize>() + self.services().unfinished_commits();
        Report {
            unfinished,
            ..self.report()
        }
    }

    /// Closes the store, and gives up when `time` is over first.
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
        self.http_servers.tasks.hurry();
        self.upkeep.hurry();
        self.stack.gateway.session_manager().end_now();
        for server in self.stack.access.all() {
            server.end_now();
        }
    }
}

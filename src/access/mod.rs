//! Access servers: each holds sessions of clients, and a lease in the registry for as long as it runs.
//!
//! Serves the module `daemon`, which starts the servers and hands them to tests ([`Imd::access`](crate::Imd::access)), and the
//! admin API and the resets: all of these kill, pause or restart servers.
//!
//! A server keeps its name and its address for as long as its stack runs, whatever is done to it.
//!
//! | module | contents |
//! |---|---|
//! | `error` | the errors of starting, stopping and adding servers |
//! | `handler` | replies to the frames of a server's sessions |
//! | `lifecycle`, `state` | what can be done to a server, and its states: kill, stop, pause, resume, restart |
//! | `registration` | a server's record in the registry |
//! | `servers` | the list of a stack's servers |
//! | `wire` | turns commands into requests to the services, and their results into messages |

mod error;
mod handler;
mod lifecycle;
mod registration;
mod servers;
mod state;
mod wire;

pub use error::{AddError, RestartError, WrongState};
pub use handler::AccessHandler;
pub use servers::AccessServers;
pub use state::ServerState;
// The name that it had at first, which users of the library may have in their tests.
#[doc(hidden)]
pub use state::ServerState as State;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync;

use crate::config::{Config, Host};
use crate::core::Core;
use crate::listener::{Listeners, serve_server};
use crate::registry::WebSocketAddress;
use crate::session::{Deadlines, FaultPoint, FirstNotifies, ListenerContext, SessionManager};
use lifecycle::Lifecycle;
use registration::Registration;

/// An access server, which can be killed, stopped, paused and restarted.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use imd::access::ServerState;
///
/// let imd = imd::Imd::start(imd::Config::ephemeral()).await?;
/// let access = imd.access("access-1").ok_or("there is none")?;
/// access.kill().await; // every connection is reset, and the gateway still sends clients here
/// assert_eq!(access.state(), ServerState::Killed);
/// assert!(tokio::net::TcpStream::connect(access.addr()).await.is_err());
/// access.restart().await?; // the same name and address
/// assert_eq!(access.state(), ServerState::Running);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AccessServer {
    /// The name in the registry.
    name: String,
    /// The address that the server listens on. A port that the config left open was chosen at the first start.
    addr: SocketAddr,
    /// The address that the server registers, as host:port.
    advertised: String,
    /// The address on which the server takes WebSocket clients, if it does. Its port too was chosen at the first start.
    ws_addr: Option<SocketAddr>,
    settings: Settings,
    core: Arc<Core>,
    /// How many records the server has made for the registry. A restart does not reset it.
    renewals: Arc<AtomicU64>,
    /// Held over a restart, so that restarts do not overlap.
    restarting: sync::Mutex<()>,
    /// Never held over an await. The locks of the server's sessions may be taken while it is held, but not the reverse.
    lifecycle: Mutex<Lifecycle>,
}

/// The settings that every start of an access server uses.
#[derive(Debug)]
struct Settings {
    deadlines: Deadlines,
    /// How long the notify after a login waits for the client's own sync.
    first_notify: Duration,
    /// How many bytes may wait to be written to one session.
    unwritten_limit: usize,
    /// The limit of a frame's length before the login, in bytes.
    frame_before_login: usize,
    /// How long the lease lasts after each heartbeat.
    lease: Duration,
    /// The time between two heartbeats.
    heartbeat: Duration,
    /// How long a stop waits for the sessions to finish.
    grace: Duration,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Settings {
            deadlines: Deadlines {
                login: Some(config.session.login_deadline),
                idle: config.session.idle,
                half_frame: config.session.half_frame,
                write: config.session.write_deadline,
            },
            first_notify: config.session.first_notify,
            unwritten_limit: config.limits.outbound,
            frame_before_login: config.limits.frame_before_login,
            lease: config.registry.lease,
            heartbeat: config.registry.heartbeat,
            grace: config.shutdown.grace,
        }
    }
}

impl Settings {
    /// Starts to serve sessions on the listeners, and returns their manager, which also ends them.
    fn serve(&self, name: &str, listeners: Listeners, core: &Core) -> Arc<SessionManager> {
        let manager = SessionManager::new(
            core.session_ids.clone(),
            Arc::clone(&core.clock),
            self.deadlines.clone(),
            self.unwritten_limit,
        );
        let first_notifies = FirstNotifies::new(Arc::clone(&manager), self.first_notify);
        let context = |framing| ListenerContext {
            manager: Arc::clone(&manager),
            framing,
            frame_before_login: self.frame_before_login,
            connection_counts: core.metrics.connection_counts(name),
            metrics: Arc::clone(&core.metrics),
            fault_point: FaultPoint::access(Arc::clone(&core.lab), name),
            handler: AccessHandler::new(Arc::clone(&core.services), Arc::clone(&first_notifies)),
        };
        serve_server(
            listeners,
            &core.admission,
            &core.acceptor,
            &core.pages,
            &manager,
            context,
        );
        manager
    }
}

/// What the config says about the addresses that clients are told.
#[derive(Debug, Default)]
pub struct Told {
    /// The host that clients are told, and perhaps the port.
    pub host: Option<Host>,
    /// The URL that WebSocket clients are told.
    pub websocket: Option<String>,
}

impl Told {
    /// Returns the address that clients of a listener on `addr` are told.
    fn at(&self, addr: SocketAddr) -> String {
        match &self.host {
            Some(host) => host.at(addr.port()),
            None => addr.to_string(),
        }
    }

    /// Returns the address that WebSocket clients of a listener on `addr` are told. A port that the config advertises is that
    /// of the other listener. `is_secure` says whether they have to use TLS.
    fn websocket_at(&self, addr: SocketAddr, is_secure: bool) -> WebSocketAddress {
        if let Some(url) = &self.websocket {
            return WebSocketAddress::Url(url.clone());
        }
        let addr = match &self.host {
            Some(host) => host.clone().without_port().at(addr.port()),
            None => addr.to_string(),
        };
        WebSocketAddress::At { addr, is_secure }
    }
}

impl AccessServer {
    /// Starts an access server on bound listeners, and registers it.
    ///
    /// Clients can connect when this returns. The server is also registered then, unless the registry can't be reached:
    /// in that case each heartbeat tries again. `told` are the addresses that clients are given; without them, those are
    /// the addresses of the listeners. Dropping the server ends its sessions.
    ///
    /// # Errors
    ///
    /// The error of the system, when the listener's address can't be read. Nothing was started then.
    pub async fn start(
        name: &str,
        told: Told,
        listeners: Listeners,
        config: &Config,
        core: Arc<Core>,
    ) -> std::io::Result<Arc<AccessServer>> {
        let addr = listeners.frames.local_addr()?;
        let ws_addr = listeners.websocket.as_ref().map(TcpListener::local_addr);
        let ws_addr = ws_addr.transpose()?;
        let advertised = told.at(addr);
        if let Some(ws_addr) = ws_addr {
            let is_secure = core.acceptor.requires_tls();
            core.websockets
                .enter(&advertised, told.websocket_at(ws_addr, is_secure));
        }
        let settings = Settings::from(config);
        let manager = settings.serve(name, listeners, &core);
        let server = Arc::new(AccessServer {
            name: name.to_owned(),
            addr,
            advertised,
            ws_addr,
            settings,
            core,
            renewals: Arc::default(),
            restarting: sync::Mutex::default(),
            lifecycle: Mutex::new(Lifecycle::new(manager)),
        });
        server.register().await;
        Ok(server)
    }

    /// Registers the server, and starts the heartbeats that keep its lease.
    async fn register(&self) {
        let manager = self.sessions();
        let registration = Arc::new(Registration {
            registry: self.core.registry.clone(),
            lab: Arc::clone(&self.core.lab),
            name: self.name.clone(),
            advertised: self.advertised.clone(),
            manager: Arc::clone(&manager),
            ttl: self.settings.lease,
            heartbeat: self.settings.heartbeat,
            renewals: Arc::clone(&self.renewals),
            lease: sync::Mutex::default(),
            is_disconnected: AtomicBool::new(false),
        });
        registration.renew().await;
        self.lifecycle.lock().registration = Some(Arc::clone(&registration));
        let ticks = self.core.clock.housekeeping_ticks(self.settings.heartbeat);
        manager.tasks().spawn(registration.keep(ticks));
    }

    /// Returns the server's name in the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the address that the server listens on when it runs. A restart does not change it.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the address that the server registers, as host:port. If the host is unspecified, such as 0.0.0.0, the
    /// gateway replaces it by the address through which the client reached the gateway.
    pub fn advertised(&self) -> &str {
        &self.advertised
    }

    /// Returns the address on which the server takes WebSocket clients, if it does. A restart does not change it.
    pub fn ws_addr(&self) -> Option<SocketAddr> {
        self.ws_addr
    }

    /// Returns the manager of the sessions since the last start. A restart creates a new manager without sessions.
    pub fn sessions(&self) -> Arc<SessionManager> {
        Arc::clone(&self.lifecycle.lock().manager)
    }
}

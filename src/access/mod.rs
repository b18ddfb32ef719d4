//! An access server: it holds the clients' sessions, and a lease in the registry for as long as it runs.
//!
//! `life` is what can be done to one: kill, stop, pause, resume, restart. `membership` keeps its record in the registry, and
//! `handler` answers the frames of its sessions. `servers` is the list of all.

mod error;
mod handler;
mod life;
mod membership;
mod servers;
mod wire;

pub use error::{AddError, RestartError, WrongState};
pub use handler::AccessHandler;
pub use life::State;
pub use servers::AccessServers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync;

use crate::codec::Framing;
use crate::config::{Config, Host};
use crate::core::Core;
use crate::listener::serve_sessions;
use crate::session::{Deadlines, Manager, Server, Tap};
use life::Life;
use membership::Membership;

/// An access server, which can be killed, stopped, paused and restarted.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use imd::access::State;
///
/// let imd = imd::Imd::start(imd::Config::ephemeral()).await?;
/// let access = imd.access("access-1").ok_or("there is none")?;
/// access.kill().await; // every connection is reset, and the gateway still sends clients here
/// assert_eq!(access.state(), State::Killed);
/// assert!(tokio::net::TcpStream::connect(access.addr()).await.is_err());
/// access.restart().await?; // the same name and address
/// assert_eq!(access.state(), State::Running);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AccessServer {
    name: String,
    addr: SocketAddr,
    advertised: String,
    settings: Settings,
    core: Arc<Core>,
    /// How many records it has made for the registry, also before its last restart.
    renewals: Arc<AtomicU64>,
    /// Held over a restart, so that restarts do not overlap.
    restarting: sync::Mutex<()>,
    /// Never held over an await. The locks of the server's sessions are taken inside it.
    life: Mutex<Life>,
}

/// The settings that every start of an access server uses.
#[derive(Debug)]
struct Settings {
    deadlines: Deadlines,
    outbound: usize,
    frame_before_login: usize,
    lease: Duration,
    heartbeat: Duration,
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
            outbound: config.limits.outbound,
            frame_before_login: config.limits.frame_before_login,
            lease: config.registry.lease,
            heartbeat: config.registry.heartbeat,
            grace: config.shutdown.grace,
        }
    }
}

impl Settings {
    /// Serves sessions on a listener.
    fn serve(&self, name: &str, listener: TcpListener, core: &Core) -> Arc<Manager> {
        let manager = Manager::new(
            core.session_ids.clone(),
            Arc::clone(&core.clock),
            self.deadlines.clone(),
            self.outbound,
        );
        let server = Server {
            manager: Arc::clone(&manager),
            framing: Framing::LengthPrefix,
            frame_limit: self.frame_before_login,
            connections: core.metrics.connections(name),
            metrics: Arc::clone(&core.metrics),
            tap: Tap::access(Arc::clone(&core.lab), name),
            handler: AccessHandler::new(Arc::clone(&core.services)),
        };
        serve_sessions(listener, core.admission.clone(), server);
        manager
    }
}

impl AccessServer {
    /// Serves on a bound listener and registers; both have happened when this returns, unless the registry can't be reached:
    /// then each heartbeat tries to register.
    ///
    /// `advertise` is what clients are told to dial, where that is not the listening address. Dropping the server ends its
    /// sessions.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub async fn start(
        name: &str,
        advertise: Option<Host>,
        listener: TcpListener,
        config: &Config,
        core: Arc<Core>,
    ) -> std::io::Result<Arc<AccessServer>> {
        let addr = listener.local_addr()?;
        let settings = Settings::from(config);
        let manager = settings.serve(name, listener, &core);
        let server = Arc::new(AccessServer {
            name: name.to_owned(),
            addr,
            advertised: match advertise {
                Some(host) => host.at(addr.port()),
                None => addr.to_string(),
            },
            settings,
            core,
            renewals: Arc::default(),
            restarting: sync::Mutex::default(),
            life: Mutex::new(Life::new(manager)),
        });
        server.join().await;
        Ok(server)
    }

    /// Registers, and has heartbeats keep the lease from now on.
    async fn join(&self) {
        let manager = self.sessions();
        let membership = Arc::new(Membership {
            registry: self.core.registry.clone(),
            lab: Arc::clone(&self.core.lab),
            name: self.name.clone(),
            advertised: self.advertised.clone(),
            manager: Arc::clone(&manager),
            ttl: self.settings.lease,
            heartbeat: self.settings.heartbeat,
            renewals: Arc::clone(&self.renewals),
            lease: sync::Mutex::default(),
            is_cut_off: AtomicBool::new(false),
        });
        membership.renew().await;
        self.life.lock().membership = Some(Arc::clone(&membership));
        let ticks = self.core.clock.rounds(self.settings.heartbeat);
        manager.shutdown().spawn(membership.keep(ticks));
    }

    /// Returns the server's name in the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the address that the server listens at, or did when it last ran: a restart keeps it.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the address that the server registers, as host:port; the host may be unspecified.
    pub fn advertised(&self) -> &str {
        &self.advertised
    }

    /// Returns the sessions since the last start. A restart begins with a new, empty manager.
    pub fn sessions(&self) -> Arc<Manager> {
        Arc::clone(&self.life.lock().manager)
    }
}

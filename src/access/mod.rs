//! An access server: it holds the clients' sessions, and a lease in the registry for as long as it lives.

mod handler;

pub use handler::AccessHandler;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::clock::{Clock, Ticks};
use crate::config::{Config, Host};
use crate::lab::Lab;
use crate::listener::{Admission, serve_sessions};
use crate::metrics::Metrics;
use crate::registry::{Lease, Record, Registry};
use crate::service::Services;
use crate::session::{Deadlines, Manager, Server, SessionIds, Tap};

/// A running access server.
#[derive(Debug)]
pub struct AccessServer {
    name: String,
    addr: SocketAddr,
    advertised: String,
    manager: Arc<Manager>,
}

/// What the access servers of one `imd` share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The commands.
    pub services: Arc<Services>,
    /// Where they register.
    pub registry: Arc<dyn Registry>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Their session ids.
    pub ids: SessionIds,
    /// Their connections.
    pub admission: Admission,
    /// What counts their frames.
    pub metrics: Arc<Metrics>,
    /// What can fail, and what is recorded.
    pub lab: Arc<Lab>,
}

impl AccessServer {
    /// Serves on a bound listener and registers; both have happened when this returns.
    ///
    /// `advertise` is what clients are told to dial, where that is not the listening address.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub async fn start(
        name: &str,
        advertise: Option<Host>,
        listener: TcpListener,
        config: &Config,
        shared: &Shared,
    ) -> std::io::Result<AccessServer> {
        let addr = listener.local_addr()?;
        let deadlines = Deadlines {
            login: Some(config.session.login_deadline),
            idle: config.session.idle,
            half_frame: config.session.half_frame,
            write: config.session.write_deadline,
        };
        let clock = Arc::clone(&shared.clock);
        let manager = Manager::new(shared.ids.clone(), clock, deadlines, config.limits.outbound);
        let server = Server {
            manager: Arc::clone(&manager),
            frame_limit: config.limits.frame_before_login,
            metrics: Arc::clone(&shared.metrics),
            tap: Tap::access(Arc::clone(&shared.lab), name),
            handler: AccessHandler::new(Arc::clone(&shared.services)),
        };
        serve_sessions(listener, shared.admission.clone(), server);
        let membership = Membership {
            registry: Arc::clone(&shared.registry),
            name: name.to_owned(),
            advertised: match advertise {
                Some(host) => host.at(addr.port()),
                None => addr.to_string(),
            },
            manager: Arc::clone(&manager),
            ttl: config.registry.lease,
            renewals: 0,
        };
        let advertised = membership.advertised.clone();
        let lease = membership.register().await;
        let ticks = shared.clock.ticks(config.registry.heartbeat);
        manager.shutdown().spawn(membership.keep(lease, ticks));
        Ok(AccessServer {
            name: name.to_owned(),
            addr,
            advertised,
            manager,
        })
    }

    /// Its name in the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it tells the registry that clients should dial; the host may be unspecified.
    pub fn advertised(&self) -> &str {
        &self.advertised
    }

    /// Its sessions.
    pub fn sessions(&self) -> &Arc<Manager> {
        &self.manager
    }
}

/// The place of one access server in the registry.
struct Membership {
    registry: Arc<dyn Registry>,
    name: String,
    advertised: String,
    manager: Arc<Manager>,
    ttl: Duration,
    renewals: u64,
}

impl Membership {
    fn record(&self) -> Record {
        Record {
            name: self.name.clone(),
            addr: self.advertised.clone(),
            cpu: available_parallelism().map_or(1, usize::from),
            sessions: self.manager.len(),
            renewals: self.renewals,
        }
    }

    async fn register(&self) -> Lease {
        self.registry.register(self.record(), self.ttl).await
    }

    /// Renews the lease at every tick until the shutdown begins, then gives it back at once.
    async fn keep(mut self, mut lease: Lease, mut ticks: Box<dyn Ticks>) {
        let shutdown = self.manager.shutdown().clone();
        loop {
            tokio::select! {
                () = shutdown.begun() => break,
                () = ticks.tick() => {}
            }
            self.renewals += 1;
            let renewed = self.registry.renew(&lease, self.record(), self.ttl).await;
            if renewed.is_err() {
                tracing::warn!(access = self.name, "the lease was lost: registering again");
                lease = self.register().await;
            }
        }
        self.registry.revoke(&lease).await;
    }
}

//! One `imd`: the only place that wires the parts together.

mod addresses;
mod cleaning;
mod error;
mod lab;
mod people;
mod runtime;

pub use addresses::{AccessAddress, Addresses, dialable};
pub use error::StartError;
pub use lab::NotSeen;
pub use runtime::runtime;

pub use crate::service::Report;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::sync;
use tokio::task::JoinSet;

use crate::access::{AccessServer, AccessServers, Shared};
use crate::admin;
use crate::clock::{Clock, ClockControl, running};
use crate::config::{self, Config};
use crate::gateway::{Directory, GatewayHandler};
use crate::http;
use crate::lab::Lab;
use crate::listener::{Admission, Room, bind, serve_sessions};
use crate::metrics::Metrics;
use crate::registry::{FaultyRegistry, MemoryRegistry, Registry};
use crate::reset::{Origin, Reset};
use crate::service::{Around, Services};
use crate::session::{Deadlines, Manager, Server, SessionIds, Tap};
use crate::shutdown::Shutdown;
use crate::store::{DurableStore, MemoryStore, OpenError, Retention, Store, StoreFailed};

/// A running stack: gateway, access servers, registry, store and HTTP API as tasks of the current runtime.
///
/// Dropping it closes the listeners and the sessions; [`shutdown`](Imd::shutdown) also waits for that.
#[derive(Debug)]
pub struct Imd {
    admission: Admission,
    gateway_addr: SocketAddr,
    gateway: Arc<Manager>,
    access: Arc<AccessServers>,
    user_api: SocketAddr,
    group_api: SocketAddr,
    admin: Option<SocketAddr>,
    http: Shutdown,
    cleaning: Shutdown,
    services: Arc<Services>,
    registry: Arc<FaultyRegistry>,
    clock: Arc<dyn ClockControl>,
    metrics: Arc<Metrics>,
    lab: Arc<Lab>,
    reset: Arc<Reset>,
    grace: Duration,
}

/// The listeners of one `imd`, bound: nothing is started before every port is there.
struct Listeners {
    gateway: TcpListener,
    access: Vec<TcpListener>,
    user_api: TcpListener,
    group_api: TcpListener,
    admin: Option<TcpListener>,
}

impl Listeners {
    fn bind(config: &Config) -> Result<Self, StartError> {
        let open = |key: &str, addr| bind(addr).map_err(|e| StartError::bind(key, addr, e));
        let access = config.access.0.iter().enumerate();
        Ok(Listeners {
            gateway: open("gateway.listen", config.gateway.listen)?,
            access: access
                .map(|(index, server)| open(&format!("access.{index}.listen"), server.listen))
                .collect::<Result<_, _>>()?,
            user_api: open("http.user_listen", config.http.user_listen)?,
            group_api: open("http.group_listen", config.http.group_listen)?,
            admin: match config.admin.enabled {
                true => Some(open("admin.listen", config.admin.listen)?),
                false => None,
            },
        })
    }
}

impl Imd {
    /// Starts a stack with the store that the config names. Every listener is bound and serving when this returns.
    ///
    /// Also raises the process's open-file limit to what the system allows.
    ///
    /// # Errors
    ///
    /// When the config is wrong, or a port can't be had; then nothing runs.
    pub async fn start(config: Config) -> Result<Imd, StartError> {
        Imd::start_in_store(config, None).await
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
        Imd::start_in_store(config, Some(registry)).await
    }

    /// Starts a stack with the store that the config names.
    async fn start_in_store(
        config: Config,
        registry: Option<Arc<dyn Registry>>,
    ) -> Result<Imd, StartError> {
        // Before anything is made on the disk.
        config.validate()?;
        let admission = Admission::new(&config)?;
        let store = open_store(&config.store).await?;
        let started = Imd::serve(config, Arc::clone(&store), registry, admission).await;
        if started.is_err()
            && let Err(error) = store.close().await
        {
            tracing::error!(%error, "the store was not closed");
        }
        started
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
        config.validate()?;
        let admission = Admission::new(&config)?;
        Imd::serve(config, store, None, admission).await
    }

    /// Starts a stack with a config that was checked.
    async fn serve(
        config: Config,
        store: Arc<dyn Store>,
        registry: Option<Arc<dyn Registry>>,
        admission: Admission,
    ) -> Result<Imd, StartError> {
        let listeners = Listeners::bind(&config)?;
        let control = config.clock.build();
        let clock: Arc<dyn Clock> = control.clone();
        let registry =
            registry.unwrap_or_else(|| Arc::new(MemoryRegistry::new(Arc::clone(&clock))));
        let registry = Arc::new(FaultyRegistry::new(registry, Arc::clone(&clock)));
        let lab = Lab::new(
            Arc::clone(&clock),
            config.seed,
            config.journal.capture,
            config.journal.bounds(),
        );
        for server in &config.access.0 {
            lab.faults().add_server(&server.name);
        }
        for fault in &config.fault {
            lab.faults().inject(fault.clone())?.keep();
        }
        let metrics = Arc::<Metrics>::default();
        let counted = Arc::clone(&metrics);
        lab.journal()
            .count_frames_by(move || counted.traffic().frames());
        let around = Around {
            clock: Arc::clone(&clock),
            lab: Arc::clone(&lab),
            metrics: Arc::clone(&metrics),
        };
        let services = Arc::new(Services::new(&config, store, around).await?);
        services.provide(&config.user, &config.group).await?;
        let shared = Shared {
            services: Arc::clone(&services),
            registry: registry.clone(),
            clock: Arc::clone(&clock),
            ids: SessionIds::default(),
            admission: admission.clone(),
            metrics,
            lab,
        };

        let access = AccessServers::start(config.clone(), listeners.access, shared.clone()).await?;
        let access = Arc::new(access);
        let gateway_addr = listeners.gateway.local_addr()?;
        let (gateway, directory) = start_gateway(listeners.gateway, &config, &shared).await;
        let http = Shutdown::default();
        let serve = |listener: TcpListener, admission: &Admission, router: Router| {
            let addr = listener.local_addr()?;
            let timeout = config.http.timeout;
            http.spawn(http::serve(
                listener,
                admission.clone(),
                http.clone(),
                timeout,
                router,
            ));
            Ok::<_, StartError>(addr)
        };
        let user_router = http::user_router(Arc::clone(&services), &config.http);
        let group_router = http::group_router(Arc::clone(&services), &config.http);
        let for_http = admission.for_http();
        let user_api = serve(listeners.user_api, &for_http, user_router)?;
        let group_api = serve(listeners.group_api, &for_http, group_router)?;
        let reset = Arc::new(Reset {
            gateway: Arc::clone(&gateway),
            directory,
            access: Arc::clone(&access),
            registry: Arc::clone(&registry),
            services: Arc::clone(&services),
            lab: Arc::clone(&shared.lab),
            origin: Origin::from(&config),
            turn: sync::Mutex::default(),
            loading: sync::Mutex::default(),
        });
        let parts = admin::Parts {
            instance: format!("{:016x}", rand::random::<u64>()),
            lease: config.registry.lease,
            listeners: admin::Listeners::default(),
            saves: admin::Saves::default(),
            gateway_addr: addresses::dialable(gateway_addr),
            user_api: addresses::dialable(user_api),
            group_api: addresses::dialable(group_api),
            reset: Arc::clone(&reset),
            gateway: Arc::clone(&gateway),
            access: Arc::clone(&access),
            registry: Arc::clone(&registry),
            services: Arc::clone(&services),
            lab: Arc::clone(&shared.lab),
            clock: Arc::clone(&control),
            metrics: Arc::clone(&shared.metrics),
            quirks: config.quirks,
            admission: admission.clone(),
            ending: http.clone(),
        };
        let admin_router = admin::router(parts, &config.admin);
        let imd = Imd {
            admission: admission.clone(),
            gateway_addr,
            gateway,
            access,
            user_api,
            group_api,
            admin: match listeners.admin {
                Some(listener) => Some(serve(listener, &admission.for_admin(), admin_router)?),
                None => None,
            },
            http,
            cleaning: Shutdown::default(),
            services,
            registry,
            clock: control,
            metrics: shared.metrics,
            lab: shared.lab,
            reset,
            grace: config.shutdown.grace,
        };
        if !Retention::from(&config.store).is_off() {
            imd.keep_clean();
        }
        let quirks: Vec<_> = config.quirks.on().collect();
        if !quirks.is_empty() {
            tracing::info!(
                quirks = quirks.join(", "),
                "some of the original's quirks are on"
            );
        }
        Ok(imd)
    }

    fn keep_clean(&self) {
        let ticks = self.clock.rounds(cleaning::EVERY);
        let services = Arc::clone(&self.services);
        let clock: Arc<dyn Clock> = self.clock.clone();
        let shutdown = self.cleaning.clone();
        self.cleaning
            .spawn(cleaning::keep_clean(services, clock, ticks, shutdown));
    }

    /// Where the gateway listens.
    pub fn gateway_addr(&self) -> SocketAddr {
        self.gateway_addr
    }

    /// The access servers as of now: those of the config in its order, then those that were
    /// [added](Self::add_access), whatever their state.
    pub fn access_servers(&self) -> Vec<Arc<AccessServer>> {
        self.access.all()
    }

    /// The access server of this name, to kill, stop, pause or restart it.
    pub fn access(&self, name: &str) -> Option<Arc<AccessServer>> {
        self.access.get(name)
    }

    /// Starts one more access server, on a free port of the first one's host. It serves and is registered when this
    /// returns; the gateway hands it out from its next look at the registry on.
    ///
    /// # Errors
    ///
    /// When there is one of this name already, whatever its state, when it can't be a name, or when no port can be had.
    pub async fn add_access(&self, name: &str) -> Result<Arc<AccessServer>, StartError> {
        Ok(self.access.add(name).await?)
    }

    /// Where the user API listens.
    pub fn user_api_addr(&self) -> SocketAddr {
        self.user_api
    }

    /// Where the group API listens.
    pub fn group_api_addr(&self) -> SocketAddr {
        self.group_api
    }

    /// Where the admin API listens, unless it is off.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where clients on this machine find everything.
    pub fn addresses(&self) -> Addresses {
        let servers = self.access.all();
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
            gateway: addresses::dialable(self.gateway_addr).to_string(),
            access: access.collect(),
            user_api: format!("http://{}", addresses::dialable(self.user_api)),
            group_api: format!("http://{}", addresses::dialable(self.group_api)),
            admin: self
                .admin
                .map(|addr| format!("http://{}", addresses::dialable(addr))),
        }
    }

    /// The token that logs `uid` in: what existing clients compute from the salt.
    pub fn token(&self, uid: i64) -> String {
        self.services.tokens().salted(uid)
    }

    /// Whether `uid` counts as online: logged in, and heard of within `session.presence`.
    pub fn is_online(&self, uid: i64) -> bool {
        self.services.presence().is_online(uid)
    }

    /// Returns the registry of the access servers, which can be made to mislead the gateway.
    pub fn registry(&self) -> &FaultyRegistry {
        &self.registry
    }

    /// Returns the clock of this stack, to read and to move it.
    pub fn clock(&self) -> &Arc<dyn ClockControl> {
        &self.clock
    }

    /// How many connections there may be on gateway, access servers and HTTP API, and how many there are.
    pub fn room(&self) -> Room {
        self.admission.room()
    }

    /// What has passed through its sessions so far.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What the store is, for people.
    pub fn store_name(&self) -> String {
        self.services.store().describe()
    }

    /// What the store has too little of to take messages now, in words that name the limit; none where it has enough.
    pub fn shortage(&self) -> Option<String> {
        self.services.store().shortage()
    }

    /// What became of the messages so far.
    pub fn report(&self) -> Report {
        self.services.report()
    }

    /// Resolves when the store has failed for good, and says why. From then on everything that needs it is refused: all
    /// that is left is to shut down.
    pub async fn failed(&self) -> StoreFailed {
        self.services.store().failed().await
    }

    /// Stops: accepts nothing more, deregisters, tells and drains the sessions, closes the store. All within
    /// `shutdown.grace`, and a second more for what has to be cut off. The ports are free when this returns.
    pub async fn shutdown(self) -> Report {
        self.services.end_gaps();
        let grace = self.grace;
        let time = running::sleep(grace + Duration::from_secs(1)).shared();
        let mut ending = JoinSet::new();
        let gateway = Arc::clone(&self.gateway);
        ending.spawn(async move { gateway.dispose(grace).await });
        for server in self.access.all() {
            ending.spawn(async move { server.end(grace).await });
        }
        for shutdown in [&self.http, &self.cleaning] {
            let shutdown = shutdown.clone();
            ending.spawn(async move {
                shutdown.begin();
                shutdown.ended_within(grace).await
            });
        }
        let mut ended = pin!(ending.join_all());
        // The time of the store runs already.
        let unfinished = tokio::select! {
            biased;
            unfinished = &mut ended => unfinished,
            () = time.clone() => ended.await,
        };
        // What has ended early may have left commits behind, which the store has to take before it is closed.
        tokio::select! {
            biased;
            () = self.services.finished_commits() => {}
            () = time.clone() => {}
        }
        let unfinished = unfinished.into_iter().sum::<usize>() + self.services.unfinished_commits();
        tokio::select! {
            biased;
            closed = self.services.store().close() => if let Err(error) = closed {
                tracing::error!(%error, "the store was not closed");
            },
            () = time => tracing::error!("the store was not closed in time"),
        }
        Report {
            unfinished,
            ..self.report()
        }
    }
}

impl Drop for Imd {
    fn drop(&mut self) {
        // Nobody waits for the tasks any more, so they have no time.
        self.services.end_gaps();
        self.http.hurry();
        self.cleaning.hurry();
        self.gateway.abandon();
        for server in self.access.all() {
            server.abandon();
        }
    }
}

/// The store that the config names.
async fn open_store(config: &config::Store) -> Result<Arc<dyn Store>, StartError> {
    let folder = config.folder().map_err(OpenError::BadPath)?;
    let Some(path) = folder else {
        return Ok(Arc::new(MemoryStore::new(
            config.memory_limit,
            config.into(),
        )));
    };
    let config = config.clone();
    // It waits for the disk.
    let opened = tokio::task::spawn_blocking(move || DurableStore::open(&path, &config)).await;
    Ok(Arc::new(opened.map_err(io::Error::from)??))
}

/// Serves the gateway, with its list read.
async fn start_gateway(
    listener: TcpListener,
    config: &Config,
    shared: &Shared,
) -> (Arc<Manager>, Arc<Directory>) {
    let deadlines = Deadlines {
        login: None,
        idle: config.gateway.idle,
        half_frame: config.session.half_frame,
        write: config.session.write_deadline,
    };
    let manager = Manager::new(
        shared.ids.clone(),
        Arc::clone(&shared.clock),
        deadlines,
        config.limits.outbound,
    );
    let registry = Arc::clone(&shared.registry);
    let directory = Arc::new(Directory::new(
        registry,
        config.gateway.strategy,
        Arc::clone(&shared.lab),
    ));
    // Quirk `gateway_starts_empty`: its first look is that of the first tick.
    if !config.quirks.gateway_starts_empty {
        directory.refresh().await;
    }
    let ticks = shared.clock.rounds(config.gateway.refresh);
    let shutdown = manager.shutdown();
    shutdown.spawn(Arc::clone(&directory).keep_fresh(ticks, shutdown.clone()));
    let server = Server {
        manager: Arc::clone(&manager),
        frame_limit: config.limits.frame_before_login,
        connections: shared.metrics.connections("gateway"),
        metrics: Arc::clone(&shared.metrics),
        tap: Tap::gateway(Arc::clone(&shared.lab)),
        handler: GatewayHandler::new(Arc::clone(&directory)),
    };
    serve_sessions(listener, shared.admission.clone(), server);
    (manager, directory)
}

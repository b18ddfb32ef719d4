//! Starts a stack: binds the listeners, then makes the core, the servers of the protocol and the HTTP servers, in this order.
//!
//! Serves the constructors of [`Imd`]. Nothing serves before every port is bound, and nothing runs after a failed start.
//! What the config's roles leave out is neither bound nor started. A gateway alone has an empty store in memory, which
//! no client reaches.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;

use super::tls::{self, Tls};
use super::{Imd, StartError, cleaning};
use crate::access::AccessServers;
#[cfg(feature = "admin")]
use crate::admin;
use crate::clock::Clock;
use crate::config::{self, Config, Role};
use crate::core::Core;
use crate::directory::LocalDirectory;
use crate::gateway::Gateway;
use crate::http;
use crate::lab::Lab;
use crate::listener::{self, Admission, Pages, bind};
use crate::metrics::Metrics;
use crate::registry::{FaultyRegistry, MemoryRegistry, Registry, WebSocketAddresses};
use crate::reset::Reset;
use crate::service::{self, Services};
use crate::session::SessionIds;
use crate::stack::Stack;
#[cfg(feature = "durable")]
use crate::store::{DurableStore, OpenError};
use crate::store::{MemoryStore, Retention, Store};
use crate::task_group::TaskGroup;

/// Starts a stack with the store that its config names. Without a `registry` of the caller's, the stack has one in memory.
///
/// # Errors
///
/// [`StartError`]. Nothing runs then, and the store that was opened is closed again.
pub(super) async fn start(
    config: Config,
    registry: Option<Arc<dyn Registry>>,
) -> Result<Imd, StartError> {
    // Checked first, so that a wrong config leaves no folder on the disk.
    config.validate()?;
    let admission = Admission::new(&config)?;
    let tls = tls::prepare(&config).await?;
    let store = match config.has_role(Role::Access) {
        true => open_store(&config.store).await?,
        false => memory_store(&config.store),
    };
    let outside = Outside { admission, tls };
    let started = serve(config, Arc::clone(&store), registry, outside).await;
    if started.is_err()
        && let Err(error) = store.close().await
    {
        tracing::error!(%error, "the store was not closed");
    }
    started
}

/// Starts a stack over a store of the caller's, which a failed start leaves open.
///
/// # Errors
///
/// [`StartError`]. Nothing runs then.
pub(super) async fn start_with_store(
    config: Config,
    store: Arc<dyn Store>,
) -> Result<Imd, StartError> {
    config.validate()?;
    let admission = Admission::new(&config)?;
    let tls = tls::prepare(&config).await?;
    serve(config, store, None, Outside { admission, tls }).await
}

/// What decides on connections from outside: how many there may be, and how they begin.
struct Outside {
    admission: Admission,
    tls: Tls,
}

/// Starts a stack with a config that was validated.
///
/// # Errors
///
/// [`StartError`]. Nothing runs then.
async fn serve(
    config: Config,
    store: Arc<dyn Store>,
    registry: Option<Arc<dyn Registry>>,
    mut outside: Outside,
) -> Result<Imd, StartError> {
    let listeners = Listeners::bind(&config)?;
    if registry.is_none() {
        warn_of_lone_role(&config);
    }
    let core = Arc::new(make_core(&config, store, registry, &outside).await?);
    core.services.provide(&config.user, &config.group).await?;
    let access = AccessServers::start(config.clone(), listeners.access, Arc::clone(&core)).await?;
    let gateway = match listeners.gateway {
        Some(listeners) => Gateway::start(listeners, &config, &core).await?,
        None => Gateway::elsewhere(&config, &core),
    };
    let stack = Arc::new(Stack {
        core,
        gateway,
        access,
    });
    let reset = Arc::new(Reset::new(Arc::clone(&stack), &config));
    let http_servers = HttpServers::start(listeners.http, &config, &stack, &reset)?;
    let upkeep = TaskGroup::default();
    if !Retention::from(&config.store).is_off() {
        keep_clean(&stack.core, &upkeep);
    }
    outside.tls.keep_up(&upkeep);
    log_quirks(&config.quirks);
    Ok(Imd {
        stack,
        http_servers,
        reset,
        ca_certificate: outside.tls.ca_certificate,
        upkeep,
        grace: config.shutdown.grace,
    })
}

/// Warns of a role that is of no use by itself. The registry of a process is in its memory, so no other process reads it.
fn warn_of_lone_role(config: &Config) {
    if !config.has_role(Role::Access) {
        tracing::warn!(
            "roles: no access server can register in this process's own registry, so the gateway has none to hand out: add the \
             role \"access\""
        );
    } else if !config.has_role(Role::Gateway) {
        tracing::warn!(
            "roles: no gateway can read this process's own registry, so clients have to be told an access server's address: \
             add the role \"gateway\""
        );
    }
}

/// The bound listeners of one `imd`. Those of a role that the `imd` does not have are left out.
struct Listeners {
    gateway: Option<listener::Listeners>,
    access: Vec<listener::Listeners>,
    http: HttpListeners,
}

/// The bound listeners of the HTTP servers.
struct HttpListeners {
    user_api: Option<TcpListener>,
    group_api: Option<TcpListener>,
    /// None when the admin API is off.
    admin: Option<TcpListener>,
}

impl Listeners {
    fn bind(config: &Config) -> Result<Self, StartError> {
        let open = |key: &str, addr| bind(addr).map_err(|e| StartError::bind(key, addr, e));
        let open_if = |wanted: bool, key: &str, addr| wanted.then(|| open(key, addr)).transpose();
        let is_gateway = config.has_role(Role::Gateway);
        let is_access = config.has_role(Role::Access);
        let open_both = |table: &str, listen, ws_listen: Option<_>| {
            let websocket = ws_listen.map(|addr| open(&format!("{table}.ws_listen"), addr));
            Ok::<_, StartError>(listener::Listeners {
                frames: open(&format!("{table}.listen"), listen)?,
                websocket: websocket.transpose()?,
            })
        };
        let gateway = is_gateway.then_some(&config.gateway);
        let gateway =
            gateway.map(|gateway| open_both("gateway", gateway.listen, gateway.ws_listen));
        let access = config.access.0.iter().enumerate();
        let access = access.filter(|_| is_access).map(|(index, server)| {
            open_both(&format!("access.{index}"), server.listen, server.ws_listen)
        });
        Ok(Listeners {
            gateway: gateway.transpose()?,
            access: access.collect::<Result<_, _>>()?,
            http: HttpListeners {
                user_api: open_if(is_access, "http.user_listen", config.http.user_listen)?,
                group_api: open_if(is_access, "http.group_listen", config.http.group_listen)?,
                admin: open_if(config.admin.enabled, "admin.listen", config.admin.listen)?,
            },
        })
    }
}

/// Opens the store that the config names.
async fn open_store(config: &config::Store) -> Result<Arc<dyn Store>, StartError> {
    // Without the feature, `Config::validate` has refused a folder.
    #[cfg(feature = "durable")]
    if let Some(path) = config.folder().map_err(OpenError::BadPath)? {
        let config = config.clone();
        // Opening a folder waits for the disk.
        let opened = tokio::task::spawn_blocking(move || DurableStore::open(&path, &config)).await;
        return Ok(Arc::new(opened.map_err(io::Error::from)??));
    }
    Ok(memory_store(config))
}

fn memory_store(config: &config::Store) -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(config.memory_limit, config.into()))
}

/// Creates what the servers share. The faults of the config are in force when this returns.
async fn make_core(
    config: &Config,
    store: Arc<dyn Store>,
    registry: Option<Arc<dyn Registry>>,
    outside: &Outside,
) -> Result<Core, StartError> {
    let clock_control = config.clock.build();
    let clock: Arc<dyn Clock> = clock_control.clone();
    let registry = registry.unwrap_or_else(|| Arc::new(MemoryRegistry::new(Arc::clone(&clock))));
    let metrics = Arc::<Metrics>::default();
    let lab = make_lab(config, &clock, &metrics)?;
    let directory = LocalDirectory::new(
        Arc::clone(&clock),
        config.session.presence,
        config.second_login(),
        Arc::clone(&metrics),
    );
    let deps = service::Deps {
        messages: store.clone(),
        accounts: store.clone(),
        clock: Arc::clone(&clock),
        lab: Arc::clone(&lab),
        metrics: Arc::clone(&metrics),
    };
    let services = Services::new(config, Arc::new(directory), deps);
    Ok(Core {
        services: Arc::new(services.await?),
        registry: Arc::new(FaultyRegistry::new(registry, Arc::clone(&clock))),
        websockets: Arc::<WebSocketAddresses>::default(),
        session_ids: SessionIds::default(),
        admission: outside.admission.clone(),
        acceptor: outside.tls.acceptor.clone(),
        pages: Arc::new(Pages::new(&config.http)),
        clock,
        clock_control,
        lab,
        metrics,
        store,
    })
}

/// Creates the lab, and injects the faults of the config.
fn make_lab(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Lab>, StartError> {
    let lab = Lab::new(
        Arc::clone(clock),
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
    let counted = Arc::clone(metrics);
    lab.journal()
        .count_frames_by(move || counted.traffic().frames());
    Ok(lab)
}

/// The HTTP servers of one `imd`: the stack's two APIs, and the admin API.
#[derive(Debug)]
pub(super) struct HttpServers {
    /// The address of the user API. Without the role `access` it is that of the config, where another process listens.
    pub user_api: SocketAddr,
    /// The address of the group API. Without the role `access` it is that of the config, where another process listens.
    pub group_api: SocketAddr,
    /// The address of the admin API; none if it is off.
    pub admin: Option<SocketAddr>,
    /// Ends all of these servers together.
    pub tasks: TaskGroup,
}

impl HttpServers {
    fn start(
        listeners: HttpListeners,
        config: &Config,
        stack: &Arc<Stack>,
        reset: &Arc<Reset>,
    ) -> io::Result<Self> {
        let core = &stack.core;
        let mut http_servers = HttpServers {
            user_api: addr_or(listeners.user_api.as_ref(), config.http.user_listen)?,
            group_api: addr_or(listeners.group_api.as_ref(), config.http.group_listen)?,
            admin: None,
            tasks: TaskGroup::default(),
        };
        let serve = |name, listener: TcpListener, admission: Admission, router: Router| {
            let server = http::Server {
                router,
                acceptor: core.acceptor.clone(),
                handshake_failures: core.metrics.handshake_failures(name),
                tasks: http_servers.tasks.clone(),
                timeout: config.http.timeout,
            };
            let serving = server.serve(listener, admission);
            http_servers.tasks.spawn(serving);
        };
        let admission = core.admission.for_http();
        let cors = Arc::new(http::Cors::new(&config.http.cors_origins));
        if let Some(listener) = listeners.user_api {
            let services = Arc::clone(&core.services);
            let router = http::user_router(services, &config.http, Arc::clone(&cors));
            serve("user_api", listener, admission.clone(), router);
        }
        if let Some(listener) = listeners.group_api {
            let router = http::group_router(Arc::clone(&core.services), &config.http, cors);
            serve("group_api", listener, admission, router);
        }
        if let Some(listener) = listeners.admin {
            let addr = listener.local_addr()?;
            let router = http_servers.admin_router(config, stack, reset);
            serve("admin", listener, core.admission.for_admin(), router);
            http_servers.admin = Some(addr);
        }
        Ok(http_servers)
    }

    #[cfg(feature = "admin")]
    fn admin_router(&self, config: &Config, stack: &Arc<Stack>, reset: &Arc<Reset>) -> Router {
        use super::addresses::Urls;
        use super::dialable;

        let urls = Urls(&stack.core.acceptor);
        let deps = admin::Deps {
            instance: format!("{:016x}", rand::random::<u64>()),
            lease: config.registry.lease,
            followers: admin::Followers::default(),
            large_answers: admin::LargeAnswers::default(),
            downloads: admin::Downloads::default(),
            gateway_addr: dialable(stack.gateway.addr()),
            gateway_ws: stack.gateway.ws_addr().map(|addr| urls.websocket(addr)),
            user_api: urls.http(self.user_api),
            group_api: urls.http(self.group_api),
            core: Arc::clone(&stack.core),
            stack: Arc::clone(stack),
            reset: Arc::clone(reset),
            quirks: config.quirks,
            tasks: self.tasks.clone(),
        };
        admin::router(deps, &config.admin)
    }

    /// Returns a router that is never served: without the feature, `Config::validate` has refused an admin API.
    #[cfg(not(feature = "admin"))]
    fn admin_router(&self, _: &Config, _: &Arc<Stack>, _: &Arc<Reset>) -> Router {
        Router::new()
    }
}

/// Returns the address of a listener, or `addr` if there is none.
fn addr_or(listener: Option<&TcpListener>, addr: SocketAddr) -> io::Result<SocketAddr> {
    listener.map_or(Ok(addr), TcpListener::local_addr)
}

/// Spawns the task that removes old messages from the store, until the shutdown of `tasks` begins.
fn keep_clean(core: &Core, tasks: &TaskGroup) {
    let ticks = core.clock.housekeeping_ticks(cleaning::INTERVAL);
    let cleaning = cleaning::keep_clean(
        core.store.clone(),
        cleaning::CleaningTime::new(Arc::clone(&core.clock)),
        ticks,
        tasks.clone(),
    );
    tasks.spawn(cleaning);
}

fn log_quirks(quirks: &config::Quirks) {
    let quirks: Vec<_> = quirks.on().collect();
    if !quirks.is_empty() {
        tracing::info!(
            quirks = quirks.join(", "),
            "some of the original's quirks are on"
        );
    }
}

//! The gateway: tells clients which access server to use, from its own copy of the registry's list.
//!
//! Serves `daemon`, which starts it, and `reset`, which empties its list. A request never waits for the registry: the list is
//! read again at fixed times, so a server that has died is handed out until its lease has expired and the list was read.
//!
//! [`Gateway`] is the server, [`ServerList`] its list, and [`GatewayHandler`] replies to the frames of its sessions. The module
//! `client_hosts` chooses the host that a client is told.

mod client_hosts;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::BytesMut;
use parking_lot::RwLock;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;

use crate::clock::Ticks;
use crate::codec::Encoded;
use crate::command::{Command, Listener};
use crate::config::{Config, Strategy};
use crate::core::Core;
use crate::lab::Lab;
use crate::listener::{Listeners, serve_server};
use crate::proto::{Cmd, Code, Reply};
use crate::registry::{Record, Registry, WebSocketAddress, WebSocketAddresses};
use crate::session::{
    Deadlines, FaultPoint, Handler, ListenerContext, RequestBatch, SessionManager,
};
use crate::task_group::TaskGroup;
use client_hosts::{ClientEnds, ClientHosts, NotDialable, with_unspecified_host};

thread_local! {
    /// Chooses servers by the strategy `random`. A cheap generator is enough, since the choice is no secret.
    static CHOICES: RefCell<SmallRng> = RefCell::new(SmallRng::from_rng(&mut rand::rng()));
}

/// The gateway of one `imd`: the sessions of its listeners, and the list from which their requests are replied to. In an `imd`
/// without the role `gateway` it serves nobody.
#[derive(Debug)]
pub struct Gateway {
    addr: SocketAddr,
    ws_addr: Option<SocketAddr>,
    manager: Arc<SessionManager>,
    servers: Arc<ServerList>,
}

impl Gateway {
    /// Starts to serve on bound listeners. The list has been read from the registry when this returns, except with the quirk
    /// `gateway_starts_empty`.
    ///
    /// # Errors
    ///
    /// When a listener has no address.
    pub async fn start(listeners: Listeners, config: &Config, core: &Core) -> io::Result<Self> {
        let ws_addr = listeners.websocket.as_ref().map(TcpListener::local_addr);
        let gateway = Gateway {
            ws_addr: ws_addr.transpose()?,
            ..Gateway::new(listeners.frames.local_addr()?, config, core)
        };
        let Gateway {
            manager, servers, ..
        } = &gateway;
        // With the quirk, the list is first read at the first tick.
        if !config.quirks.gateway_starts_empty {
            servers.refresh().await;
        }
        let ticks = core.clock.housekeeping_ticks(config.gateway.refresh);
        let tasks = manager.tasks();
        tasks.spawn(Arc::clone(servers).keep_fresh(ticks, tasks.clone()));
        let context = |framing| ListenerContext {
            manager: Arc::clone(manager),
            framing,
            frame_before_login: config.limits.frame_before_login,
            connection_counts: core.metrics.connection_counts("gateway"),
            metrics: Arc::clone(&core.metrics),
            fault_point: FaultPoint::gateway(Arc::clone(&core.lab)),
            handler: GatewayHandler::new(Arc::clone(servers)),
        };
        serve_server(
            listeners,
            &core.admission,
            &core.acceptor,
            &core.pages,
            manager,
            context,
        );
        Ok(gateway)
    }

    /// Creates a gateway that serves nobody, for an `imd` whose gateway is another process, at the address of the config.
    pub fn elsewhere(config: &Config, core: &Core) -> Self {
        Gateway::new(config.gateway.listen, config, core)
    }

    fn new(addr: SocketAddr, config: &Config, core: &Core) -> Self {
        let deadlines = Deadlines {
            login: None,
            idle: config.gateway.idle,
            half_frame: config.session.half_frame,
            write: config.session.write_deadline,
        };
        let manager = SessionManager::new(
            core.session_ids.clone(),
            Arc::clone(&core.clock),
            deadlines,
            config.limits.outbound,
        );
        let servers = ServerList::new(
            core.registry.clone(),
            config.gateway.strategy,
            Arc::clone(&core.lab),
        );
        let servers = servers
            .with_websockets(Arc::clone(&core.websockets))
            .with_client_hosts(ClientHosts::new(&config.gateway.advertise_to));
        Gateway {
            addr,
            ws_addr: config.gateway.ws_listen,
            manager,
            servers: Arc::new(servers),
        }
    }

    /// Returns the address that clients ask for an access server: that of the listener, or of the gateway elsewhere.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the address that WebSocket clients ask, if they can: that of the listener, or of the gateway elsewhere.
    pub fn ws_addr(&self) -> Option<SocketAddr> {
        self.ws_addr
    }

    /// Returns the manager of the gateway's sessions.
    pub fn session_manager(&self) -> &Arc<SessionManager> {
        &self.manager
    }

    /// Resets the list to what it is after a start: see [`ServerList::begin_anew`].
    pub async fn begin_anew(&self, starts_empty: bool) {
        self.servers.begin_anew(starts_empty).await;
    }
}

/// The gateway's list of access servers, and the choice from it.
#[derive(Debug)]
pub struct ServerList {
    registry: Arc<dyn Registry>,
    strategy: Strategy,
    websockets: Arc<WebSocketAddresses>,
    client_hosts: ClientHosts,
    list: RwLock<Arc<[Listed]>>,
    lab: Arc<Lab>,
    /// How many addresses were handed out, for the strategy `round_robin`.
    rotation: AtomicUsize,
    /// Whether the registry could not be read last time. Only the first failure of a series is logged.
    is_cut_off: AtomicBool,
}

/// An access server of the list.
#[derive(Debug)]
struct Listed {
    record: Record,
    /// Where the server takes WebSocket clients, if it does.
    websocket: Option<WebSocketAddress>,
    /// How often the server was handed out since it wrote the record, whose number of sessions does not include these
    /// clients yet. Counted only with the strategy `least_sessions`.
    handed_out: AtomicUsize,
    reply: AddressReply,
}

/// The reply with the address of an access server.
#[derive(Debug)]
enum AddressReply {
    /// A message that is encoded once. It is the same for every client outside the networks of [`ClientHosts`].
    SameForAll(Encoded<BytesMut>),
    /// An address has an unspecified host, which no client can dial: each client is told a host of its own.
    PerClient,
}

impl AddressReply {
    fn of(addr: &str, websocket: Option<&WebSocketAddress>) -> Self {
        let dialable = |addr: &str| {
            with_unspecified_host(addr)
                .is_none()
                .then(|| addr.to_owned())
        };
        let url = websocket.map(|websocket| websocket.url(dialable));
        match (dialable(addr), url) {
            (Some(addr), None) => AddressReply::same_for_all(addr, None),
            (Some(addr), Some(Some(url))) => AddressReply::same_for_all(addr, Some(url)),
            _ => AddressReply::PerClient,
        }
    }

    fn same_for_all(addr: String, url: Option<String>) -> Self {
        let reply = Reply::select_access(addr).with_websocket(url);
        AddressReply::SameForAll(Encoded::new(&reply))
    }
}

impl ServerList {
    /// Creates a list that is empty until the first [`refresh`](Self::refresh).
    pub fn new(registry: Arc<dyn Registry>, strategy: Strategy, lab: Arc<Lab>) -> Self {
        let list = RwLock::new(Arc::default());
        ServerList {
            registry,
            strategy,
            websockets: Arc::default(),
            client_hosts: ClientHosts::default(),
            list,
            lab,
            rotation: AtomicUsize::new(0),
            is_cut_off: AtomicBool::new(false),
        }
    }

    /// Has clients told the WebSocket addresses of the servers too.
    #[must_use]
    pub fn with_websockets(self, websockets: Arc<WebSocketAddresses>) -> Self {
        ServerList { websockets, ..self }
    }

    /// Has clients of certain networks told hosts of their own.
    fn with_client_hosts(self, client_hosts: ClientHosts) -> Self {
        ServerList {
            client_hosts,
            ..self
        }
    }

    /// Reads the list from the registry. If the registry can't be reached, the gateway goes on with the list that it has.
    pub async fn refresh(&self) {
        let read = self.registry.list().await;
        let was_cut_off = self.is_cut_off.swap(read.is_err(), Ordering::Relaxed);
        match read {
            Ok(records) => {
                if was_cut_off {
                    tracing::info!("the registry can be reached again");
                }
                self.replace(records);
            }
            Err(error) if !was_cut_off => {
                tracing::warn!(%error, "the gateway keeps its list of access servers");
            }
            Err(_) => {}
        }
    }

    /// Replaces the list.
    fn replace(&self, records: Vec<Record>) {
        let addresses: Vec<String> = records.iter().map(|record| record.addr.clone()).collect();
        self.lab.note_addresses(&addresses);
        let old = Arc::clone(&self.list.read());
        let listed = |record: Record| {
            let same = |old: &&Listed| {
                old.record.name == record.name && old.record.renewals == record.renewals
            };
            // The record does not count the clients yet that were sent to this server after it was written.
            let handed_out = old
                .iter()
                .find(same)
                .map_or(0, |old| old.handed_out.load(Ordering::Relaxed));
            let websocket = self.websockets.of(&record.addr);
            Listed {
                reply: AddressReply::of(&record.addr, websocket.as_ref()),
                record,
                websocket,
                handed_out: AtomicUsize::new(handed_out),
            }
        };
        let list: Arc<[Listed]> = records.into_iter().map(listed).collect();
        *self.list.write() = list;
    }

    /// Resets the list to what it is after a start: no server was handed out, and none has ever left the list. It is read from
    /// the registry, or, if it `starts_empty`, stays empty until the next [`refresh`](Self::refresh).
    pub async fn begin_anew(&self, starts_empty: bool) {
        *self.list.write() = Arc::default();
        self.rotation.store(0, Ordering::Relaxed);
        self.lab.forget_addresses();
        if !starts_empty {
            self.refresh().await;
        }
    }

    /// Reads the list again at every tick, until the shutdown begins.
    pub async fn keep_fresh(self: Arc<Self>, mut ticks: Box<dyn Ticks>, tasks: TaskGroup) {
        loop {
            tokio::select! {
                () = tasks.shutdown_begun() => return,
                _ = ticks.tick() => self.refresh().await,
            }
        }
    }

    /// Replies with the address of one access server of the list.
    fn reply(&self, list: &[Listed], batch: &mut RequestBatch<'_>) {
        let Some(listed) = self.choose(list) else {
            let code = Code::NoAccessServer;
            batch.reply(&Reply::select_access(String::new()).with_code(code, code.text()));
            return;
        };
        if self.strategy == Strategy::LeastSessions {
            listed.handed_out.fetch_add(1, Ordering::Relaxed);
        }
        let client = ClientEnds::from(&**batch.session());
        match &listed.reply {
            AddressReply::SameForAll(message) if !self.client_hosts.has_host_for(client) => {
                batch.reply(message);
            }
            _ => batch.reply(&self.reply_to(client, listed)),
        }
    }

    /// Creates the reply to a client whose addresses have to be made for it.
    fn reply_to(&self, client: ClientEnds, listed: &Listed) -> Reply {
        let hosts = &self.client_hosts;
        let websocket = listed.websocket.as_ref();
        let url = websocket
            .and_then(|websocket| websocket.url(|addr| hosts.websocket_address(addr, client).ok()));
        match hosts.address(&listed.record.addr, client) {
            Ok(addr) => Reply::select_access(addr).with_websocket(url),
            Err(NotDialable) => {
                let code = Code::NoAccessServer;
                let why = "it listens on IPv4 alone, and you came by IPv6: set advertise";
                Reply::select_access(String::new()).with_code(code, code.because(why))
            }
        }
    }

    fn choose<'a>(&self, list: &'a [Listed]) -> Option<&'a Listed> {
        let index = match self.strategy {
            _ if list.is_empty() => return None,
            Strategy::Random => {
                CHOICES.with_borrow_mut(|choices| choices.random_range(0..list.len()))
            }
            Strategy::RoundRobin => self.rotation.fetch_add(1, Ordering::Relaxed) % list.len(),
            Strategy::LeastSessions => {
                let load = |listed: &Listed| {
                    listed.record.sessions + listed.handed_out.load(Ordering::Relaxed)
                };
                list.iter()
                    .enumerate()
                    .min_by_key(|(_, listed)| load(listed))?
                    .0
            }
        };
        list.get(index)
    }
}

/// Replies to the frames that come to the gateway.
#[derive(Debug)]
pub struct GatewayHandler {
    servers: Arc<ServerList>,
}

impl GatewayHandler {
    /// Creates a handler that replies from a list of servers.
    pub fn new(servers: Arc<ServerList>) -> Self {
        GatewayHandler { servers }
    }

    /// Replies to one request. `list` is set by the first request of a batch, so that all of them see the same list.
    fn respond(
        &self,
        request: &[u8],
        list: &mut Option<Arc<[Listed]>>,
        batch: &mut RequestBatch<'_>,
    ) {
        match Command::decode(request, Listener::Gateway) {
            Ok(_) => {
                let list = list.get_or_insert_with(|| Arc::clone(&self.servers.list.read()));
                self.servers.reply(list, batch);
            }
            Err(bad) => {
                tracing::debug!(error = %bad, "bad frame");
                batch.reply(&Reply::server(bad.code(), bad.code().because(&bad)));
            }
        }
    }
}

impl Handler for GatewayHandler {
    /// The gateway stores nothing.
    type Notifies = ();

    async fn handle(&self, batch: &mut RequestBatch<'_>, (): &mut ()) {
        // A span takes time even if nothing logs it, so there is none unless some target logs at the level debug. A filter
        // that names only a span, such as `[request]=debug`, therefore has no effect.
        let is_traced = tracing::enabled!(tracing::Level::DEBUG);
        let mut list = None;
        while let Some(request) = batch.next_request() {
            if !is_traced {
                self.respond(request, &mut list, batch);
                continue;
            }
            let span = tracing::debug_span!(
                "request",
                session = %batch.session().id(),
                cmd = Cmd::of(request).map(Cmd::name),
            );
            span.in_scope(|| self.respond(request, &mut list, batch));
        }
    }

    fn refuse(&self, _: &[u8], code: Code) -> Reply {
        // Not called, since no site allows a fault that refuses requests at the gateway.
        Reply::server(code, code.text())
    }
}

//! The config: the model of imd.toml, its defaults, its validation, and errors that name the key and the line.
//!
//! Serves the whole stack, which takes its settings from one [`Config`]. A stack starts only with a config that has
//! passed [`Config::validate`], so later code need not check a value again. An unknown key is an error.
//!
//! | module | contents |
//! |---|---|
//! | `advertise` | `[[gateway.advertise_to]]` |
//! | `admin`, `fixtures`, `quirks`, `roles` | the tables of these names (`fixtures`: `[[user]]` and `[[group]]`) |
//! | `defaults` | the default of every key |
//! | `error` | errors, and their places in the file |
//! | `features` | checks that this build has the cargo features that a config needs |
//! | `folder` | the folder that `store.path` names |
//! | `form` | the text forms of values |
//! | `hint` | what to write instead of a wrong value |
//! | `host` | the parser of hosts |
//! | `listen` | the parser of listeners' addresses, which resolves names |
//! | `origin` | the check of `http.cors_origins` |
//! | `position` | keys and places in the text of a file |
//! | `provenance` | where each value came from, for `imd check` |
//! | `schema` | the keys of the model, and the kinds of their values |
//! | `service_links` | variables that Kubernetes sets, which are no keys |
//! | `sources` | the config of a file and of environment variables |
//! | `tls` | the table `[tls]` |
//! | `validate` | the checks of all values |
//! | `variables` | environment variables as keys |

mod admin;
mod advertise;
mod defaults;
mod error;
mod features;
mod fixtures;
mod folder;
mod form;
mod hint;
mod host;
mod listen;
mod origin;
mod position;
mod provenance;
mod quirks;
mod roles;
mod schema;
mod service_links;
mod sources;
mod tls;
mod validate;
mod variables;

pub use admin::{Admin, Secret};
pub use advertise::{AdvertiseTo, BadNetwork, Network};
pub use error::ConfigError;
pub use fixtures::{Group, User};
pub use host::{BadHost, Host};
pub use listen::{BadListen, ListenHost};
pub use origin::{ANY_ORIGIN, Origins};
pub use provenance::{Provenance, Provenances};
pub use quirks::Quirks;
pub use roles::{Role, Roles};
pub use sources::Sources;
pub use tls::{CertificateSource, Tls};
pub use validate::FEWEST_CONNECTIONS;
pub use variables::{Variables, switch};

use std::fmt;
use std::iter;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{ClockControl, ManualClock, RealClock};
use crate::lab::{Bounds, Capture, Fault};
use crate::text;

/// The text of the imd.toml that `imd` is shipped with. It has every key with its default; keys without one are
/// comments.
pub const SHIPPED: &str = include_str!("../../imd.toml");

/// The beginning of the name of every environment variable of `imd`.
pub const VARIABLE_PREFIX: &str = "IMD_";

/// The salt with which existing clients of the stack compute their tokens. It is published, so it protects nothing.
pub const PUBLIC_SALT: &str = "!0h#?123(ABM";

/// How much higher the port for WebSocket clients is than that for others, where the config does not say it.
const WS_PORTS: u16 = 100;

/// The settings of a stack.
///
/// [`Config::default`] has the values of the shipped imd.toml, except that it has no `store.path`: its store is in
/// memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The seed of the random choices of faults. Each fault has its own sequence, which depends on its name too.
    pub seed: u64,
    /// Which servers of the stack this process runs.
    pub roles: Roles,
    /// The table `[gateway]`.
    pub gateway: Gateway,
    /// The tables `[[access]]`, one for each access server.
    pub access: AccessServers,
    /// The table `[registry]`.
    pub registry: Registry,
    /// The table `[session]`.
    pub session: Session,
    /// The table `[delivery]`.
    pub delivery: Delivery,
    /// The table `[limits]`.
    pub limits: Limits,
    /// The table `[auth]`.
    pub auth: Auth,
    /// The table `[store]`.
    pub store: Store,
    /// The table `[http]`.
    pub http: Http,
    /// The table `[tls]`.
    pub tls: Tls,
    /// The table `[idgen]`.
    pub idgen: Idgen,
    /// The table `[shutdown]`.
    pub shutdown: Shutdown,
    /// The table `[admin]`.
    pub admin: Admin,
    /// The table `[journal]`.
    pub journal: Journal,
    /// The tables `[[user]]`: users who are registered at the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<User>,
    /// The tables `[[group]]`: groups that are created at the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<Group>,
    /// The tables `[[fault]]`: faults that are in force from the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fault: Vec<Fault>,
    /// The table `[quirks]`.
    pub quirks: Quirks,
    /// The table `[clock]`.
    pub clock: ClockKind,
}

/// The table `[gateway]`: the server that tells clients which access server to use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// The address on which clients ask for an access server.
    #[serde(with = "form::address")]
    pub listen: SocketAddr,
    /// The address on which WebSocket clients ask. None if they can't.
    #[serde(
        with = "form::optional_address",
        skip_serializing_if = "Option::is_none"
    )]
    pub ws_listen: Option<SocketAddr>,
    /// How the access server for a client is chosen.
    pub strategy: Strategy,
    /// How often the list of access servers is read from the registry, in addition to once at the start.
    #[serde(with = "form::duration")]
    pub refresh: Duration,
    /// How long a connection may send no frame before it is closed.
    #[serde(with = "form::duration")]
    pub idle: Duration,
    /// The tables `[[gateway.advertise_to]]`: the hosts that clients of certain networks are told in place of those of the
    /// access servers. If several of the networks contain a client, the smallest one counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advertise_to: Vec<AdvertiseTo>,
}

/// How the gateway chooses an access server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Chooses at random, with equal probability.
    Random,
    /// Chooses each in turn.
    RoundRobin,
    /// Chooses the one with the fewest sessions, as of the last refresh.
    LeastSessions,
}

/// The access servers of a config, in the order of their tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessServers(pub Vec<AccessServer>);

/// A table `[[access]]`: one access server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessServer {
    /// The server's name in the registry and in the admin API. No two servers have the same.
    pub name: String,
    /// The address on which clients connect to the server.
    #[serde(with = "form::address")]
    pub listen: SocketAddr,
    /// The address that the gateway gives to clients, as host or host:port. None if that is [`listen`](Self::listen).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// The address on which WebSocket clients connect to the server. None if they can't.
    #[serde(
        default,
        with = "form::optional_address",
        skip_serializing_if = "Option::is_none"
    )]
    pub ws_listen: Option<SocketAddr>,
    /// The URL that the gateway gives to WebSocket clients, such as that of a proxy. None if they are told the host of
    /// [`advertise`](Self::advertise), or else of [`ws_listen`](Self::ws_listen), with the port of the latter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ws_advertise: Option<String>,
}

/// The table `[registry]`: the leases with which access servers are listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// How long an access server stays listed after its last heartbeat.
    #[serde(with = "form::duration")]
    pub lease: Duration,
    /// How often an access server renews its lease. Less than [`lease`](Self::lease).
    #[serde(with = "form::duration")]
    pub heartbeat: Duration,
}

/// The table `[session]`: the time limits of a client's connection to an access server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// How long a client may take from the connection to the login.
    #[serde(with = "form::duration")]
    pub login_deadline: Duration,
    /// How long a session may send no frame after the login before it is closed.
    #[serde(with = "form::duration")]
    pub idle: Duration,
    /// How long a user counts as online after the last login or ping.
    #[serde(with = "form::duration")]
    pub presence: Duration,
    /// How long a peer may read nothing of what is written to it before its session is closed.
    #[serde(with = "form::duration")]
    pub write_deadline: Duration,
    /// How long a frame may take to arrive, from its first byte to its last.
    #[serde(with = "form::duration")]
    pub half_frame: Duration,
    /// How long the Notify after a login waits for the client's own sync, which makes it needless. It is sent behind the
    /// login's reply if this is zero. The time is that of the stack's clock, or real time if that ends the wait earlier, as it
    /// does while a manual clock stands still.
    #[serde(with = "form::duration")]
    pub first_notify: Duration,
    /// What happens when a user logs in who has a session already. The quirk `old_session_stays_open` overrides it: see
    /// [`Config::second_login`].
    pub second_login: SecondLogin,
    /// How long a connection is idle before TCP sends the first keepalive probe.
    #[serde(with = "form::duration")]
    pub tcp_keepalive: Duration,
    /// How long sent bytes may stay unacknowledged before TCP gives the connection up (`TCP_USER_TIMEOUT`, Linux only).
    #[serde(with = "form::duration")]
    pub tcp_user_timeout: Duration,
}

/// What happens when a user logs in who has a session already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondLogin {
    /// The older session is sent the error 93004, and is closed.
    Close,
    /// The older session is still served, but no longer notified. This is what the original stack does.
    Demote,
    /// The newer login is refused with the error 93004.
    Refuse,
}

/// The table `[delivery]`: how messages get to receivers who are logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Whether a message to one user is pushed to a receiver who is logged in, besides the notify: as a frame of command 20003
    /// with a text. docs/protocol.md says when it is not.
    pub push: bool,
}

/// The table `[limits]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The number of open connections, which all listeners except the admin API's share. The HTTP API has a few more of
    /// its own. The open-file limit of the process may allow fewer.
    pub connections: usize,
    /// The length of a frame before the login, in bytes. After the login, the limit is 65,535.
    #[serde(deserialize_with = "form::bytes")]
    pub frame_before_login: usize,
    /// The length of a message's text, in bytes of UTF-8.
    #[serde(deserialize_with = "form::bytes")]
    pub message: usize,
    /// The length of a `msgID`, in bytes.
    #[serde(deserialize_with = "form::bytes")]
    pub msg_id: usize,
    /// The number of members of a group.
    pub group_members: usize,
    /// The number of bytes that may wait to be written to one session.
    #[serde(deserialize_with = "form::bytes")]
    pub outbound: usize,
}

/// The table `[auth]`: who may log in.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The salt of the tokens that clients compute themselves: a token is the MD5 of the UID followed by the salt.
    pub salt: String,
    /// Whether users who have not registered may log in, send and receive.
    pub auto_register: bool,
    /// How long a token from `/x/user/auth` is valid.
    #[serde(with = "form::duration")]
    pub token_lifetime: Duration,
}

/// Leaves out the salt, which may be a secret.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("auto_register", &self.auto_register)
            .field("token_lifetime", &self.token_lifetime)
            .finish_non_exhaustive()
    }
}

/// The table `[store]`: where messages, users and groups are kept, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The folder of the store, as it is written: see [`folder`](Self::folder). None for a store in memory, which is
    /// lost when the process ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// When a message counts as stored, and its sender is answered.
    pub sync: SyncMode,
    /// How many bytes of each kind of record the engine collects in memory before it writes a table.
    #[serde(deserialize_with = "form::bytes")]
    pub buffer: u64,
    /// The free space of the disk, in bytes, below which sends, registers and joins are refused with 90001.
    #[serde(deserialize_with = "form::bytes")]
    pub min_free: u64,
    /// How long messages are kept. None if they are kept for ever.
    #[serde(
        with = "form::optional_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub keep: Option<Duration>,
    /// How many of the newest messages of an inbox are kept. None if all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_inbox: Option<u64>,
    /// How many bytes a store in memory may hold. When it is full, sends are refused with 90001.
    #[serde(deserialize_with = "form::bytes")]
    pub memory_limit: usize,
}

/// When a message counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    /// When it is on the disk: it survives a power failure.
    Always,
    /// When the operating system has it: it survives a crash of the process, but not a power failure.
    Os,
}

/// The table `[http]`: the user API and the group API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The address of the user API.
    #[serde(with = "form::address")]
    pub user_listen: SocketAddr,
    /// The address of the group API.
    #[serde(with = "form::address")]
    pub group_listen: SocketAddr,
    /// The public names, as host or host:port, by which the two APIs may be asked. IP addresses, names without a dot
    /// and names under `localhost` are always allowed.
    pub hosts: Vec<String>,
    /// The origins whose pages may use the two APIs by CORS, such as `http://localhost:5173`, or [`ANY_ORIGIN`] alone. A
    /// text alone is read as a list of one. Empty if pages of other sites are refused.
    #[serde(deserialize_with = "form::one_or_more")]
    pub cors_origins: Vec<String>,
    /// The length of a request's body, in bytes.
    #[serde(deserialize_with = "form::bytes")]
    pub body: usize,
    /// How long a request may take to arrive, and then to be answered.
    #[serde(with = "form::duration")]
    pub timeout: Duration,
}

/// The table `[idgen]`: how snowflake ids are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Idgen {
    /// The machine number that is part of every snowflake, from 0 to 1023. Stacks whose ids must not collide need
    /// different ones.
    pub machine: u16,
}

/// The table `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long a shutdown waits for sessions to finish their requests and to read their last frames.
    #[serde(with = "form::duration")]
    pub grace: Duration,
}

/// The table `[journal]`: the recording of frames and events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// When frames are recorded.
    pub capture: Capture,
    /// How many of the newest events are kept.
    pub events: usize,
    /// How much memory the events may take, in bytes. This is an estimate.
    #[serde(deserialize_with = "form::bytes")]
    pub bytes: usize,
}

impl Journal {
    /// Returns the bounds of the journal.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            events: self.events,
            bytes: self.bytes,
        }
    }
}

/// The table `[clock]`: which kind of clock a stack creates at its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum ClockKind {
    /// A [`RealClock`], which is the clock of the machine.
    #[default]
    Real,
    /// A [`ManualClock`], which stands still until it is advanced.
    Manual,
}

impl ClockKind {
    /// Creates a clock of this kind.
    pub fn build(self) -> Arc<dyn ClockControl> {
        match self {
            ClockKind::Real => Arc::new(RealClock::default()),
            ClockKind::Manual => Arc::new(ManualClock::default()),
        }
    }
}

impl Config {
    /// Returns a config for tests: the defaults, with every listener on a free port of the loopback interface, a store
    /// in memory, and every frame recorded.
    pub fn ephemeral() -> Self {
        let mut config = Config::default();
        config.any_port();
        config.journal.capture = Capture::Always;
        config
    }

    /// Sets the seed of the random choices of faults. The seed does not determine the order in which threads run and
    /// sockets are served.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Selects a [`ManualClock`], which stands still until [`Imd::clock`](crate::Imd::clock) is advanced.
    #[must_use]
    pub fn manual_clock(mut self) -> Self {
        self.clock = ClockKind::Manual;
        self
    }

    /// Sets the port of every listener to 0, so that each takes a free port.
    pub fn any_port(&mut self) {
        for addr in self.client_listeners() {
            addr.set_port(0);
        }
        self.admin.listen.set_port(0);
    }

    /// Lets every listener listen on `host`, on the port that it has. The admin API stays on loopback unless
    /// [`Admin::token`] is set, since anybody who reaches it can stop servers.
    pub fn listen_on(&mut self, host: ListenHost) {
        for addr in self.client_listeners() {
            *addr = host.at(addr.port());
        }
        if self.admin.token.is_some() {
            self.admin.listen = host.at(self.admin.listen.port());
        }
    }

    /// Returns every listener of this config, as its dotted key and its address. A listener that is off is left out.
    pub(crate) fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let mut listeners = vec![
            ("gateway.listen".to_owned(), self.gateway.listen),
            ("http.user_listen".to_owned(), self.http.user_listen),
            ("http.group_listen".to_owned(), self.http.group_listen),
        ];
        if self.admin.enabled {
            listeners.push(("admin.listen".to_owned(), self.admin.listen));
        }
        let ws = self.gateway.ws_listen;
        listeners.extend(ws.map(|addr| ("gateway.ws_listen".to_owned(), addr)));
        for (index, server) in self.access.0.iter().enumerate() {
            listeners.push((format!("access.{index}.listen"), server.listen));
            let ws = server.ws_listen;
            listeners.extend(ws.map(|addr| (format!("access.{index}.ws_listen"), addr)));
        }
        listeners
    }

    /// Returns the address of every listener of this config that clients of the stack use: those of the gateway, of the
    /// access servers, and of the user and group APIs. The admin API's is not one of them.
    fn client_listeners(&mut self) -> impl Iterator<Item = &mut SocketAddr> {
        let servers = self.access.0.iter_mut();
        let servers =
            servers.flat_map(|server| iter::once(&mut server.listen).chain(&mut server.ws_listen));
        let http = [&mut self.http.user_listen, &mut self.http.group_listen];
        iter::once(&mut self.gateway.listen)
            .chain(&mut self.gateway.ws_listen)
            .chain(http)
            .chain(servers)
    }

    /// Has the gateway and every access server take WebSocket clients too. A server that does not say where, by
    /// `ws_listen`, takes them on the host of its `listen`, at its port plus 100, or on a free port if that is one.
    pub fn with_websockets(&mut self) {
        let listens: Vec<SocketAddr> = iter::once(self.gateway.listen)
            .chain(self.access.0.iter().map(|server| server.listen))
            .collect();
        for (ws_listen, mut listen) in self.ws_listens().zip(listens) {
            if listen.port() != 0 {
                listen.set_port(listen.port().saturating_add(WS_PORTS));
            }
            ws_listen.get_or_insert(listen);
        }
    }

    /// Returns where each server takes WebSocket clients: first the gateway, then the access servers.
    fn ws_listens(&mut self) -> impl Iterator<Item = &mut Option<SocketAddr>> {
        let access = self.access.0.iter_mut();
        iter::once(&mut self.gateway.ws_listen).chain(access.map(|server| &mut server.ws_listen))
    }

    /// Parses and validates a config in TOML. `name` is the name of the file in errors.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] for the first mistake, with its key and line, and a message that says what to write
    /// instead.
    pub fn from_toml(text: &str, name: &str) -> Result<Config, ConfigError> {
        let config = Config::parse(text, name)?;
        config
            .check()
            .map_err(|invalid| ConfigError::invalid(invalid, text::without_mark(text), name))?;
        Ok(config)
    }

    /// Parses a config in TOML, without the checks of its values. `name` is the name of the file in errors.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] for a text that is not TOML, an unknown or missing key, and a value of a wrong type or form.
    fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
        let text = text::without_mark(text);
        toml::from_str(text).map_err(|error| ConfigError::from_toml(&error, text, name))
    }

    /// Reads, parses and validates a config file. Environment variables are not read: see [`Sources`].
    ///
    /// # Errors
    ///
    /// - [`ConfigError::Unreadable`], when the system can't read the file.
    /// - [`ConfigError::TooLong`], when the file is too long for a config.
    /// - [`ConfigError::Invalid`], when the file is not text, and as for [`from_toml`](Self::from_toml).
    pub fn from_file(path: &Path) -> Result<Config, ConfigError> {
        Sources::read(Some(path), Variables::default())?.config()
    }

    /// Formats the config as TOML, with every value, also those that are defaults.
    ///
    /// # Errors
    ///
    /// The error of the serializer, when a value can't be written as TOML. This does not happen with a valid config.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

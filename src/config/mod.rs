//! The model of imd.toml: every key with its default, what is allowed, and errors that name key and line.

mod admin;
mod defaults;
mod error;
mod features;
mod fixtures;
mod folder;
mod form;
mod hint;
mod host;
mod quirks;
mod roles;
mod validate;

pub use admin::{Admin, Secret};
pub use error::ConfigError;
pub use fixtures::{Group, User};
pub use host::{BadHost, Host};
pub use quirks::Quirks;
pub use roles::{Role, Roles};
pub use validate::FEWEST_CONNECTIONS;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{ClockControl, ManualClock, RealClock};
use crate::lab::{Bounds, Capture, Fault};
use crate::text;

/// The imd.toml that `imd` is shipped with; it has every key with its default.
pub const SHIPPED: &str = include_str!("../../imd.toml");

/// The salt that existing clients of the stack compute their tokens with.
pub const PUBLIC_SALT: &str = "!0h#?123(ABM";

/// Everything that can be set. [`Config::default`] is what the shipped imd.toml says, but for the store: without a
/// `store.path` it is in memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the lab's choices by chance are made from, together with a fault's name.
    pub seed: u64,
    /// Which servers run.
    pub roles: Roles,
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[[access]]`, one table for each access server.
    pub access: AccessServers,
    /// `[registry]`
    pub registry: Registry,
    /// `[session]`
    pub session: Session,
    /// `[limits]`
    pub limits: Limits,
    /// `[auth]`
    pub auth: Auth,
    /// `[store]`
    pub store: Store,
    /// `[http]`
    pub http: Http,
    /// `[idgen]`
    pub idgen: Idgen,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// `[admin]`
    pub admin: Admin,
    /// `[journal]`
    pub journal: Journal,
    /// `[[user]]`, one table for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<User>,
    /// `[[group]]`, one table for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<Group>,
    /// `[[fault]]`, one table for each fault that is in force from the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fault: Vec<Fault>,
    /// `[quirks]`
    pub quirks: Quirks,
    /// `[clock]`
    pub clock: ClockKind,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Where clients ask for an access server.
    #[serde(with = "form::address")]
    pub listen: SocketAddr,
    /// How one is chosen.
    pub strategy: Strategy,
    /// How often the list is read again from the registry.
    #[serde(with = "form::duration")]
    pub refresh: Duration,
    /// A connection without a frame for so long is closed.
    #[serde(with = "form::duration")]
    pub idle: Duration,
}

/// How the gateway chooses an access server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Any, with equal chance.
    Random,
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest sessions.
    LeastSessions,
}

/// The list of `[[access]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessServers(pub Vec<AccessServer>);

/// One `[[access]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessServer {
    /// Its name in the registry.
    pub name: String,
    /// Where it listens.
    #[serde(with = "form::address")]
    pub listen: SocketAddr,
    /// What clients are told to dial, as host or host:port, where that is not the listening address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
}

/// `[registry]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// How long an access server stays listed after its last sign of life.
    #[serde(with = "form::duration")]
    pub lease: Duration,
    /// How often it gives one.
    #[serde(with = "form::duration")]
    pub heartbeat: Duration,
}

/// `[session]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// A connection to an access server has so long to log in.
    #[serde(with = "form::duration")]
    pub login_deadline: Duration,
    /// After the login, a connection without a frame for so long is closed.
    #[serde(with = "form::duration")]
    pub idle: Duration,
    /// A user counts as online for so long after the last login or ping.
    #[serde(with = "form::duration")]
    pub presence: Duration,
    /// A peer that takes nothing of what is written to it for so long is closed.
    #[serde(with = "form::duration")]
    pub write_deadline: Duration,
    /// A frame must be complete so long after its first byte.
    #[serde(with = "form::duration")]
    pub half_frame: Duration,
    /// What becomes of a session when its user logs in on another.
    pub second_login: SecondLogin,
    /// TCP keepalive: the idle time before the first probe.
    #[serde(with = "form::duration")]
    pub tcp_keepalive: Duration,
    /// TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged (Linux only).
    #[serde(with = "form::duration")]
    pub tcp_user_timeout: Duration,
}

/// What becomes of a session when its user logs in on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondLogin {
    /// The older session is told 93004 and closed.
    Close,
    /// The older session is served, but no longer notified: what the stack does.
    Demote,
    /// The newer login is refused with 93004.
    Refuse,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections in all, on every listener but the admin API's. The HTTP API has some more of its own. The open-file
    /// limit may allow fewer.
    pub connections: usize,
    /// Bytes of a frame before the login. After it, 65,535.
    #[serde(deserialize_with = "form::bytes")]
    pub frame_before_login: usize,
    /// Bytes of a message's text.
    #[serde(deserialize_with = "form::bytes")]
    pub message: usize,
    /// Bytes of a msgID.
    #[serde(deserialize_with = "form::bytes")]
    pub msg_id: usize,
    /// Members of a group.
    pub group_members: usize,
    /// Bytes that may wait to be written to one session.
    #[serde(deserialize_with = "form::bytes")]
    pub outbound: usize,
}

/// `[auth]`
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A token is the MD5 of the UID followed by this salt.
    pub salt: String,
    /// Whether users who never registered may log in, send and receive.
    pub auto_register: bool,
    /// How long a token from the HTTP API is good for.
    #[serde(with = "form::duration")]
    pub token_lifetime: Duration,
}

/// Without the salt, which may be a secret.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("auto_register", &self.auto_register)
            .field("token_lifetime", &self.token_lifetime)
            .finish_non_exhaustive()
    }
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The folder that everything is kept in; without one, it is kept in memory and gone with the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// When a message counts as stored.
    pub sync: SyncMode,
    /// Bytes of each kind of record that the folder's engine collects in memory before it writes a table.
    #[serde(deserialize_with = "form::bytes")]
    pub buffer: u64,
    /// With less room on the disk than so many bytes, sends are refused with 90001.
    #[serde(deserialize_with = "form::bytes")]
    pub min_free: u64,
    /// Entries older than this are removed.
    #[serde(
        with = "form::optional_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub keep: Option<Duration>,
    /// So many entries of an inbox are kept: the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_inbox: Option<u64>,
    /// Bytes that the memory store may hold; past it sends are refused with 90001.
    #[serde(deserialize_with = "form::bytes")]
    pub memory_limit: usize,
}

/// When a message counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    /// When the disk has it: it survives a power cut.
    Always,
    /// When the operating system has it: it survives the death of the process.
    Os,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where the user API listens.
    #[serde(with = "form::address")]
    pub user_listen: SocketAddr,
    /// Where the group API listens.
    #[serde(with = "form::address")]
    pub group_listen: SocketAddr,
    /// By what names the user API and the group API may be asked, as host or host:port. IP addresses, names
    /// without a dot and names under `localhost` need no listing.
    pub hosts: Vec<String>,
    /// Bytes of a request's body.
    #[serde(deserialize_with = "form::bytes")]
    pub body: usize,
    /// A request must have arrived, and be answered, in this time.
    #[serde(with = "form::duration")]
    pub timeout: Duration,
}

/// `[idgen]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Idgen {
    /// The machine number in snowflakes, 0 to 1023.
    pub machine: u16,
}

/// `[shutdown]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long sessions get to take what was written to them.
    #[serde(with = "form::duration")]
    pub grace: Duration,
}

/// `[journal]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// When frames are recorded.
    pub capture: Capture,
    /// So many events are kept, the newest.
    pub events: usize,
    /// Bytes that they may take, roughly.
    #[serde(deserialize_with = "form::bytes")]
    pub bytes: usize,
}

impl Journal {
    /// What it may hold.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            events: self.events,
            bytes: self.bytes,
        }
    }
}

/// `[clock]`: which kind of clock an `imd` makes at its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum ClockKind {
    /// The machine's clock.
    #[default]
    Real,
    /// A clock that moves only when it is told to.
    Manual,
}

impl ClockKind {
    /// Makes a new clock of this kind.
    pub fn build(self) -> Arc<dyn ClockControl> {
        match self {
            ClockKind::Real => Arc::new(RealClock::default()),
            ClockKind::Manual => Arc::new(ManualClock::default()),
        }
    }
}

impl Config {
    /// The defaults on free ports of the loopback interface, with the memory store and everything recorded: for tests.
    pub fn ephemeral() -> Self {
        let mut config = Config::default();
        config.any_port();
        config.journal.capture = Capture::Always;
        config
    }

    /// What the lab's choices by chance are made from. It does not fix in which order threads and sockets are served.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Has the stack make a [`ManualClock`] at its start, which stands still until [`Imd::clock`](crate::Imd::clock) is
    /// advanced.
    #[must_use]
    pub fn manual_clock(mut self) -> Self {
        self.clock = ClockKind::Manual;
        self
    }

    /// Lets every listener take a free port.
    pub fn any_port(&mut self) {
        self.gateway.listen.set_port(0);
        self.http.user_listen.set_port(0);
        self.http.group_listen.set_port(0);
        self.admin.listen.set_port(0);
        for server in &mut self.access.0 {
            server.listen.set_port(0);
        }
    }

    /// Reads and checks a config from TOML. `name` stands for the file in errors.
    ///
    /// # Errors
    ///
    /// What is wrong first, with key and line.
    pub fn from_toml(text: &str, name: &str) -> Result<Config, ConfigError> {
        let text = text::without_mark(text);
        let config: Config =
            toml::from_str(text).map_err(|error| ConfigError::from_toml(&error, text, name))?;
        config
            .check()
            .map_err(|invalid| ConfigError::invalid(invalid, text, name))?;
        Ok(config)
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// When it can't be read, or as [`from_toml`](Self::from_toml).
    pub fn from_file(path: &Path) -> Result<Config, ConfigError> {
        let name = path.display().to_string();
        let bytes = ConfigError::read_file(path)?;
        let text = text::read_lines(&bytes).map_err(|error| ConfigError::no_text(error, &name))?;
        Config::from_toml(text, &name)
    }

    /// The effective config as TOML.
    ///
    /// # Errors
    ///
    /// When a value can't be written as TOML; none of a checked config.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

//! Validates the values of a [`Config`], whether they come from a file, from a flag or from a program.
//!
//! Serves the start of the stack and the reading of a file. Each check reports the first wrong value with its dotted
//! key, and a message that says what is allowed.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Uri;

use super::error::{Invalid, ensure};
use super::{BadHost, Config, ConfigError, Host, SecondLogin};
use crate::codec::MAX_FRAME;
use crate::idgen::MAX_MACHINE;
use crate::lab::{GATEWAY, Site};

/// An upper bound of the size of a `ResSyncMsg` with one message, in bytes, without the text and the `msgID` of that
/// message.
const PAGE_OVERHEAD: usize = 256;

/// The least value of `limits.connections`: a client may have a connection to the gateway, one to an access server, and
/// one to the HTTP API.
pub const FEWEST_CONNECTIONS: usize = 3;

/// The longest duration that can be set. Sums with it overflow neither a timer nor Unix milliseconds.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The shortest time for which messages can be kept.
const MIN_KEEP: Duration = Duration::from_secs(1);

impl Config {
    /// Checks every value of the config.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] for the first wrong value, with its key and a message that says what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check().map_err(ConfigError::from)
    }

    /// Checks every value, and reports the first wrong one without its place in a file.
    ///
    /// # Errors
    ///
    /// The first wrong value: its key, and a message that says what is allowed.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        super::features::check(self)?;
        self.check_durations()?;
        self.check_roles()?;
        self.check_access()?;
        self.gateway.check_advertise_to()?;
        self.check_limits()?;
        self.check_listeners()?;
        self.check_store()?;
        self.tls.check()?;
        self.check_faults()?;
        self.check_hosts()?;
        self.http.check_cors_origins()?;
        self.check_admin()?;
        super::fixtures::check(
            &self.user,
            &self.group,
            self.limits.group_members,
            self.http.body,
        )?;
        self.check_quirks()?;
        ensure(
            self.registry.heartbeat < self.registry.lease,
            "registry.heartbeat",
            || {
                format!(
                    "must be less than registry.lease ({}), or leases run out between heartbeats",
                    humantime::format_duration(self.registry.lease)
                )
            },
        )?;
        ensure(self.idgen.machine <= MAX_MACHINE, "idgen.machine", || {
            format!("{} is more than {MAX_MACHINE}", self.idgen.machine)
        })
    }

    /// Checks the hosts of `admin.hosts` and `http.hosts`.
    fn check_hosts(&self) -> Result<(), Invalid> {
        let lists = [
            ("admin.hosts", &self.admin.hosts),
            ("http.hosts", &self.http.hosts),
        ];
        for (key, hosts) in lists {
            for (index, host) in hosts.iter().enumerate() {
                check_host(Host::parse(host), &format!("{key}.{index}"))?;
            }
        }
        Ok(())
    }

    /// Checks that the admin API's token can be sent in a header, and that there is one unless the API is on loopback.
    fn check_admin(&self) -> Result<(), Invalid> {
        let token = self.admin.token.as_ref();
        ensure(
            token.is_none_or(|token| !token.expose().is_empty()),
            "admin.token",
            || "is empty: set one that nobody guesses, or leave the key out".into(),
        )?;
        // A request carries the token in a header, which could not hold any other byte.
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        ensure(
            token.is_none_or(|token| is_visible(token.expose())),
            "admin.token",
            || {
                "has a blank, a control character or a letter that is not ASCII: no request could bear it".into()
            },
        )?;
        let is_open = self.admin.enabled && !self.admin.listen.ip().is_loopback();
        ensure(token.is_some() || !is_open, "admin.listen", || {
            format!(
                "{} can be reached from other machines, and the admin API can stop servers: set admin.token, or listen on \
                 loopback",
                self.admin.listen
            )
        })
    }

    /// Checks each fault, and that no two of them have the same name.
    fn check_faults(&self) -> Result<(), Invalid> {
        let mut names = HashSet::new();
        let servers = self.access.0.iter().map(|server| server.name.clone());
        let servers: Vec<String> = servers.collect();
        for fault in &self.fault {
            let wrong = fault.check().and_then(|()| fault.check_access(&servers));
            let wrong = wrong.err();
            ensure(wrong.is_none(), "fault", || {
                wrong.map(|error| error.to_string()).unwrap_or_default()
            })?;
            let is_new = fault.name().is_none_or(|name| names.insert(name));
            ensure(is_new, "fault.name", || {
                let name = fault.name().unwrap_or_default();
                format!("{name:?} stands for two faults")
            })?;
        }
        Ok(())
    }

    /// Checks that durations are positive and short enough for their use.
    fn check_durations(&self) -> Result<(), Invalid> {
        let durations = [
            ("gateway.refresh", self.gateway.refresh),
            ("gateway.idle", self.gateway.idle),
            ("registry.lease", self.registry.lease),
            ("registry.heartbeat", self.registry.heartbeat),
            ("session.login_deadline", self.session.login_deadline),
            ("session.idle", self.session.idle),
            ("session.presence", self.session.presence),
            ("session.write_deadline", self.session.write_deadline),
            ("session.half_frame", self.session.half_frame),
            ("session.tcp_keepalive", self.session.tcp_keepalive),
            ("session.tcp_user_timeout", self.session.tcp_user_timeout),
            ("auth.token_lifetime", self.auth.token_lifetime),
            ("http.timeout", self.http.timeout),
            ("shutdown.grace", self.shutdown.grace),
        ];
        for (key, value) in durations {
            ensure(value >= Duration::from_millis(1), key, || {
                "must be at least 1ms".into()
            })?;
            ensure(value <= MAX_DURATION, key, || {
                "must be at most 100 years".into()
            })?;
        }
        // Unlike the durations above, it may be zero.
        ensure(
            self.session.first_notify <= MAX_DURATION,
            "session.first_notify",
            || {
                "must be at most 100 years; 0s sends the Notify right behind the login's reply"
                    .into()
            },
        )?;
        let keepalive = self.session.tcp_keepalive;
        // The kernel takes the time as whole seconds, and no more than 32,767 of them.
        ensure(
            (Duration::from_secs(1)..=Duration::from_secs(32_767)).contains(&keepalive),
            "session.tcp_keepalive",
            || "must be from 1s to 32767s".into(),
        )?;
        ensure(
            self.session.tcp_user_timeout <= Duration::from_millis(i32::MAX.unsigned_abs().into()),
            "session.tcp_user_timeout",
            || "must be at most 24 days".into(),
        )
    }

    /// Checks the table `[store]`, except for `store.memory_limit`.
    fn check_store(&self) -> Result<(), Invalid> {
        let store = &self.store;
        let wrong = store.folder().err();
        ensure(wrong.is_none(), "store.path", || wrong.unwrap_or_default())?;
        ensure(
            (1 << 16..=1 << 30).contains(&store.buffer),
            "store.buffer",
            || format!("{} must be from {} to {}", store.buffer, 1 << 16, 1 << 30),
        )?;
        ensure(
            store.keep.is_none_or(|keep| keep >= MIN_KEEP),
            "store.keep",
            || "must be at least 1s".into(),
        )?;
        ensure(
            store.keep.is_none_or(|keep| keep <= MAX_DURATION),
            "store.keep",
            || "must be at most 100 years".into(),
        )?;
        ensure(store.max_inbox != Some(0), "store.max_inbox", || {
            "must be at least 1".into()
        })
    }

    /// Checks that the quirks do not contradict each other or `session.second_login`.
    fn check_quirks(&self) -> Result<(), Invalid> {
        let quirks = &self.quirks;
        ensure(
            quirks.notify_gap <= MAX_DURATION,
            "quirks.notify_gap",
            || "must be at most 100 years".into(),
        )?;
        ensure(
            quirks.notify_gap.is_zero() || quirks.notify_before_store,
            "quirks.notify_gap",
            || "does nothing without quirks.notify_before_store = true".into(),
        )?;
        // `close` is no contradiction: it is the default, so the user has not asked for it.
        let refuses = self.session.second_login == SecondLogin::Refuse;
        ensure(
            !(quirks.old_session_stays_open && refuses),
            "quirks.old_session_stays_open",
            || "means session.second_login = \"demote\", but that is \"refuse\"".into(),
        )
    }

    /// Checks the names of the access servers, and the addresses that clients are told.
    fn check_access(&self) -> Result<(), Invalid> {
        let servers = &self.access.0;
        let mut names = HashSet::new();
        for (index, server) in servers.iter().enumerate() {
            let name = &server.name;
            let key = format!("access.{index}.name");
            check_server_name(name, &key)?;
            ensure(names.insert(name), &key, || {
                format!("{name:?} is there twice")
            })?;
            if let Some(advertise) = &server.advertise {
                check_host(
                    Host::dialable(advertise),
                    &format!("access.{index}.advertise"),
                )?;
            }
            if let Some(url) = &server.ws_advertise {
                let key = format!("access.{index}.ws_advertise");
                check_websocket_url(url, &key)?;
                ensure(server.ws_listen.is_some(), &key, || {
                    "does nothing without ws_listen, the address on which the server takes WebSocket clients".into()
                })?;
            }
        }
        Ok(())
    }

    /// Checks the ranges of sizes and counts, and that the longest message fits a frame.
    fn check_limits(&self) -> Result<(), Invalid> {
        let limits = &self.limits;
        let ranges = [
            ("limits.connections", limits.connections, 1, 1 << 20),
            (
                "limits.frame_before_login",
                limits.frame_before_login,
                128,
                MAX_FRAME,
            ),
            ("limits.message", limits.message, 1, MAX_FRAME),
            ("limits.msg_id", limits.msg_id, 20, 32 * 1024),
            ("limits.group_members", limits.group_members, 1, 1 << 20),
            ("limits.outbound", limits.outbound, 2 * MAX_FRAME, 1 << 30),
            (
                "store.memory_limit",
                self.store.memory_limit,
                1 << 16,
                isize::MAX.unsigned_abs(),
            ),
            ("http.body", self.http.body, 256, 1 << 30),
        ];
        for (key, value, min, max) in ranges {
            ensure((min..=max).contains(&value), key, || {
                format!("{value} must be from {min} to {max}")
            })?;
        }
        ensure(
            limits.connections >= FEWEST_CONNECTIONS,
            "limits.connections",
            || {
                format!(
                    "{} is too few: at least {FEWEST_CONNECTIONS} are needed, for the gateway, an access server and the HTTP \
                     API",
                    limits.connections
                )
            },
        )?;
        ensure(
            limits.message + limits.msg_id + PAGE_OVERHEAD <= MAX_FRAME,
            "limits.message",
            || {
                format!(
                    "{} and limits.msg_id {} do not fit one frame together: at most {}",
                    limits.message,
                    limits.msg_id,
                    MAX_FRAME - PAGE_OVERHEAD
                )
            },
        )
    }

    /// Checks that no two listeners have the same address, and that link-local addresses have a zone.
    fn check_listeners(&self) -> Result<(), Invalid> {
        let listeners = self.listeners();
        for (index, (key, addr)) in listeners.iter().enumerate() {
            ensure(!lacks_zone(*addr), key, || {
                format!(
                    "{addr} is link-local and needs its zone, the number of the interface: [{}%2]:{}",
                    addr.ip(),
                    addr.port()
                )
            })?;
            let before = listeners.iter().take(index);
            if let Some((rival, _)) = before.into_iter().find(|(_, other)| clash(*addr, *other)) {
                let message = format!("{addr} is also taken by");
                let (key, rival) = (key.clone(), Some(rival.clone()));
                return Err(Invalid {
                    key,
                    message,
                    rival,
                });
            }
        }
        Ok(())
    }
}

/// The longest name of an access server, in bytes. The name is shown in labels, paths and lines of a terminal.
const MAX_SERVER_NAME: usize = 64;

/// Checks the name of an access server. It must be a segment of a path of the admin API, and must differ from the names
/// of the gateway and of the sites of faults, which occur in the same places of the journal.
fn check_server_name(name: &str, key: &str) -> Result<(), Invalid> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ensure(
        !name.is_empty() && name.chars().all(is_allowed),
        key,
        || format!("{name:?} must be letters, digits, '-', '_' and '.' only"),
    )?;
    ensure(name.len() <= MAX_SERVER_NAME, key, || {
        format!(
            "{name:?} has {} bytes, at most {MAX_SERVER_NAME}",
            name.len()
        )
    })?;
    ensure(
        name.starts_with(|c: char| c.is_ascii_alphanumeric()),
        key,
        || format!("{name:?} must begin with a letter or a digit"),
    )?;
    let reserved = Site::ALL.map(Site::name);
    let mut reserved = reserved.iter().chain([&GATEWAY]);
    ensure(
        !reserved.any(|reserved| name.eq_ignore_ascii_case(reserved)),
        key,
        || format!("{name:?} stands for a part of imd that is no access server: give another name"),
    )
}

/// Returns whether an address is link-local, and so is valid on one network interface only, but does not name the
/// interface.
fn lacks_zone(addr: SocketAddr) -> bool {
    match addr {
        SocketAddr::V6(addr) => addr.ip().is_unicast_link_local() && addr.scope_id() == 0,
        SocketAddr::V4(_) => false,
    }
}

/// Returns whether two listeners can't both listen on these addresses.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

/// Checks the URL that WebSocket clients are told.
fn check_websocket_url(url: &str, key: &str) -> Result<(), Invalid> {
    let uri = url.parse::<Uri>().ok();
    let is_websocket = |uri: &Uri| matches!(uri.scheme_str(), Some("ws" | "wss"));
    let authority = uri
        .filter(is_websocket)
        .and_then(|uri| uri.into_parts().authority);
    let Some(authority) = authority else {
        let message = format!("{url:?} is no URL such as \"wss://im.example.org/ws\"");
        return ensure(false, key, || message);
    };
    check_host(Host::dialable(authority.as_str()), key)
}

/// Converts the error of parsing a host into that of the key which holds it.
fn check_host(parsed: Result<Host, BadHost>, key: &str) -> Result<(), Invalid> {
    let why = parsed.err().map(|bad| bad.to_string());
    ensure(why.is_none(), key, || why.unwrap_or_default())
}

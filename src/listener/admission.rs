//! Limits the number of connections, by permits that a connection holds as long as it lives.
//!
//! Serves the accept loop. A connection takes an open file, and so do listeners, the admin API and the store. Their files
//! are set aside at the start, so that a stack which has started never fails because no file is left.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{raise_file_limit, set_user_timeout};
use crate::config::Config;
use crate::store;

/// How many connections the admin API may have. They are its own, so that it answers whatever clients do.
pub const ADMIN_CONNECTIONS: usize = 64;

/// How many further connections of the admin API are reserved for probes, so that a probe is answered also when clients
/// hold all others.
const RESERVED_CONNECTIONS: usize = 8;

/// How many connections the HTTP API may have in addition to those that it shares with the sessions.
const HTTP_CONNECTIONS: usize = 16;

/// How many files are open whatever is served: stdin, stdout and stderr, those of the runtime, and those that are read or
/// written for a moment.
const OTHER_FILES: u64 = 32;

/// How many files a listener takes: its own, and that of a connection which waits for a permit.
const FILES_OF_LISTENER: u64 = 2;

/// The lowest number of connections with which a stack starts. A client keeps one at the gateway and one at an access
/// server, and uses the HTTP API.
const FEWEST: usize = crate::config::FEWEST_CONNECTIONS;

/// The number of connections below which a warning is logged, since a few clients take them all.
const USEFUL: usize = 64;

/// The error that the open-file limit leaves too few connections.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the open-file limit is {limit}, and this stack needs {needed} at least: {kept} files for listeners, admin API and store, \
     and {FEWEST} connections (gateway, access server, HTTP API). Raise it: ulimit -n {useful}, LimitNOFILE={useful} (systemd) \
     or --ulimit nofile={useful} (docker)"
)]
pub struct TooFewFiles {
    /// The open-file limit, raised as far as the system allows.
    pub limit: u64,
    /// The lowest limit with which the stack would start.
    pub needed: u64,
    kept: u64,
    useful: u64,
}

/// How many connections of the gateway, the access servers and the HTTP API there may be, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The limit of connections at one time.
    pub places: usize,
    /// The number of connections at the moment.
    pub taken: usize,
    /// The open-file limit, if that is why there may be no more.
    pub file_limit: Option<u64>,
}

impl Room {
    /// Returns whether a new connection has to wait until another one is closed.
    pub fn is_full(&self) -> bool {
        self.taken >= self.places
    }

    /// Returns whether a few clients take all connections.
    pub fn is_small(&self) -> bool {
        self.places < USEFUL
    }
}

/// Displays the limit, its reason, and how to raise it.
impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.places;
        match self.file_limit {
            Some(limit) => {
                let more = USEFUL.saturating_sub(places);
                let useful = limit.saturating_add(u64::try_from(more).unwrap_or_default());
                write!(
                    f,
                    "{places} connections at most, since the open-file limit is {limit}: raise it (ulimit -n {useful} or more)"
                )
            }
            None => write!(
                f,
                "{places} connections at most: limits.connections allows no more"
            ),
        }
    }
}

/// The permits that some listeners share.
#[derive(Debug)]
struct PermitPool {
    free: Arc<Semaphore>,
    total: usize,
    file_limit: Option<u64>,
}

/// Gives out the permits of a listener. The listeners of one `imd` share theirs, except that of the admin API.
#[derive(Debug, Clone)]
pub struct Admission {
    permits: Arc<PermitPool>,
    /// Permits of the HTTP listeners alone, which are given out when the shared ones are taken.
    own: Option<Arc<Semaphore>>,
    /// Permits for probes, given out when all others are taken.
    reserve: Option<Reserve>,
    /// Whether the last connection had to wait for its permit, which is logged once and not for each connection.
    crowded: Arc<AtomicBool>,
    keepalive: Duration,
    user_timeout: Duration,
}

impl Admission {
    /// Raises the open-file limit as far as the system allows, and derives the number of connections from it.
    ///
    /// # Errors
    ///
    /// [`TooFewFiles`], when that leaves too few connections to serve a client.
    pub fn new(config: &Config) -> Result<Self, TooFewFiles> {
        let limit = raise_file_limit();
        let kept = kept_files(config, limit);
        let from_files = usize::try_from(limit.saturating_sub(kept)).unwrap_or(usize::MAX);
        if from_files < FEWEST {
            return Err(too_few(limit, kept));
        }
        let total = config.limits.connections.min(from_files);
        let total = total.min(Semaphore::MAX_PERMITS);
        let file_limit = (total < config.limits.connections).then_some(limit);
        let admission = Admission {
            permits: Arc::new(PermitPool {
                free: Arc::new(Semaphore::new(total)),
                total,
                file_limit,
            }),
            own: None,
            reserve: None,
            crowded: Arc::default(),
            keepalive: config.session.tcp_keepalive,
            user_timeout: config.session.tcp_user_timeout,
        };
        let room = admission.room();
        if room.is_small() {
            tracing::warn!("{room}");
        } else if file_limit.is_some() {
            tracing::info!("{room}");
        }
        Ok(admission)
    }

    /// Returns the admission of the HTTP API, which has some permits of its own beside the shared ones. Sessions can't take
    /// those.
    #[must_use]
    pub fn for_http(&self) -> Self {
        Admission {
            own: Some(Arc::new(Semaphore::new(HTTP_CONNECTIONS))),
            crowded: Arc::default(),
            ..self.clone()
        }
    }

    /// Returns the admission of the admin API, which shares no permits, and has some that are reserved for probes.
    #[must_use]
    pub fn for_admin(&self) -> Self {
        let total = ADMIN_CONNECTIONS;
        Admission {
            permits: Arc::new(PermitPool {
                free: Arc::new(Semaphore::new(total)),
                total,
                file_limit: None,
            }),
            own: None,
            reserve: Some(Reserve::default()),
            crowded: Arc::default(),
            ..self.clone()
        }
    }

    /// Returns how many connections there may be, and how many there are.
    pub fn room(&self) -> Room {
        let PermitPool {
            free,
            total,
            file_limit,
        } = &*self.permits;
        Room {
            places: *total,
            taken: total.saturating_sub(free.available_permits()),
            file_limit: *file_limit,
        }
    }

    /// Waits for a permit of the listener at `addr`. Returns `None` only if the semaphore is closed, which never happens.
    pub(super) async fn permit(&self, addr: SocketAddr) -> Option<ConnectionPermit> {
        let usual = |permit| ConnectionPermit {
            _permit: permit,
            is_reserved: false,
            eviction: self.reserve.as_ref().map(Reserve::eviction),
        };
        let shared = &self.permits.free;
        let own = self.own.as_ref();
        let at_once = std::iter::once(shared)
            .chain(own)
            .find_map(|permits| Arc::clone(permits).try_acquire_owned().ok());
        if let Some(permit) = at_once {
            self.crowded.store(false, Ordering::Relaxed);
            return Some(usual(permit));
        }
        if !self.crowded.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                listener = %addr,
                places = self.permits.total,
                "as many connections as there may be: new ones {}",
                match self.reserve {
                    Some(_) => "are answered probes only",
                    None => "wait",
                }
            );
        }
        tokio::select! {
            permit = Arc::clone(shared).acquire_owned() => permit.ok().map(usual),
            Some(permit) = acquire(own) => Some(usual(permit)),
            Some(permit) = reserved(self.reserve.as_ref()) => Some(permit),
        }
    }

    /// Sets the socket options that every connection has.
    pub(super) fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(self.keepalive))?;
        set_user_timeout(&socket, self.user_timeout)
    }
}

/// A few permits that are given out when all others are taken. When these are taken too, older connections are asked to
/// give way.
#[derive(Debug, Clone)]
struct Reserve {
    free: Arc<Semaphore>,
    eviction: Arc<Eviction>,
}

impl Reserve {
    fn eviction(&self) -> Arc<Eviction> {
        Arc::clone(&self.eviction)
    }
}

impl Default for Reserve {
    fn default() -> Self {
        Reserve {
            free: Arc::new(Semaphore::new(RESERVED_CONNECTIONS)),
            eviction: Arc::default(),
        }
    }
}

/// Asks older connections to give way to a newer one. Shared by all connections of a listener that has a reserve.
#[derive(Debug, Default)]
struct Eviction {
    /// Tells the connection that has waited for this the longest, so the oldest one, that its permit is wanted.
    wanted: Notify,
    /// Whether a newer connection waits for a permit. A notification that comes when none waits any more is ignored.
    is_waiting: AtomicBool,
}

impl Eviction {
    /// Asks the oldest connection, and notes until the guard is dropped that a newer one waits.
    fn ask(&self) -> Waiting<'_> {
        self.is_waiting.store(true, Ordering::Release);
        self.wanted.notify_one();
        Waiting(self)
    }
}

/// Ends the wait of a newer connection when it is dropped.
struct Waiting<'a>(&'a Eviction);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.is_waiting.store(false, Ordering::Release);
    }
}

async fn acquire(permits: Option<&Arc<Semaphore>>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(permits?).acquire_owned().await.ok()
}

/// Waits for a permit of the reserve. If none is free, older connections are asked to give way.
async fn reserved(reserve: Option<&Reserve>) -> Option<ConnectionPermit> {
    let reserve = reserve?;
    let at_once = Arc::clone(&reserve.free).try_acquire_owned().ok();
    let permit = match at_once {
        Some(permit) => permit,
        None => {
            let _waiting = reserve.eviction.ask();
            acquire(Some(&reserve.free)).await?
        }
    };
    Some(ConnectionPermit {
        _permit: permit,
        is_reserved: true,
        eviction: Some(reserve.eviction()),
    })
}

/// The right to hold one connection, given back when it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    is_reserved: bool,
    /// Set if the connection may be asked to give way.
    eviction: Option<Arc<Eviction>>,
}

impl ConnectionPermit {
    /// Returns whether this is one of the permits that are reserved for probes.
    pub fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// Waits until this connection is asked to give way: a newer one waits for a permit, and no other connection has waited
    /// in this function for longer. Never resolves on a listener without a reserve.
    ///
    /// The connection has to give way then, or to [pass the request on](Self::pass_on).
    pub async fn wanted(&self) {
        let Some(eviction) = &self.eviction else {
            return pending().await;
        };
        loop {
            eviction.wanted.notified().await;
            if eviction.is_waiting.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Asks the next older connection to give way, in the place of this one.
    pub fn pass_on(&self) {
        if let Some(eviction) = &self.eviction {
            eviction.wanted.notify_one();
        }
    }
}

/// Returns how many files are set aside for everything but the connections of clients.
fn kept_files(config: &Config, limit: u64) -> u64 {
    let count = |files: usize| u64::try_from(files).unwrap_or(u64::MAX);
    let admin = match config.admin.enabled {
        true => count(ADMIN_CONNECTIONS + RESERVED_CONNECTIONS),
        false => 0,
    };
    let listeners = count(config.listeners().len());
    let store = match config.store.path {
        Some(_) => store::files(limit),
        None => 0,
    };
    OTHER_FILES + FILES_OF_LISTENER * listeners + admin + count(HTTP_CONNECTIONS) + store
}

fn too_few(limit: u64, kept: u64) -> TooFewFiles {
    let with = |places: usize| kept.saturating_add(u64::try_from(places).unwrap_or_default());
    TooFewFiles {
        limit,
        needed: with(FEWEST),
        kept,
        useful: with(USEFUL).next_power_of_two(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ADDR: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    #[tokio::test]
    async fn a_reserved_permit_goes_to_a_newer_connection() {
        let admission = Admission::new(&Config::default()).unwrap().for_admin();
        let mut usual = Vec::new();
        for _ in 0..ADMIN_CONNECTIONS {
            usual.push(admission.permit(ADDR).await.unwrap());
        }
        assert!(!usual.iter().any(ConnectionPermit::is_reserved));
        let mut reserved = std::collections::VecDeque::new();
        for _ in 0..RESERVED_CONNECTIONS {
            reserved.push_back(admission.permit(ADDR).await.unwrap());
        }
        assert!(reserved.iter().all(ConnectionPermit::is_reserved));
        // Two connections wait to be asked: the older one is asked first, and passes it on.
        let oldest = usual.remove(0);
        let mut oldest_wanted = Box::pin(oldest.wanted());
        assert!(
            (&mut oldest_wanted).now_or_never().is_none(),
            "nobody waits"
        );
        let next = reserved.pop_front().unwrap();
        let mut next_wanted = Box::pin(next.wanted());
        assert!((&mut next_wanted).now_or_never().is_none(), "nobody waits");
        let mut newer = Box::pin(admission.permit(ADDR));
        assert!((&mut newer).now_or_never().is_none(), "no permit is free");
        oldest_wanted.now_or_never().expect("it is asked at once");
        assert!((&mut next_wanted).now_or_never().is_none(), "one is enough");
        oldest.pass_on();
        next_wanted.now_or_never().expect("it is asked at once");
        drop(next);
        assert!(newer.await.unwrap().is_reserved());
        // It was passed on once too often, and nobody waits any more.
        oldest.pass_on();
        assert!(usual[0].wanted().now_or_never().is_none());
        // The permit of a usual connection is as good.
        let _reserved = admission.permit(ADDR).await.unwrap();
        let mut newer = Box::pin(admission.permit(ADDR));
        assert!((&mut newer).now_or_never().is_none(), "no permit is free");
        let asked = oldest.wanted().now_or_never();
        asked.expect("it is asked at once");
        drop(oldest);
        let newer = newer.await.unwrap();
        assert!(!newer.is_reserved());
        // A connection that arrives when a usual permit is free gets that one.
        usual.pop();
        assert!(!admission.permit(ADDR).await.unwrap().is_reserved());
    }
}

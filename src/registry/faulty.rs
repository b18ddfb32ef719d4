//! A registry that misleads its users, for tests of what they do then.
//!
//! Serves the lab: the handle of a stack, the admin API and a reset control it. The gateway and the access servers of
//! every stack use their registry through it. Until it is told to mislead, it answers what the registry behind it
//! answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use parking_lot::Mutex;

use super::{Lease, Record, Registry, RenewError, Unreachable, key};
use crate::clock::Clock;
use crate::config::{BadHost, Host};

/// Stands in front of a registry, and answers as that one does until it is told to mislead.
///
/// Its list can be [frozen](Self::freeze), it can [advertise](Self::advertise) wrong addresses, it can
/// [lose](Self::expire) a lease early, and it can be [unreachable](Self::disconnect). The gateway reads the list once
/// in `gateway.refresh`, so its clients notice a change by then.
///
/// The registry behind it keeps the records. This one knows only the leases that were registered through it.
#[derive(Debug)]
pub struct FaultyRegistry {
    inner: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    /// The lock is never held over a call of the inner registry.
    state: Mutex<State>,
}

/// How the registry misleads, and what it needs to know for that.
#[derive(Debug, Default)]
struct State {
    /// The leases that were given out through this registry and have not run out, by key.
    leases: BTreeMap<String, KnownLease>,
    /// The addresses that readers are given in place of those in the records, by key.
    advertised: BTreeMap<String, String>,
    /// The list as it was when it was frozen.
    frozen: Option<Vec<Record>>,
    /// The list that a reader was given last.
    last_list: Vec<Record>,
    is_disconnected: bool,
}

/// A lease that was registered through this registry.
#[derive(Debug)]
struct KnownLease {
    name: String,
    id: u64,
    /// When the lease runs out in the inner registry, in the time of the clock.
    expires: Duration,
    /// Whether the lease counts as lost, although the inner registry still holds it.
    is_lost: bool,
}

impl State {
    /// Checks that the registry is not disconnected.
    fn check_reachable(&self) -> Result<(), Unreachable> {
        if self.is_disconnected {
            return Err(Unreachable::new("a test has disconnected it"));
        }
        Ok(())
    }

    /// Changes the records of the inner registry into those that a reader is given, and remembers them.
    fn falsify(&mut self, mut records: Vec<Record>, now: Duration) -> Vec<Record> {
        self.leases.retain(|_, lease| now < lease.expires);
        records.retain(|record| {
            let lease = self.leases.get(&record.key());
            lease.is_none_or(|lease| !lease.is_lost)
        });
        for record in &mut records {
            if let Some(addr) = self.advertised.get(&record.key()) {
                record.addr.clone_from(addr);
            }
        }
        self.last_list.clone_from(&records);
        records
    }

    fn known(&mut self, lease: &Lease) -> Option<&mut KnownLease> {
        let known = self.leases.get_mut(&lease.key);
        known.filter(|known| known.id == lease.id)
    }

    fn forget(&mut self, lease: &Lease) {
        if self.known(lease).is_some() {
            self.leases.remove(&lease.key);
        }
    }
}

impl FaultyRegistry {
    /// Creates a registry in front of `inner` that does not mislead yet. `clock` has to be the one by which the leases
    /// of `inner` run out.
    pub fn new(inner: Arc<dyn Registry>, clock: Arc<dyn Clock>) -> Self {
        FaultyRegistry {
            inner,
            clock,
            state: Mutex::default(),
        }
    }

    /// Returns the records that a reader of the registry is given now. Returns none while the registry is unreachable;
    /// [`Registry::list`] returns that as an error.
    pub async fn list(&self) -> Vec<Record> {
        Registry::list(self).await.unwrap_or_default()
    }

    /// Freezes the list: from now on readers are given the list of this moment, so that the gateway keeps its last one.
    /// Meanwhile leases are registered and renewed, and run out. Freezing a frozen list changes nothing.
    ///
    /// A registry in another process can't be asked without waiting. In front of such a one, the list that a reader was
    /// given last is frozen.
    pub fn freeze(&self) {
        let records = self.inner.list().now_or_never();
        let now = self.clock.now();
        let mut state = self.state.lock();
        if state.frozen.is_some() {
            return;
        }
        let list = match records {
            Some(Ok(records)) => state.falsify(records, now),
            _ => state.last_list.clone(),
        };
        state.frozen = Some(list);
    }

    /// Ends a [`freeze`](Self::freeze). Without one, nothing happens.
    pub fn thaw(&self) {
        self.state.lock().frozen = None;
    }

    /// Returns whether the list is frozen.
    pub fn is_frozen(&self) -> bool {
        self.state.lock().frozen.is_some()
    }

    /// Ends the lease of an access server at once, and returns whether there was one. A running server learns of it at
    /// its next heartbeat, and registers anew.
    pub fn expire(&self, name: &str) -> bool {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let lease = state.leases.get_mut(&key(name));
        let Some(lease) = lease.filter(|lease| !lease.is_lost && now < lease.expires) else {
            return false;
        };
        lease.is_lost = true;
        true
    }

    /// Returns the leases that are held, whether or not the list is frozen: the name of each access server, and how
    /// long its lease lasts without another heartbeat.
    pub fn leases(&self) -> Vec<(String, Duration)> {
        let now = self.clock.now();
        let state = self.state.lock();
        let held = state.leases.values();
        let held = held.filter(|lease| !lease.is_lost && now < lease.expires);
        held.map(|lease| (lease.name.clone(), lease.expires.saturating_sub(now)))
            .collect()
    }

    /// Gives readers `addr`, a host:port, as the address of an access server, whatever the server itself has
    /// registered, until [`advertise_itself`](Self::advertise_itself). The server need not be registered yet, and may
    /// register again. Nobody has to listen at the address.
    ///
    /// # Errors
    ///
    /// [`BadHost`], when the text is no address that a client can dial. Nothing has changed then.
    pub fn advertise(&self, name: &str, addr: impl fmt::Display) -> Result<(), BadHost> {
        let addr = addr.to_string();
        Host::address(&addr)?;
        self.state.lock().advertised.insert(key(name), addr);
        Ok(())
    }

    /// Ends an [`advertise`](Self::advertise): readers are given the address that the access server has registered.
    pub fn advertise_itself(&self, name: &str) {
        self.state.lock().advertised.remove(&key(name));
    }

    /// Makes the registry unreachable, for access servers and gateway alike: every call fails until
    /// [`reconnect`](Self::reconnect). Meanwhile leases run out. Disconnecting twice is as disconnecting once.
    pub fn disconnect(&self) {
        self.state.lock().is_disconnected = true;
    }

    /// Ends a [`disconnect`](Self::disconnect). Without one, nothing happens.
    pub fn reconnect(&self) {
        self.state.lock().is_disconnected = false;
    }

    /// Ends every [`freeze`](Self::freeze), [`advertise`](Self::advertise) and [`disconnect`](Self::disconnect). A
    /// lease that was lost stays lost.
    pub fn tell_the_truth(&self) {
        let mut state = self.state.lock();
        state.frozen = None;
        state.advertised.clear();
        state.is_disconnected = false;
    }
}

#[async_trait]
impl Registry for FaultyRegistry {
    async fn register(&self, record: Record, ttl: Duration) -> Result<Lease, Unreachable> {
        self.state.lock().check_reachable()?;
        let name = record.name.clone();
        // The time is read before the call, since the lease runs from some moment during the call.
        let expires = self.clock.now() + ttl;
        let lease = self.inner.register(record, ttl).await?;
        let known = KnownLease {
            name,
            id: lease.id,
            expires,
            is_lost: false,
        };
        self.state.lock().leases.insert(lease.key.clone(), known);
        Ok(lease)
    }

    async fn renew(&self, lease: &Lease, record: Record, ttl: Duration) -> Result<(), RenewError> {
        let is_lost = {
            let mut state = self.state.lock();
            state.check_reachable()?;
            state.known(lease).is_some_and(|known| known.is_lost)
        };
        if is_lost {
            self.revoke(lease).await?;
            return Err(RenewError::LeaseLost);
        }
        let expires = self.clock.now() + ttl;
        let renewed = self.inner.renew(lease, record, ttl).await;
        let mut state = self.state.lock();
        match renewed {
            Ok(()) => {
                if let Some(known) = state.known(lease) {
                    known.expires = expires;
                }
            }
            Err(RenewError::LeaseLost) => state.forget(lease),
            Err(RenewError::Unreachable(_)) => {}
        }
        renewed
    }

    async fn revoke(&self, lease: &Lease) -> Result<(), Unreachable> {
        self.state.lock().check_reachable()?;
        self.inner.revoke(lease).await?;
        self.state.lock().forget(lease);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Record>, Unreachable> {
        {
            let state = self.state.lock();
            state.check_reachable()?;
            if let Some(frozen) = &state.frozen {
                return Ok(frozen.clone());
            }
        }
        let records = self.inner.list().await?;
        let now = self.clock.now();
        Ok(self.state.lock().falsify(records, now))
    }
}

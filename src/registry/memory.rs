use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Lease, LeaseLost, Record, Registry, key};
use crate::clock::Clock;
use crate::config::{BadHost, Host};

/// The registry of one process. Leases run out by the clock when someone looks: no task watches them.
///
/// What those who read it are told can be [frozen](Self::freeze) and [bent](Self::advertise), and a lease can be
/// [ended](Self::expire) early. The gateway reads it once in `gateway.refresh`, so its clients notice by then.
#[derive(Debug)]
pub struct MemoryRegistry {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_lease: u64,
    /// By key.
    entries: BTreeMap<String, Entry>,
    /// What is told instead of the address in the record, by key.
    advertised: BTreeMap<String, String>,
    /// What the list was when it was frozen.
    frozen: Option<Vec<Record>>,
}

impl State {
    fn list(&mut self, now: Duration) -> Vec<Record> {
        self.entries.retain(|_, entry| now < entry.expires);
        let told = |(key, entry): (&String, &Entry)| {
            let mut record = entry.record.clone();
            if let Some(addr) = self.advertised.get(key) {
                record.addr.clone_from(addr);
            }
            record
        };
        self.entries.iter().map(told).collect()
    }
}

#[derive(Debug)]
struct Entry {
    record: Record,
    lease: u64,
    expires: Duration,
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        MemoryRegistry {
            clock,
            state: Mutex::default(),
        }
    }

    /// From now on the list answers what it is at this moment, so that the gateway keeps its last one. Underneath,
    /// leases are registered and renewed, and run out. Frozen again, it stays what it was at first.
    pub fn freeze(&self) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        if state.frozen.is_none() {
            let list = state.list(now);
            state.frozen = Some(list);
        }
    }

    /// From now on the list answers what is true. Nothing happens to one that is not frozen.
    pub fn thaw(&self) {
        self.state.lock().frozen = None;
    }

    /// Whether the list is frozen.
    pub fn is_frozen(&self) -> bool {
        self.state.lock().frozen.is_some()
    }

    /// Ends the lease of an access server at once; says whether there was one. A server that runs learns it at its next
    /// heartbeat, and registers again.
    pub fn expire(&self, name: &str) -> bool {
        let now = self.clock.now();
        let entry = self.state.lock().entries.remove(&key(name));
        entry.is_some_and(|entry| now < entry.expires)
    }

    /// The leases that have not run out, frozen or not: whose each is, and how long it has left.
    pub fn leases(&self) -> Vec<(String, Duration)> {
        let now = self.clock.now();
        let state = self.state.lock();
        let live = state.entries.values().filter(|entry| now < entry.expires);
        live.map(|entry| (entry.record.name.clone(), entry.expires.saturating_sub(now)))
            .collect()
    }

    /// Tells clients to dial `addr`, a host:port, for an access server, whatever it says of itself, until
    /// [`advertise_itself`](Self::advertise_itself). It need not be registered yet, and may register again. Nobody has to
    /// listen at the address.
    ///
    /// # Errors
    ///
    /// When nobody can dial that. Then nothing has changed.
    pub fn advertise(&self, name: &str, addr: impl fmt::Display) -> Result<(), BadHost> {
        let addr = addr.to_string();
        Host::address(&addr)?;
        self.state.lock().advertised.insert(key(name), addr);
        Ok(())
    }

    /// Tells clients to dial what the access server says of itself: the end of [`advertise`](Self::advertise).
    pub fn advertise_itself(&self, name: &str) {
        self.state.lock().advertised.remove(&key(name));
    }

    /// Tells what is so from now on: the end of every [`freeze`](Self::freeze) and [`advertise`](Self::advertise).
    pub fn tell_the_truth(&self) {
        let mut state = self.state.lock();
        state.frozen = None;
        state.advertised.clear();
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn register(&self, record: Record, ttl: Duration) -> Lease {
        let mut state = self.state.lock();
        state.next_lease += 1;
        let lease = Lease {
            key: record.key(),
            id: state.next_lease,
        };
        let entry = Entry {
            record,
            lease: lease.id,
            expires: self.clock.now() + ttl,
        };
        state.entries.insert(lease.key.clone(), entry);
        lease
    }

    async fn renew(&self, lease: &Lease, record: Record, ttl: Duration) -> Result<(), LeaseLost> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        match state.entries.get_mut(&lease.key) {
            Some(entry) if entry.lease == lease.id && now < entry.expires => {
                entry.record = record;
                entry.expires = now + ttl;
                Ok(())
            }
            _ => Err(LeaseLost),
        }
    }

    async fn revoke(&self, lease: &Lease) {
        let mut state = self.state.lock();
        if state
            .entries
            .get(&lease.key)
            .is_some_and(|entry| entry.lease == lease.id)
        {
            state.entries.remove(&lease.key);
        }
    }

    async fn list(&self) -> Vec<Record> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        match &state.frozen {
            Some(frozen) => frozen.clone(),
            None => state.list(now),
        }
    }
}

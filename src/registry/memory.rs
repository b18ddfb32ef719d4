//! The registry of one process.
//!
//! Serves the wiring, which makes one for each stack unless it is started with another one. Its leases are lost with
//! the process, and so are the access servers that they stand for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Lease, Record, Registry, RenewError, Unreachable};
use crate::clock::Clock;

/// Keeps records in memory. It is always reachable, and answers at once.
///
/// Leases run out by the clock, at the next call: no task watches them.
#[derive(Debug)]
pub struct MemoryRegistry {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// The contents of the registry, behind one lock.
#[derive(Debug, Default)]
struct State {
    /// The id of the newest lease.
    newest_lease: u64,
    /// The listed records, by key.
    entries: BTreeMap<String, Entry>,
}

/// A record and the lease that keeps it listed.
#[derive(Debug)]
struct Entry {
    record: Record,
    lease: u64,
    /// When the lease runs out, in the time of the clock.
    expires: Duration,
}

impl MemoryRegistry {
    /// Creates an empty registry whose leases run out by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        MemoryRegistry {
            clock,
            state: Mutex::default(),
        }
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn register(&self, record: Record, ttl: Duration) -> Result<Lease, Unreachable> {
        let mut state = self.state.lock();
        state.newest_lease += 1;
        let lease = Lease {
            key: record.key(),
            id: state.newest_lease,
        };
        let entry = Entry {
            record,
            lease: lease.id,
            expires: self.clock.now() + ttl,
        };
        state.entries.insert(lease.key.clone(), entry);
        Ok(lease)
    }

    async fn renew(&self, lease: &Lease, record: Record, ttl: Duration) -> Result<(), RenewError> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        match state.entries.get_mut(&lease.key) {
            Some(entry) if entry.lease == lease.id && now < entry.expires => {
                entry.record = record;
                entry.expires = now + ttl;
                Ok(())
            }
            _ => Err(RenewError::LeaseLost),
        }
    }

    async fn revoke(&self, lease: &Lease) -> Result<(), Unreachable> {
        let mut state = self.state.lock();
        let held = state.entries.get(&lease.key);
        if held.is_some_and(|entry| entry.lease == lease.id) {
            state.entries.remove(&lease.key);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Record>, Unreachable> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.entries.retain(|_, entry| now < entry.expires);
        let records = state.entries.values().map(|entry| entry.record.clone());
        Ok(records.collect())
    }
}

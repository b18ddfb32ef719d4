use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Lease, LeaseLost, Record, Registry};
use crate::clock::Clock;

/// The registry of one process. Leases run out by the clock when someone looks: no task watches them.
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
        state.entries.retain(|_, entry| now < entry.expires);
        state
            .entries
            .values()
            .map(|entry| entry.record.clone())
            .collect()
    }
}

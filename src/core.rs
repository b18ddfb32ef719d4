//! What all servers and fronts of one `imd` work with, made once at its start.

use std::sync::Arc;

use crate::clock::{Clock, ClockControl};
use crate::id::Uid;
use crate::lab::Lab;
use crate::listener::Admission;
use crate::metrics::Metrics;
use crate::registry::FaultyRegistry;
use crate::service::{InboxReport, MAX_REPORTED_INBOXES, Report, Services};
use crate::session::SessionIds;
use crate::store::{ReplaceError, SNAPSHOT_LIMIT, SaveError, Snapshot, Store};

/// The parts below the servers: gateway, access servers, HTTP APIs and resets share one `Core`.
#[derive(Debug)]
pub struct Core {
    /// Tells the time, to all but those who move it.
    pub clock: Arc<dyn Clock>,
    /// Moves the same clock: for the admin API and the handle.
    pub clock_control: Arc<dyn ClockControl>,
    /// Faults and the journal.
    pub lab: Arc<Lab>,
    /// The counters that the metrics show.
    pub metrics: Arc<Metrics>,
    /// Where the access servers register, and where the gateway reads them. Servers use it as a
    /// [`Registry`](crate::registry::Registry); the lab makes it mislead them.
    pub registry: Arc<FaultyRegistry>,
    /// Limits the connections of all listeners together.
    pub admission: Admission,
    /// Gives out the ids of all sessions, so that no two listeners use the same one.
    pub session_ids: SessionIds,
    /// Holds what the services read and write. Only the admin API, resets and the handle use it directly: what they ask of a
    /// store is not the business of a service.
    pub store: Arc<dyn Store>,
    /// What the commands and the HTTP API do, over the store.
    pub services: Arc<Services>,
}

impl Core {
    /// Returns what became of the messages so far.
    pub fn report(&self) -> Report {
        let inboxes = self.store.ledgers(Uid::default(), MAX_REPORTED_INBOXES);
        self.services.report(self.store.ledger(), inboxes)
    }

    /// Returns the counts of the inboxes of users above uid `after`, by uid: the first `limit` inboxes of which something
    /// was counted.
    pub fn inboxes(&self, after: Uid, limit: usize) -> Vec<InboxReport> {
        let ledgers = self.store.ledgers(after, limit);
        ledgers.into_iter().map(InboxReport::from).collect()
    }

    /// Returns everything that the store holds, and how far ids have come.
    ///
    /// # Errors
    ///
    /// [`SaveError`] when it is too much for a snapshot, or can't be read.
    pub async fn snapshot(&self) -> Result<Snapshot, SaveError> {
        let snapshot = self.store.snapshot(SNAPSHOT_LIMIT).await?;
        // Some of the ids may be in it, and on a clock that stands still they run ahead of it.
        Ok(snapshot.reaching(self.services.last_issued_ms()))
    }

    /// Replaces everything in the store, and starts the counts of the report anew. New ids are greater than all before and
    /// than those in the snapshot.
    ///
    /// # Errors
    ///
    /// [`ReplaceError`]; nothing has changed then, unless the store fails afterwards.
    pub async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError> {
        self.store.replace(snapshot).await?;
        Ok(self.services.go_on_after_replacement().await?)
    }
}

//! The parts that the gateway and all fronts of one `imd` share: clock, store, services, registry and lab.
//!
//! Serves the gateway, the access servers, the resets and the admin API. `daemon` creates one [`Core`] for each stack, and
//! nothing in it is replaced while the stack runs: a reset changes what the parts hold, not the parts.

use std::sync::Arc;

use crate::clock::{Clock, ClockControl};
use crate::id::Uid;
use crate::lab::Lab;
use crate::listener::{Admission, Pages};
use crate::metrics::Metrics;
use crate::registry::{FaultyRegistry, WebSocketAddresses};
use crate::service::{InboxReport, MAX_REPORTED_INBOXES, Report, Services};
use crate::session::SessionIds;
use crate::store::{ReplaceError, SNAPSHOT_LIMIT, SaveError, Snapshot, Store};
use crate::tls::Acceptor;

/// The parts of an `imd` that its gateway, its access servers, its HTTP APIs and its resets share.
#[derive(Debug)]
pub struct Core {
    /// Tells the time. Code that only reads the time uses this view of the clock.
    pub clock: Arc<dyn Clock>,
    /// Moves `clock`, if it is a manual one. Used by the admin API and by [`Imd`](crate::Imd).
    pub clock_control: Arc<dyn ClockControl>,
    /// Holds the faults in force and the journal.
    pub lab: Arc<Lab>,
    /// Counts what the admin API's `/metrics` and [`Imd::metrics`](crate::Imd::metrics) show.
    pub metrics: Arc<Metrics>,
    /// Lists the access servers: they register here, and the gateway reads the list. Servers use it as a
    /// [`Registry`](crate::registry::Registry); tests can make it give the gateway false addresses.
    pub registry: Arc<FaultyRegistry>,
    /// Tells the gateway where the access servers take WebSocket clients.
    pub websockets: Arc<WebSocketAddresses>,
    /// Limits the connections of all listeners together.
    pub admission: Admission,
    /// Makes the TLS handshakes of all listeners, if they speak TLS.
    pub acceptor: Acceptor,
    /// The web pages that may open a WebSocket to a server of the stack.
    pub pages: Arc<Pages>,
    /// Gives out the ids of all sessions, so that no two listeners use the same one.
    pub session_ids: SessionIds,
    /// Keeps users, groups, inboxes and read marks. Clients reach it through the services only. The admin API, resets and
    /// [`Imd`](crate::Imd) use it directly, for operations that no client has, such as a snapshot.
    pub store: Arc<dyn Store>,
    /// Carries out the commands of the wire protocol and the requests of the HTTP APIs.
    pub services: Arc<Services>,
}

impl Core {
    /// Returns what became of the messages so far.
    pub fn report(&self) -> Report {
        let inboxes = self.store.ledgers(Uid::default(), MAX_REPORTED_INBOXES);
        self.services.report(self.store.ledger(), inboxes)
    }

    /// Returns the counts of up to `limit` inboxes in the order of their users' ids, beginning above uid `after`. Inboxes of
    /// which nothing was counted are left out.
    pub fn inboxes(&self, after: Uid, limit: usize) -> Vec<InboxReport> {
        let ledgers = self.store.ledgers(after, limit);
        ledgers.into_iter().map(InboxReport::from).collect()
    }

    /// Returns everything that the store holds, and how far ids have come.
    ///
    /// # Errors
    ///
    /// [`SaveError`] when the contents exceed [`SNAPSHOT_LIMIT`], or can't be read.
    pub async fn snapshot(&self) -> Result<Snapshot, SaveError> {
        let snapshot = self.store.snapshot(SNAPSHOT_LIMIT).await?;
        // The snapshot may contain the newest ids, and on a manual clock ids run ahead of the time. A stack that loads the
        // snapshot must not give them out again.
        Ok(snapshot.with_latest_time(self.services.last_issued_ms()))
    }

    /// Replaces everything in the store by a snapshot, and starts the counts of the report anew. Ids that are given out
    /// afterwards are greater than all ids before, and greater than the ids in the snapshot.
    ///
    /// # Errors
    ///
    /// [`ReplaceError`]. Nothing has changed then, unless the store was replaced and failed afterwards.
    pub async fn replace(&self, snapshot: Snapshot) -> Result<(), ReplaceError> {
        self.store.replace(snapshot).await?;
        Ok(self.services.go_on_after_replacement().await?)
    }
}

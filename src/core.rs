//! What all servers and fronts of one `imd` work with, made once at its start.

use std::sync::Arc;

use crate::clock::{Clock, ClockControl};
use crate::lab::Lab;
use crate::listener::Admission;
use crate::metrics::Metrics;
use crate::registry::FaultyRegistry;
use crate::service::Services;
use crate::session::SessionIds;

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
    /// What the commands and the HTTP API do, over the store.
    pub services: Arc<Services>,
}

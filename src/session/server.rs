//! What the sessions of one listener share. Serves the connections and the request batches.

use std::sync::Arc;

use super::FaultPoint;
use super::manager::Manager;
use crate::codec::Framing;
use crate::metrics::{Connections, Metrics};

/// What the sessions of one listener share.
#[derive(Debug)]
pub struct Server<H> {
    /// The list of the sessions.
    pub manager: Arc<Manager>,
    /// How messages are told apart in the bytes of a connection.
    pub framing: Framing,
    /// How long a frame may be before the login, in bytes.
    pub frame_limit: usize,
    /// Counts frames.
    pub metrics: Arc<Metrics>,
    /// Counts connections.
    pub connections: Connections,
    /// Injects faults, and records frames.
    pub fault_point: FaultPoint,
    /// Replies to requests.
    pub handler: H,
}

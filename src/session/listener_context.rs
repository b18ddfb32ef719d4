//! What the sessions of one listener share. Serves the connections and the request batches.

use std::sync::Arc;

use super::FaultPoint;
use super::manager::SessionManager;
use crate::codec::Framing;
use crate::metrics::{Connections, Metrics};

/// What the sessions of one listener share: the gateway's, or those of one start of an access server.
#[derive(Debug)]
pub struct ListenerContext<H> {
    /// Opens the sessions, lists them, and ends them.
    pub manager: Arc<SessionManager>,
    /// How frames are delimited in the byte stream.
    pub framing: Framing,
    /// How long a frame may be before the login, in bytes.
    pub frame_before_login: usize,
    /// Counts frames.
    pub metrics: Arc<Metrics>,
    /// Counts connections.
    pub connections: Connections,
    /// Injects faults, and records frames.
    pub fault_point: FaultPoint,
    /// Replies to requests.
    pub handler: H,
}

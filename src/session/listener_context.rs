//! What the sessions of one listener share: their manager, their handler, their counters and their fault point.
//!
//! Serves the connections and the request batches. The gateway has one context, and an access server has a new one for
//! each of its starts.

use std::sync::Arc;

use super::FaultPoint;
use super::manager::SessionManager;
use crate::codec::Framing;
use crate::metrics::{ConnectionCounts, Metrics};

/// What the sessions of one listener share: the gateway's, or those of one start of an access server.
#[derive(Debug)]
pub struct ListenerContext<H> {
    /// Opens, lists and closes the sessions.
    pub manager: Arc<SessionManager>,
    /// How frames are delimited in the byte stream.
    pub framing: Framing,
    /// How long a frame may be before the login, in bytes.
    pub frame_before_login: usize,
    /// Counts the frames of all listeners, and times the replies.
    pub metrics: Arc<Metrics>,
    /// Counts the connections of this listener, by the reasons of their closes.
    pub connection_counts: ConnectionCounts,
    /// Injects faults, and records frames.
    pub fault_point: FaultPoint,
    /// Replies to requests.
    pub handler: H,
}

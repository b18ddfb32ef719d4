//! The admin API: what a test does in Rust, over HTTP, for any language. JSON, versioned under `/v1`.
//!
//! | file | what it does |
//! |---|---|
//! | `guard` | who may ask |
//! | `reserve` | what is answered when all connections are in use |
//! | `routes` | what can be asked: one table, from which the description is made too |
//! | `shape` | what an answer holds, for the description |
//! | `state`, `servers`, `faults`, `clock`, `events`, `metrics`, `contents`, `reset` | the answers |
//! | `accept` | which format of metrics is wanted |
//! | `answer` | how an answer and a refusal look |
//! | `exact` | ids as JavaScript can read them |
//! | `console` | the page at `/` that shows all this to people |

mod accept;
mod answer;
mod clock;
mod console;
mod contents;
mod events;
mod exact;
mod faults;
mod guard;
mod large;
mod metrics;
mod reserve;
mod reset;
mod routes;
mod servers;
mod shape;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use crate::config;
use crate::core::Core;
use crate::reset::Reset;
use crate::shutdown::Shutdown;
use crate::stack::Stack;
pub use events::Listeners;
use guard::Guard;
pub use large::LargeAnswers;
pub use reset::Saves;

/// How many of its connections may be held by who follows the journal or waits for an event.
const LISTENERS: usize = 32;

/// The parts of a stack that the API shows and moves.
#[derive(Debug)]
pub struct Parts {
    /// Tells this run from others at the same address.
    pub instance: String,
    /// How long a lease lasts that is not renewed.
    pub lease: Duration,
    /// Where clients on this machine find the gateway.
    pub gateway_addr: SocketAddr,
    /// Where they find the user API.
    pub user_api: SocketAddr,
    /// Where they find the group API.
    pub group_api: SocketAddr,
    /// What the servers share.
    pub core: Arc<Core>,
    /// The servers.
    pub stack: Arc<Stack>,
    /// What replaces everything.
    pub reset: Arc<Reset>,
    /// Room for those who listen.
    pub listeners: Listeners,
    /// Makes the answers that take long.
    pub large_answers: LargeAnswers,
    /// Room for the snapshots that clients read.
    pub saves: Saves,
    /// What the stack does as the original does.
    pub quirks: config::Quirks,
    /// Told when the API is to end.
    pub ending: Shutdown,
}

/// The API over these parts.
pub fn router(parts: Parts, config: &config::Admin) -> Router {
    let guard = Arc::new(Guard::new(config));
    let described = Arc::new(routes::description());
    routes::router()
        .merge(console::router())
        .with_state(Arc::new(parts))
        .layer(axum::Extension(described))
        .layer(axum::middleware::from_fn_with_state(guard, guard::guarded))
        .layer(axum::middleware::from_fn(reserve::probes_only))
}

//! The admin API: everything that a test can do to a stack in Rust, over HTTP for any language. JSON, versioned under `/v1`.
//!
//! Serves the start of a stack, which builds the [`Deps`] and serves the [`router`]; nothing else in the crate uses it. A
//! request passes the reserve, then the guard, then the handler that the table of routes names.
//!
//! | file | what it holds |
//! |---|---|
//! | `guard` | which requests are allowed: hosts, origins, the token |
//! | `reserve` | the refusal of everything but probes while clients hold all connections |
//! | `large` | answers that take long, which are made one at a time |
//! | `routes` | the table of all operations, from which router and OpenAPI description are made |
//! | `shape` | the notation in which the table describes JSON |
//! | `state`, `servers`, `faults`, `clock`, `events`, `metrics`, `contents`, `reset` | the handlers |
//! | `answer` | the forms of requests, answers and errors that handlers share |
//! | `exact` | ids that JavaScript reads exactly |
//! | `accept` | the choice between the two text formats of metrics |
//! | `console` | the page at `/`, a client of this API for people |

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
use crate::stack::Stack;
use crate::task_group::TaskGroup;
pub use events::Followers;
use guard::Guard;
pub use large::LargeAnswers;
pub use reset::Downloads;

/// The parts of a stack that the handlers read and change. They are shared with the daemon, which owns them.
#[derive(Debug)]
pub struct Deps {
    /// A random text that tells this run of `imd` from others at the same address.
    pub instance: String,
    /// How long a lease lasts after its last renewal.
    pub lease: Duration,
    /// The address at which clients on this machine reach the gateway.
    pub gateway_addr: SocketAddr,
    /// The URL at which WebSocket clients on this machine reach the gateway, if they can.
    pub gateway_ws: Option<String>,
    /// The address at which clients on this machine reach the user API, as a URL.
    pub user_api: String,
    /// The address at which clients on this machine reach the group API, as a URL.
    pub group_api: String,
    /// What the servers share: services with the store, lab, registry, clock, metrics.
    pub core: Arc<Core>,
    /// The gateway and the access servers, with their sessions.
    pub stack: Arc<Stack>,
    /// Empties the stack, or fills it from a snapshot, while it runs.
    pub reset: Arc<Reset>,
    /// Limits the requests that follow the journal or wait for an event.
    pub followers: Followers,
    /// Makes large answers outside the threads of the runtime, one at a time.
    pub large_answers: LargeAnswers,
    /// Limits the memory of the snapshots that clients download.
    pub downloads: Downloads,
    /// The behaviours of the original stack that are switched on.
    pub quirks: config::Quirks,
    /// The tasks of the API: work that must outlive its request. The shutdown of the group also ends the event streams.
    pub tasks: TaskGroup,
}

/// Returns the router of the whole API, guarded by the hosts and the token of the config.
pub fn router(deps: Deps, config: &config::Admin) -> Router {
    let guard = Arc::new(Guard::new(config));
    let description = Arc::new(routes::description());
    routes::router()
        .merge(console::router())
        .with_state(Arc::new(deps))
        .layer(axum::Extension(description))
        .layer(axum::middleware::from_fn_with_state(guard, guard::guarded))
        .layer(axum::middleware::from_fn(reserve::probes_only))
}

//! The wire contract and the HTTP API of the stack, as clients see them through real sockets. Each file holds one part
//! of it.

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part of it")]
mod support;

mod ack;
mod before_login;
mod captured;
#[cfg(target_os = "linux")]
mod client_hosts;
mod deadlines;
mod departed_clients;
mod example;
mod first_notify;
mod gateway;
mod group;
mod http;
mod http_cors;
mod http_forms;
#[cfg(feature = "admin")]
mod http_wire;
mod limits;
mod login;
mod malformed;
mod metrics;
mod mutated;
mod notify;
mod offline;
mod order;
mod p2p;
mod presence;
mod push;
mod retention;
mod roles;
mod shutdown;
#[cfg(feature = "admin")]
mod slow_clients;
mod slow_store;
mod states;
mod sync;
mod takeover;
#[cfg(feature = "tls")]
mod tls;
mod transports;
mod websocket;

//! Failures on command, and what clients see of them.

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../sockets/odd_store.rs"]
mod odd_store;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../sockets/support.rs"]
mod support;

mod add_access;
mod life;
mod pause;
mod registry;
mod restart;
mod servers;
mod wire;

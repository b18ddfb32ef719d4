//! The stack's HTTP API: users on one port, groups on another (the contract's *HTTP API of the stack*).

mod api;
mod server;

pub use api::{group_router, user_router};
pub use server::serve;

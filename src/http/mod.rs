//! The stack's HTTP API: users on one port, groups on another (the contract's *HTTP API of the stack*).

mod api;
mod exchange;
mod form;
mod guard;
mod server;

pub use api::{group_router, user_router};
pub use exchange::{announces_more, too_long};
pub use guard::{Guard, Header};
pub use server::serve;

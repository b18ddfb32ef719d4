//! The stack's HTTP API: users on one port, groups on another (the contract's *HTTP API of the stack*).

mod api;
mod body;
mod exchange;
mod form;
mod guard;
mod pace;
mod server;

pub use api::{group_router, user_router};
pub use body::{BodyError, pass_body, whole_body};
pub use guard::{Guard, Header};
pub use server::{Reserved, serve};

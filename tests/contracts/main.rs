//! The contracts between the parts of the stack: a suite for each trait, which runs on every implementation, and one
//! each for the session and the codec.

mod clock;
mod codec;
mod directory;
#[cfg(feature = "durable")]
#[path = "../support/hooked_store.rs"]
#[allow(dead_code, reason = "no hook but an owner of the folder is used here")]
mod hooked_store;
mod registry;
mod session;
mod store;
#[path = "../support/writes.rs"]
mod writes;

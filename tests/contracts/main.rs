//! The contracts between the parts of the stack: a suite for each trait, which runs on every implementation, and one
//! each for the session and the codec.

mod clock;
mod codec;
mod directory;
mod registry;
mod session;
mod store;

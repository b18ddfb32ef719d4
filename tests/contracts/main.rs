//! What the parts promise each other: one suite for each trait, run on every implementation; what a session promises to
//! those who hold it; and what the codec promises for any stream of bytes.

mod clock;
mod codec;
mod directory;
mod registry;
mod session;
mod store;

//! One suite for each trait, run on every implementation; and what the codec promises for any stream of bytes.

mod clock;
mod codec;
mod registry;
mod store;

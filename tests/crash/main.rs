//! Nothing acknowledged is ever lost: the program is killed at every step, and what it kept is compared with what it had
//! acknowledged.
//!
//! `cargo run --release --example torture` kills it more often. Tests that need strace are ignored; .ci/run runs them.
#![cfg(unix)]

#[cfg(target_os = "linux")]
mod faults;
mod kills;
mod sim;
mod torture;

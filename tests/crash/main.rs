//! Nothing acknowledged is ever lost: the program is killed at every step, and what it kept is compared with what it
//! had said.
//!
//! `cargo run --release --example torture` kills it more often. What needs strace is ignored here, and run by .ci/run.
#![cfg(unix)]

#[cfg(target_os = "linux")]
mod faults;
mod kills;
mod sim;
mod torture;

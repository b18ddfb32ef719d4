//! No acknowledged message is ever lost: the program is killed at every step, and what it has kept is compared with what it
//! has acknowledged.
//!
//! | module | what it tests |
//! |---|---|
//! | `kills` | the program, killed from outside and by strace |
//! | `faults` | the program on disks that fail or are full, and after power cuts |
//! | `sim` | the checker itself, on a simulated store with planted bugs |
//! | `torture` | no tests: starts, loads, kills and compares |
//!
//! `cargo run --release --example torture` kills it more often. Tests that need strace are ignored; .ci/run runs them.
#![cfg(unix)]

#[cfg(target_os = "linux")]
mod faults;
mod kills;
mod sim;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part of it")]
mod support;
mod torture;

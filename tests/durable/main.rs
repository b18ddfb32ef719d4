//! Tests of the durable store by itself: what survives a crash, and what is refused when its folder is not in order.
//!
//! What the durable store shares with the memory store is tested in `contracts/store`, and the whole program, killed
//! under load, in `crash`.

mod damage;
mod fixture;
mod folder;
#[cfg(unix)]
mod foreign;
mod formats;
#[cfg(unix)]
mod missing_folder;
#[cfg(unix)]
mod planted;
#[cfg(unix)]
mod refused;
mod reopen;
#[path = "../support/chance.rs"]
mod seed;
#[path = "../support/writes.rs"]
#[allow(dead_code, reason = "the contract suite uses more of it")]
mod writes;

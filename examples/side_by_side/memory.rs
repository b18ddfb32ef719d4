//! Memory that is at hand.
//!
//! A virtual machine may give back to its host what nobody uses, and get it anew page by page: then a store in memory waits
//! for the host, by how long the machine has been at rest. So a process takes memory and gives it back right before messages
//! are measured, and every server finds the same.

use std::hint::black_box;
use std::process::Command;

use crate::Fault;

/// What a measurement may take, in bytes.
const ENOUGH: usize = 1 << 30;

/// Has a process take memory and give it back.
pub fn warm() -> Result<(), Fault> {
    let status = Command::new(std::env::current_exe()?)
        .arg("take-memory")
        .status()?;
    if !status.success() {
        return Err("there is not enough memory".into());
    }
    Ok(())
}

/// What that process does.
pub fn take() {
    black_box(vec![1u8; ENOUGH]);
}

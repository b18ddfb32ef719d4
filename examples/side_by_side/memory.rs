//! Memory that is ready for use.
//!
//! Serves all rows about messages. A virtual machine may give memory that no process uses back to its host, and get it back page by page. Then a store
//! in memory waits for the host, the longer the machine has been at rest. So right before messages are measured, a
//! process takes memory and gives it back, and every server finds the same conditions.

use std::hint::black_box;
use std::process::Command;

use crate::Fault;

/// As much as a measurement may take, in bytes.
const ENOUGH: usize = 1 << 30;

/// Runs a process that takes memory and gives it back.
pub fn warm() -> Result<(), Fault> {
    let status = Command::new(std::env::current_exe()?)
        .arg("take-memory")
        .status()?;
    if !status.success() {
        return Err("there is not enough memory".into());
    }
    Ok(())
}

/// Takes memory, in that process.
pub fn take() {
    black_box(vec![1u8; ENOUGH]);
}

//! The async runtime of a process that runs `imd`.
//!
//! Serves the program and the comparison in `examples/side_by_side`, so that both measure the same kind of runtime. Tests
//! run stacks on runtimes of their own.

use std::io;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

/// Creates the runtime that an `imd` process runs on, with a worker thread for each core that the process may use. On one
/// core the calling thread is the only worker, since two workers would only wait for each other.
///
/// # Errors
///
/// The error of the system, when it gives no thread or no file descriptor for the runtime.
pub fn runtime() -> io::Result<Runtime> {
    let cores = available_parallelism().map_or(1, usize::from);
    let mut builder = if cores == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    builder.enable_all().build()
}

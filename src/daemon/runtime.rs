//! The runtime of an `imd` process.

use std::io;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

/// The runtime that an `imd` process runs on: with a worker for each core that it may use. On one core that is this
/// thread alone, since two workers would only wait for each other.
///
/// # Errors
///
/// What the system says.
pub fn runtime() -> io::Result<Runtime> {
    let cores = available_parallelism().map_or(1, usize::from);
    let mut builder = if cores == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    builder.enable_all().build()
}

//! The small parts of the path of a message, and the whole of it, with what each allocates.
//!
//! `cargo bench`, or `cargo bench -- page` for those with that name. The counts of allocations are those of one thread:
//! of the durable store's writer they say nothing.

mod codec;
mod command;
mod path;
mod session;
mod store;

use std::time::Duration;

use divan::{AllocProfiler, Divan};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    Divan::default()
        .min_time(Duration::from_millis(500))
        .config_with_args()
        .main();
}

/// Bytes of a message's text.
const TEXT: usize = 32;

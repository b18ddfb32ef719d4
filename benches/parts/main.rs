//! Benchmarks of the parts of a message's path, and of the whole path, with the allocations of each.
//!
//! `cargo bench` runs all of them, `cargo bench -- page` those whose names contain `page`. Only the allocations of one
//! thread are counted, so those of the writer of the store in a folder are left out.

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

/// The length of a message's text, in bytes.
const TEXT: usize = 32;

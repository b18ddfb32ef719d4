//! A whole instant-messaging stack in one process.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod access;
pub mod client;
pub mod clock;
pub mod codec;
pub mod command;
pub mod config;
pub mod daemon;
pub mod gateway;
pub mod http;
pub mod idgen;
pub mod listener;
pub mod notify;
pub mod proto;
pub mod registry;
pub mod service;
pub mod session;
pub mod shutdown;
pub mod store;

pub use client::Client;
pub use config::Config;
pub use daemon::{Imd, Report, StartError};

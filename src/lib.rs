//! A whole instant-messaging stack in one process: gateway, access servers, registry, messages, groups and the HTTP
//! API, as tasks of one runtime, on the wire contract of the distributed stack that it stands in for.
//!
//! In a test:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let imd = imd::Imd::start(imd::Config::ephemeral()).await?; // free ports, memory store
//! let mut alice = imd::Client::connect(imd.gateway_addr()).await?; // gateway -> access
//! alice.login(1, &imd.token(1)).await?;
//! alice.send_p2p(2, "hello").await?;
//!
//! let mut bob = imd::Client::connect(imd.gateway_addr()).await?;
//! bob.login(2, &imd.token(2)).await?;
//! let page = bob.sync(0, 0).await?;
//! assert_eq!(page.messages[0].text, "hello");
//!
//! let report = imd.shutdown().await; // what was stored, delivered, pending
//! assert_eq!((report.stored, report.delivered, report.pending), (1, 1, 0));
//! # Ok(())
//! # }
//! ```
//!
//! Many can run side by side in one process. Dropping the handle closes the listeners; after
//! [`shutdown`](Imd::shutdown) the ports are free. With [`Config::manual_clock`], time moves only when the test says
//! so:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! let imd = imd::Imd::start(imd::Config::ephemeral().manual_clock()).await?;
//! let mut alice = imd::Client::connect(imd.gateway_addr()).await?;
//! alice.login(1, &imd.token(1)).await?;
//! assert!(imd.is_online(1));
//! imd.clock().advance(Duration::from_secs(15)).await; // no ping for as long as presence lasts
//! assert!(!imd.is_online(1));
//! # Ok(())
//! # }
//! ```
//!
//! Users and groups are made without HTTP ([`Imd::register`], [`Imd::create_group`]): the client speaks the wire protocol
//! alone, which has no command for them.
//!
//! Access servers die, stop, rest and come back on command ([`Imd::access`], [`access::AccessServer`]), more can be added
//! ([`Imd::add_access`]), and the registry can tell the gateway what is not so ([`Imd::registry`]).
//!
//! # Cargo features
//!
//! All are on by default. Without any, the library has the whole stack with a store in memory, and needs no C compiler.
//!
//! | feature | what it brings |
//! |---|---|
//! | `durable` | the store in a folder, for a config with `store.path` |
//! | `admin` | the admin API and its console, for a config with `[admin]` |
//! | `cli` | the program `imd`, with both of the above |
//!
//! A config that asks for a part which the build lacks is refused at the start, with the name of the feature.
//!
//! # The way of a request
//!
//! | module | what it does |
//! |---|---|
//! | [`listener`] | accepts, within limits |
//! | [`transport`] | the bytes of a connection, whatever carries them |
//! | [`codec`] | bytes to frames: nothing else sees a length |
//! | [`session`] | one connection: a task that reads, lets a handler answer, and writes |
//! | [`gateway`] | the handler that says which access server to use |
//! | [`access`] | the handler that runs commands, and the server's place in the registry |
//! | [`command`] | frame to command: one table |
//! | [`service`] | what the commands do: a result of the domain, and perhaps a write; knows no frame and no session |
//! | [`store`] | users, groups, inboxes, read marks |
//! | [`directory`] | where each user is online, and notifying them |
//! | [`registry`] | which access servers there are, under leases |
//!
//! Around it: [`id`] has the ids of users, groups, versions and messages, [`proto`] the messages, [`config`] the model of imd.toml, [`clock`] the time, [`idgen`] the ids,
//! [`metrics`] what is counted, [`lab`] what can be made to fail and what has passed, [`reset`] how everything is replaced,
//! [`http`] the HTTP API, [`byte_size`] sizes with their units, `sharded` maps with many locks, `phc` the hashes of
//! passwords, [`text`] how files are read, [`file_target`] the files that somebody names to be written, [`shutdown`] the end of tasks, [`admin`] the API that moves
//! all of it.
//!
//! [`core`](mod@core) is what all servers share, [`stack`] the servers themselves, and [`daemon`] wires them together;
//! [`client`] is the other side, and [`load`] what `imd bench` is made of.
//! Imports go downwards only, which `tests/layering.rs` checks.

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
#[cfg(feature = "admin")]
pub mod admin;
pub mod byte_size;
pub mod client;
pub mod clock;
pub mod codec;
pub mod command;
pub mod config;
pub mod core;
pub mod daemon;
pub mod directory;
pub mod file_target;
pub mod gateway;
pub mod http;
pub mod id;
pub mod idgen;
pub mod lab;
pub mod listener;
#[cfg(feature = "cli")]
pub mod load;
pub mod metrics;
pub mod number;
pub(crate) mod phc;
pub mod proto;
pub mod registry;
pub mod reset;
pub mod service;
pub mod session;
pub(crate) mod sharded;
pub mod shutdown;
pub mod stack;
pub mod store;
pub mod text;
pub mod transport;

/// Compiles and runs the Rust snippets of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the Rust snippets of docs/lab.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/lab.md")]
struct LabDocs;

pub use client::Client;
pub use config::Config;
pub use daemon::{Imd, Report, StartError};
pub use service::{GroupError, RegisterError};
pub use store::Rejected;

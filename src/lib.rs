//! A whole instant-messaging stack in one process, for the developers of its clients.
//!
//! `imd` stands in for a distributed stack: gateway, access servers, registry, message store, groups and HTTP API run as tasks
//! of one runtime, and speak the same wire protocol. A test starts a stack in milliseconds, looks into it, moves its time, and
//! makes it fail in any way. The program `imd` does the same for clients in other languages.
//!
//! # Start it in a test
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
//! Every listener is bound and serving when [`Imd::start`] returns. Any number of stacks can run side by side in one process.
//! Dropping the handle closes the listeners; after [`shutdown`](Imd::shutdown) the ports are free.
//!
//! [`Imd::register`] and [`Imd::create_group`] create users and groups without HTTP, since the wire protocol has no command
//! for them. [`Imd::settled`] waits until everything that has arrived is answered, and [`Imd::reset`] empties the stack between
//! two tests. [`Config`] has a field for each key of imd.toml.
//!
//! # Move its time
//!
//! With [`Config::manual_clock`], time moves only when the test moves it. Leases, presence, deadlines and tokens follow:
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
//! # Make it fail
//!
//! A [`Fault`](lab::Fault) is a rule: at which [`Site`](lab::Site), for whom, how often, and what happens. [`Imd::fault`] puts
//! it in force until its guard is dropped:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use imd::lab::{Fault, Site};
//! use imd::proto::{Cmd, Code};
//!
//! let imd = imd::Imd::start(imd::Config::ephemeral()).await?;
//! let mut alice = imd::Client::connect(imd.gateway_addr()).await?;
//! alice.login(1, &imd.token(1)).await?;
//! let refused = Fault::at(Site::AccessRequest).cmd(Cmd::SendP2PMsg).uid(1).times(1);
//! let refused = imd.fault(refused.error(Code::ServerError));
//! assert!(alice.send_p2p(2, "hello").await.is_err());
//! assert_eq!(refused.hits(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`Imd::access`] returns an access server, to [kill, stop, pause or restart](access::AccessServer) it, and
//! [`Imd::add_access`] adds one. With [`Imd::registry`] a test gives the gateway false or old addresses. [`Imd::journal`] has
//! the recorded frames, and [`Imd::report`] counts the messages that were stored, delivered and lost.
//!
//! # Where to read on
//!
//! The repository's `docs/` has a page for each topic: `lab.md` for all faults, `admin.md` for the HTTP API that controls a
//! stack, `protocol.md` for the wire, and `store.md` for what is kept on disk. To change `imd`, begin with `architecture.md`:
//! it follows a message through the files, says who owns the tasks, and lists the files to change for a new transport, store,
//! command or fault.
//!
//! # Cargo features
//!
//! All are on by default. Without any, the library has the whole stack with a store in memory, and needs no C compiler.
//!
//! | feature | what it brings |
//! |---|---|
//! | `durable` | the store in a folder, for a config with `store.path` |
//! | `admin` | the admin API and its console, for a config with `[admin]` |
//! | `tls` | TLS on all listeners, for a config with `[tls]` |
//! | `cli` | the program `imd`, with all of the above |
//!
//! A config that asks for a part which the build lacks is refused at the start, with the name of the feature.
//!
//! # The modules on the path of a request
//!
//! | module | what it does |
//! |---|---|
//! | [`listener`] | accepts connections, within limits |
//! | [`transport`] | moves the bytes of a connection: plain TCP, or TLS |
//! | [`codec`] | splits bytes into frames, and joins frames to bytes |
//! | [`session`] | runs one connection: a task that reads, lets a handler answer, and writes |
//! | [`gateway`] | the handler that answers with the address of an access server |
//! | [`access`] | the handler that runs commands, and the access server's record in the registry |
//! | [`command`] | decodes a frame into a command: one table for all commands |
//! | [`service`] | runs a command: returns a result or an error, and a write for the store; knows neither frames nor sessions |
//! | [`store`] | keeps users, groups, inboxes and read marks |
//! | [`directory`] | knows the session of each logged-in user, and notifies it; knows who counts as online |
//! | [`registry`] | lists the access servers, under leases |
//!
//! # The other modules
//!
//! | module | what it holds |
//! |---|---|
//! | [`daemon`] | the wiring: [`Imd`], its start and its shutdown |
//! | [`stack`], [`core`](mod@core) | the servers of one `imd`, and what all of them share |
//! | [`reset`] | emptying a running stack, and loading a snapshot |
//! | [`admin`] | the admin API and the console |
//! | [`http`] | the user API and the group API |
//! | [`lab`] | fault injection, and the journal of frames |
//! | [`client`], [`load`] | a client of the wire protocol; the load generator of `imd bench` |
//! | [`config`] | the model of imd.toml |
//! | [`proto`] | the messages, commands and error codes of the wire contract |
//! | [`id`], [`idgen`] | the ids of users, groups, versions and messages; snowflake ids |
//! | [`tls`] | certificates, the handshake of an accepted connection, and the local CA |
//! | [`clock`], [`metrics`], [`task_group`] | time, counters, and tasks that end together |
//! | [`text`], [`file_target`], [`byte_size`], [`number`] | reading and writing files, sizes with units, ids in JSON |
//! | `sharded`, `phc` | maps with many locks; password hashes |
//!
//! The modules use each other in one direction only, and no files use each other in a circle, except that a
//! child module may use what its parent defines: `tests/layering.rs` checks both.

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
pub mod stack;
pub mod store;
pub mod task_group;
pub mod text;
pub mod tls;
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

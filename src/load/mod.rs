//! The parts of a load generator that `imd bench` and `examples/side_by_side` share: connections, requests, answers,
//! patterns, schedule, cores and statistics. A stack needs none of them.
//!
//! A [`Driver`] says what one connection does; [`Connection::run`] is its task. Requests that follow a [`Schedule`], and
//! deliveries that make room for another message, reach the task through its [`Mailbox`].
//!
//! What all of it relies on:
//!
//! - Times are nanoseconds since the run began. They fit into a message's id, and are never before the run.
//! - A generator must not be the limit of what it measures: a task wakes once for all that has come, reads once, and writes
//!   once; nothing is decoded that is not looked at; a connection that waits holds no buffer.
//! - Nothing here depends on a store, a session or a service, so that the load is never served by what it measures.

mod connection;
mod cores;
mod fields;
mod mailbox;
mod pattern;
pub mod request;
mod schedule;
mod statistics;
pub mod usage;

pub use connection::{Connection, Driver, FrameScanner, LengthPrefixed};
pub use cores::{CoreSplit, pin};
pub use fields::{FieldTable, Status};
pub use mailbox::{Delivery, End, Mailbox};
pub use pattern::{Pattern, ReceiverChooser, Until};
pub use schedule::{Schedule, nanos};
pub use statistics::{LatencyHistogram, Percentiles, grouped};

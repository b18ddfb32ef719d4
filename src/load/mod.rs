//! The parts of a load generator that `imd bench` and `examples/side_by_side` share: connections, requests, answers,
//! schedule and statistics. A stack needs none of them.
//!
//! A [`Client`] says what one connection does; [`Connection::run`] is its task. Requests that follow a [`Schedule`] reach
//! the task through its [`Mailbox`]. Times are nanoseconds since the run began, so that they fit into a message's id.

mod connection;
mod fields;
mod mailbox;
mod pattern;
pub mod request;
mod schedule;
mod statistics;
pub mod usage;

pub use connection::{Client, Connection, Frames, Framing};
pub use fields::FieldTable;
pub use mailbox::{Delivery, End, Mailbox};
pub use pattern::{Pattern, Receivers};
pub use request::Template;
pub use schedule::{Schedule, nanos};
pub use statistics::{Latency, Percentiles, grouped};

//! The messages of the wire contract, their command numbers and their error codes: what stands in a frame.
//!
//! Serves the servers, the clients and the lab, and imports no other module of the crate.
//!
//! The structs are generated from `proto/external/*.proto` and checked in as `external.rs`, so that a build needs no
//! compiler of `.proto` files; `cargo test --test generated` renews the file. [`Cmd`] and [`Code`] are the numbers of
//! the contract, and [`Reply`] says which message replies to which command. Requests are read by [`RequestFields`] and common
//! replies written by [`fields::Fields`] without a message in between; both agree byte for byte with what prost reads
//! and writes, which their tests prove.

mod cmd;
mod code;
mod field_reader;
pub mod fields;
mod page_entry;
mod reply;
mod request_fields;

pub use cmd::Cmd;
pub use code::Code;
pub use field_reader::{FieldReader, FieldValue};
pub use page_entry::{MeasuredEntry, PageEntry};
pub use reply::{Payload, Reply};
pub use request_fields::{FieldType, RequestFields, Undecodable, first_number};

mod external {
    #![allow(missing_docs, reason = "the fields are described in the .proto files")]
    include!("external.rs");
}
pub use external::*;

//! The messages of the wire contract, their command numbers and their error codes.
//!
//! The structs are generated from `proto/external/*.proto` and checked in as `external.rs`, so that a build needs no
//! compiler of `.proto` files; `cargo test --test generated` renews the file. [`Cmd`], [`Code`] and [`Reply`] are what the
//! contract says beside them.

mod cmd;
mod code;
mod field_reader;
pub mod fields;
mod flat;
mod reply;

pub use cmd::Cmd;
pub use code::Code;
pub use field_reader::{FieldReader, FieldValue};
pub use flat::{Flat, Form, Undecodable, first_number};
pub use reply::{Encoded, Payload, Reply};

mod external {
    #![allow(missing_docs, reason = "the fields are described in the .proto files")]
    include!("external.rs");
}
pub use external::*;

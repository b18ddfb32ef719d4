//! The form in which the engine takes a record: a key and a value.
//!
//! Serves `record` and `engine`. It stands below both, so that neither has to import the other for these types.

pub use fjall::{UserKey as Key, UserValue as Value};

/// A change of one record: its key and its new value, or no value to remove it.
pub type Change = (Key, Option<Value>);

//! The form in which the engine takes a record: a key and a value.
//!
//! The module is below `record` and `engine`, so that neither has to import the other one for them.

pub use fjall::{UserKey as Key, UserValue as Value};

/// A change of one record: its key and its new value, or no value to remove it.
pub type Change = (Key, Option<Value>);

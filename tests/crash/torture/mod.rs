//! Torture of a store: load, kill, start again, read back, compare; over and over.
//!
//! | module | what it does |
//! |---|---|
//! | `load`, `talker` | users who send, accept and sync |
//! | `read_back` | reads all inboxes |
//! | `checker` | compares: the only one that knows the promises |
//! | `event`, `key`, `breach` | what it is told, and what it says |
//! | `wire` | frames |

pub mod breach;
pub mod checker;
pub mod event;
pub mod key;
pub mod load;
pub mod read_back;
mod talker;
mod wire;

//! Tortures a store: puts load on the program, kills it, starts it again, reads everything back and compares, over and over.
//!
//! Used by the tests of this folder, which kill a few times, and by `examples/torture.rs`, which kills thousands of times.
//! Whatever uses it also has the module `crate::support`, with the clients that all suites share.
//!
//! | module | what it does |
//! |---|---|
//! | `campaign` | runs many kills in many folders |
//! | `folder` | runs the program on one folder, again and again |
//! | `full_journal` | makes a store whose journal is nearly full, and kills copies of it |
//! | `kill` | the steps at which a server is killed, and how strace does it |
//! | `daemon` | starts and ends the program as a process |
//! | `power` | takes a folder back to what a power cut would leave of it |
//! | `load`, `sender` | users who send, accept and sync |
//! | `read_back` | reads all inboxes |
//! | `checker` | compares; the only module that knows the promises |
//! | `event`, `message_key`, `breach` | what the checker is told, and what it reports |
//! | `connection` | a pipelined connection to a server that may be killed |

pub mod breach;
pub mod campaign;
pub mod checker;
pub mod connection;
pub mod daemon;
pub mod event;
pub mod folder;
pub mod full_journal;
pub mod kill;
pub mod load;
pub mod message_key;
pub mod power;
pub mod read_back;
mod sender;

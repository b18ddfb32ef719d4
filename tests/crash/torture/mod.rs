//! Tortures a store: puts load on it, kills it, starts it again, reads everything back and compares, over and over.
//!
//! | module | what it does |
//! |---|---|
//! | `campaign` | many folders, many kills |
//! | `folder` | one folder, and the processes that use it |
//! | `full` | a store whose journal is nearly full |
//! | `kill` | the steps at which a server is killed |
//! | `daemon` | the program as a process |
//! | `power` | what a power cut leaves of a folder |
//! | `load`, `talker` | users who send, accept and sync |
//! | `read_back` | reads all inboxes |
//! | `checker` | compares; the only module that knows the promises |
//! | `event`, `key`, `breach` | what the checker is told, and what it reports |
//! | `wire` | frames |

pub mod breach;
pub mod campaign;
pub mod checker;
pub mod daemon;
pub mod event;
pub mod folder;
pub mod full;
pub mod key;
pub mod kill;
pub mod load;
pub mod power;
pub mod read_back;
mod talker;
pub mod wire;

//! Torture of a store: load, kill, start again, read back, compare; over and over.
//!
//! | module | what it does |
//! |---|---|
//! | `campaign` | many folders, many kills |
//! | `folder` | one folder and its lives |
//! | `full` | a store whose journal is about to be full |
//! | `kill` | where a server is killed |
//! | `daemon` | the program as a process |
//! | `power` | what a power cut leaves of a folder |
//! | `load`, `talker` | users who send, accept and sync |
//! | `read_back` | reads all inboxes |
//! | `checker` | compares: the only one that knows the promises |
//! | `event`, `key`, `breach` | what it is told, and what it says |
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

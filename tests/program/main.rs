//! The `imd` binary as its users run it: real processes, real sockets, real signals.
//!
//! Look here for what the command line, the terminal and the system add to the library. Each file holds one command or
//! one concern; `process` starts the program.
#![cfg(unix)]

mod bench;
mod chat;
mod codes;
mod config;
mod daemon;
mod environment;
mod errors;
mod examples;
mod exec;
mod files;
mod lab;
mod limits;
mod lists;
mod private;
mod process;
mod proxy;
mod replay;
mod reset;
mod script;
mod secrets;
mod signals;
mod store;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part of it")]
mod support;
mod terminal;
mod text;
mod tls;
mod unread;

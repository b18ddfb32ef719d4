//! The `imd` binary as its users run it: real processes, real sockets, real signals.
#![cfg(unix)]

mod bench;
mod chat;
mod codes;
mod config;
mod daemon;
mod errors;
mod examples;
mod exec;
mod files;
mod lab;
mod limits;
mod lists;
#[path = "../sockets/ports.rs"]
mod ports;
mod private;
mod process;
mod proxy;
mod replay;
mod reset;
mod script;
mod secrets;
#[path = "../sockets/seed.rs"]
mod seed;
mod signals;
mod store;
mod terminal;
mod text;
mod unread;

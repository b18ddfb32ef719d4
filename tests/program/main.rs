//! The `imd` binary as its users run it: real processes, real sockets, real signals.
#![cfg(unix)]

mod bench;
mod chat;
mod codes;
mod config;
mod daemon;
mod examples;
mod exec;
mod files;
mod lab;
mod limits;
mod process;
mod proxy;
mod replay;
mod reset;
mod script;
mod secrets;
mod signals;
mod store;
mod terminal;
mod unread;

//! What goes wrong on command: one file for each part of the lab.

#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../sockets/support.rs"]
mod support;

mod quirks;

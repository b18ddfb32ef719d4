//! Runs this suite over every other transport.
//!
//! `cargo test` runs each test over TCP without TLS, and here once more over each other transport, in a process of its own.
//! To run tests over one of them, set the variable: `TEST_TRANSPORT=ws cargo test --test sockets takeover`.

#[path = "../support/each_transport.rs"]
mod each_transport;

/// The tests that run over TCP without TLS only, each with the reason.
const ONCE: &[(&str, &str)] = &[
    (
        "before_login::an_error_keeps_the_ids",
        "opens no connection",
    ),
    (
        "captured::replies_are_the_captured_ones",
        "opens no connection",
    ),
    (
        "example::",
        "shows the client of the library, which is told the transport by a URL",
    ),
    ("http::", "HTTP has no frames"),
    ("http_cors::", "HTTP has no frames"),
    ("http_forms::", "HTTP has no frames"),
    ("http_wire::", "HTTP has no frames"),
    ("slow_clients::", "clients of HTTP, which has no frames"),
    ("tls::", "has clients of its own"),
    ("websocket::", "has clients of its own"),
];

#[test]
#[cfg(all(feature = "admin", feature = "tls"))]
fn the_list_of_tests_that_run_once_is_up_to_date() {
    crate::support::transport::check_once(ONCE);
}

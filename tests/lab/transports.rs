//! Runs this suite over every other transport.
//!
//! `cargo test` runs each test over TCP without TLS, and here once more over each other transport, in a process of its own.
//! To run tests over one of them, set the variable: `TEST_TRANSPORT=ws cargo test --test lab matrix`.

#[path = "../support/each_transport.rs"]
mod each_transport;

/// The tests that run over TCP without TLS only, each with the reason.
const ONCE: &[(&str, &str)] = &[
    ("admin::", "the admin API has no frames"),
    ("admin_hosts::", "the admin API has no frames"),
    ("bad_snapshots::", "the admin API has no frames"),
    ("console::", "the admin API has no frames"),
    ("described::", "the admin API has no frames"),
    ("lists::", "the admin API has no frames"),
    (
        "scenarios::",
        "shows the client of the library, which is told the transport by a URL",
    ),
];

#[test]
fn the_list_of_tests_that_run_once_is_up_to_date() {
    crate::support::transport::check_once(ONCE);
}

//! The tests that run a suite over every transport but TCP without TLS.
//!
//! Serves the `transports` of each suite, which includes this file by `#[path]`, and has the list [`ONCE`] of the tests that are
//! left out.

use super::ONCE;
use crate::support::Transport;

#[test]
#[cfg(feature = "tls")]
fn every_test_passes_over_tls() {
    Transport::Tls.run_suite(ONCE);
}

#[test]
fn every_test_passes_over_a_websocket() {
    Transport::WebSocket.run_suite(ONCE);
}

#[test]
#[cfg(feature = "tls")]
fn every_test_passes_over_a_websocket_within_tls() {
    Transport::Wss.run_suite(ONCE);
}

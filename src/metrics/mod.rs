//! The metrics of one `imd`: counters that the other modules add to, and their text for `/metrics`.
//!
//! Serves the sessions, the services and the directory, which count here, and the admin API, which shows the counters.
//! The values that can be read when they are asked for, such as the number of sessions, are not here: the admin API
//! adds them. docs/metrics.md lists all names; a test compares it with what is served.

mod classic;
#[cfg(feature = "admin")]
mod process;
mod traffic;

pub use classic::classic;
#[cfg(feature = "admin")]
pub use process::{open_files, resident};
pub use traffic::{BUCKETS, Counted, Traffic};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::proto::{Cmd, Code};

/// The counters of one `imd`.
pub struct Metrics {
    traffic: Arc<Traffic>,
    accepts: Family<At, Counter>,
    closes: Family<Closed, Counter>,
    handshake_failures: Family<Closed, Counter>,
    stored: Counter,
    commit_messages: Histogram,
    commit_seconds: Histogram,
    notifies_merged: Counter,
    messages_pushed: Counter,
    pages: Counter,
    refused_logins: Family<Refused, Counter>,
    lost_logs: LostLogs,
    registry: Registry,
}

/// The label `server`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct At {
    /// `gateway`, or the name of an access server.
    pub server: Arc<String>,
}

/// The labels of a connection that was closed, or whose handshake has failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closed {
    server: Arc<String>,
    reason: &'static str,
}

/// The label of a refused login.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    code: u32,
}

/// The counters of the connections of one server.
#[derive(Debug, Clone)]
pub struct ConnectionCounts {
    server: Arc<String>,
    accepts: Counter,
    closes: Family<Closed, Counter>,
    handshake_failures: HandshakeFailures,
}

/// The counters of the connections of one server that ended before they were served, or spoke another protocol.
#[derive(Debug, Clone)]
pub struct HandshakeFailures {
    server: Arc<String>,
    failures: Family<Closed, Counter>,
}

impl HandshakeFailures {
    /// Counts a connection, by the reason.
    pub fn count(&self, reason: &'static str) {
        self.counter(reason).inc();
    }

    fn counter(&self, reason: &'static str) -> Counter {
        let server = Arc::clone(&self.server);
        let failed = Closed { server, reason };
        self.failures.get_or_create_owned(&failed)
    }
}

impl ConnectionCounts {
    /// Counts an accepted connection.
    pub fn opened(&self) {
        self.accepts.inc();
    }

    /// Counts a closed connection, by the reason.
    pub fn closed(&self, reason: &'static str) {
        let server = Arc::clone(&self.server);
        self.closes.get_or_create(&Closed { server, reason }).inc();
    }

    /// Counts a connection that ended before its session, or that spoke another protocol than that of its port, by the
    /// reason.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshake_failures.count(reason);
    }
}

/// Counts log lines that were dropped because stderr was not read in time. Clones share one counter.
#[derive(Debug, Clone, Default)]
pub struct LostLogs(Counter);

impl LostLogs {
    /// Counts dropped lines.
    pub fn add(&self, lines: u64) {
        self.0.inc_by(lines);
    }
}

impl Metrics {
    /// Returns the counters of frames and replies.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Returns the sums of the traffic so far for each command, and for frames without a known command.
    pub fn read(&self) -> Vec<(Option<Cmd>, Counted)> {
        self.traffic.read()
    }

    /// Returns the counters of the connections of the server with this name.
    pub fn connection_counts(&self, server: &str) -> ConnectionCounts {
        let server = Arc::new(server.to_owned());
        let at = At {
            server: Arc::clone(&server),
        };
        let counts = ConnectionCounts {
            server,
            accepts: self.accepts.get_or_create_owned(&at),
            closes: self.closes.clone(),
            handshake_failures: self.handshake_failures(&at.server),
        };
        // Shown as 0 from the start, so that an alert on its rate sees the first failure.
        for reason in ["bad_tls", "http", "plain", "tls", "too_slow", "untrusted"] {
            counts.handshake_failures.counter(reason);
        }
        counts
    }

    /// Returns the counters of the failed handshakes of the server with this name.
    pub fn handshake_failures(&self, server: &str) -> HandshakeFailures {
        HandshakeFailures {
            server: Arc::new(server.to_owned()),
            failures: self.handshake_failures.clone(),
        }
    }

    /// Counts a commit that took the store this long in real time. `accepted` is the number of messages and acks in it
    /// that the store has accepted, duplicates included.
    pub fn committed(&self, accepted: usize, took: Duration) {
        self.stored.inc_by(accepted as u64);
        #[allow(clippy::cast_precision_loss, reason = "a batch has a few hundred")]
        self.commit_messages.observe(accepted as f64);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts a notify that was merged with one that had not been written yet.
    pub fn merged(&self) {
        self.notifies_merged.inc();
    }

    /// Counts messages that are pushed to their receivers.
    pub fn pushed(&self, messages: u64) {
        self.messages_pushed.inc_by(messages);
    }

    /// Returns how many messages were pushed to their receivers.
    pub fn pushes(&self) -> u64 {
        self.messages_pushed.get()
    }

    /// Counts a page of an inbox that was read.
    pub fn page(&self) {
        self.pages.inc();
    }

    /// Counts a refused login, by the code.
    pub fn login_refused(&self, code: Code) {
        let code = code.number();
        self.refused_logins.get_or_create(&Refused { code }).inc();
    }

    /// Returns the counter of dropped log lines. The program that writes the log adds to it, since the library only
    /// emits `tracing` events.
    pub fn lost_logs(&self) -> LostLogs {
        self.lost_logs.clone()
    }

    /// Returns all metrics in the text format of OpenMetrics, followed by those of `state`.
    ///
    /// # Errors
    ///
    /// An error of the encoder, which none of these metrics causes.
    pub fn text(&self, state: &Registry) -> Result<String, fmt::Error> {
        let mut all = String::new();
        text::encode_registry(&mut all, &self.registry)?;
        text::encode(&mut all, state)?;
        Ok(all)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Metrics {
            traffic: Arc::default(),
            accepts: Family::default(),
            closes: Family::default(),
            handshake_failures: Family::default(),
            stored: Counter::default(),
            // 1, 2, 4 ... 256: the largest batch.
            commit_messages: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            // 1 us, 2 us ... 8 s.
            commit_seconds: Histogram::new(exponential_buckets(1e-6, 2.0, 24)),
            notifies_merged: Counter::default(),
            messages_pushed: Counter::default(),
            pages: Counter::default(),
            refused_logins: Family::default(),
            lost_logs: LostLogs::default(),
            registry: Registry::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "imd_accepts",
            "Connections that were accepted",
            self.accepts.clone(),
        );
        registry.register(
            "imd_closes",
            "Connections that have ended, by the reason",
            self.closes.clone(),
        );
        registry.register(
            "imd_handshake_failures",
            "Connections that ended before their sessions or spoke another protocol, by the reason",
            self.handshake_failures.clone(),
        );
        registry.register_collector(Box::new(Arc::clone(&self.traffic)));
        registry.register(
            "imd_messages_stored",
            "Messages and acks that the store has accepted, duplicates included",
            self.stored.clone(),
        );
        registry.register(
            "imd_commit_messages",
            "Messages and acks that the store has accepted in a commit",
            self.commit_messages.clone(),
        );
        registry.register_with_unit(
            "imd_commit",
            "How long the store took for a commit",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register(
            "imd_notifies_merged",
            "Notifies that were merged into one that was not written yet",
            self.notifies_merged.clone(),
        );
        registry.register(
            "imd_messages_pushed",
            "Messages that were pushed to their receivers, besides the notify",
            self.messages_pushed.clone(),
        );
        registry.register(
            "imd_sync_pages",
            "Pages of inboxes that were read",
            self.pages.clone(),
        );
        registry.register(
            "imd_login_failures",
            "Logins that were refused, by the code",
            self.refused_logins.clone(),
        );
        registry.register(
            "imd_log_lines_dropped",
            "Lines of log that were dropped, because stderr was not read",
            self.lost_logs.0.clone(),
        );
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

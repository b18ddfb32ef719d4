//! The kinds of servers that are compared.
//!
//! Serves everything that starts or addresses a server. Whether a server keeps messages on disk is not part of the kind: see
//! [`Setup`](crate::server::Setup).

use clap::ValueEnum;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Sends frames back.
    Echo,
    /// Only the path of a message; over a log, if it is durable.
    Mock,
    /// `imd`; with its store in a folder, if it is durable.
    Imd,
    /// `imd` without the lab, which is another build of this program.
    WithoutLab,
    /// `nats-server` with its default settings: it stores and acknowledges nothing.
    Nats,
    /// `nats-server` with a stream on file; synced before each acknowledgement, if it is durable.
    JetStream,
    /// `mosquitto` without a limit on the messages that it queues.
    Mosquitto,
    /// `redis-server` with an append-only file; synced before each answer, if it is durable, and else every second.
    Redis,
}

impl Kind {
    /// Returns whether this is `imd`, however it is built.
    pub fn is_imd(self) -> bool {
        matches!(self, Kind::Imd | Kind::WithoutLab)
    }

    /// Returns the program that is run for a broker; `None` for the servers that are part of this program.
    pub fn broker(self) -> Option<&'static str> {
        match self {
            Kind::Nats | Kind::JetStream => Some("nats-server"),
            Kind::Mosquitto => Some("mosquitto"),
            Kind::Redis => Some("redis-server"),
            Kind::Echo | Kind::Mock | Kind::Imd | Kind::WithoutLab => None,
        }
    }
}

//! The kinds of servers that are compared.

use clap::ValueEnum;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Sends frames back.
    Echo,
    /// Only the path of a message; over a log, if it has a folder.
    Mock,
    /// `imd`; with its store in a folder, if it has one.
    Imd,
    /// `imd` without the lab, which is another build of this program.
    WithoutLab,
    /// `nats-server` with its default settings.
    Nats,
    /// `mosquitto` without a limit on the messages that it queues.
    Mosquitto,
}

impl Kind {
    /// Returns whether this is `imd`, however it is built.
    pub fn is_imd(self) -> bool {
        matches!(self, Kind::Imd | Kind::WithoutLab)
    }

    /// Returns the program that is run for a broker; `None` for the servers that are part of this program.
    pub fn broker(self) -> Option<&'static str> {
        match self {
            Kind::Nats => Some("nats-server"),
            Kind::Mosquitto => Some("mosquitto"),
            Kind::Echo | Kind::Mock | Kind::Imd | Kind::WithoutLab => None,
        }
    }
}

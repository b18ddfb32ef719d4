//! The sites: the points in the stack where a fault can be injected, and the actions and filters that each allows.
//!
//! Serves the validation of rules, the admin API's list of sites, and through it the console: all of them read this one
//! table. docs/lab.md explains every site.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Action;
use crate::proto::Cmd;

/// A point in the stack where a fault can be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Site {
    /// The gateway sends a frame.
    #[serde(rename = "gateway.reply")]
    GatewayReply,
    /// An access server renews its lease.
    #[serde(rename = "registry.lease")]
    RegistryLease,
    /// An access server has accepted a connection.
    #[serde(rename = "access.accept")]
    AccessAccept,
    /// An access server has received a login request.
    #[serde(rename = "access.login")]
    AccessLogin,
    /// An access server has received a request of any command.
    #[serde(rename = "access.request")]
    AccessRequest,
    /// An access server sends the reply to a request.
    #[serde(rename = "access.reply")]
    AccessReply,
    /// An access server sends a notify, or pushes a message.
    #[serde(rename = "notify")]
    Notify,
    /// A snowflake id is generated, for a message without an id or for a new group.
    #[serde(rename = "idgen.next")]
    IdgenNext,
    /// A batch of messages and acks, a user, a group or a membership is about to be stored, whoever asked for it.
    #[serde(rename = "store.write")]
    StoreWrite,
    /// A page of an inbox is read from the store.
    #[serde(rename = "store.read")]
    StoreRead,
}

impl Site {
    /// All sites, in the order in which they are listed for people.
    pub const ALL: [Site; 10] = [
        Site::GatewayReply,
        Site::RegistryLease,
        Site::AccessAccept,
        Site::AccessLogin,
        Site::AccessRequest,
        Site::AccessReply,
        Site::Notify,
        Site::IdgenNext,
        Site::StoreWrite,
        Site::StoreRead,
    ];

    /// Returns the name of the site in imd.toml, JSON and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Site::GatewayReply => "gateway.reply",
            Site::RegistryLease => "registry.lease",
            Site::AccessAccept => "access.accept",
            Site::AccessLogin => "access.login",
            Site::AccessRequest => "access.request",
            Site::AccessReply => "access.reply",
            Site::Notify => "notify",
            Site::IdgenNext => "idgen.next",
            Site::StoreWrite => "store.write",
            Site::StoreRead => "store.read",
        }
    }

    /// Returns the site with this [`name`](Self::name).
    pub fn named(name: &str) -> Option<Site> {
        Site::ALL.into_iter().find(|site| site.name() == name)
    }

    /// Returns the names of the actions that are allowed at this site.
    pub const fn actions(self) -> &'static [&'static str] {
        match self {
            Site::GatewayReply => &[
                "delay",
                "drop",
                "duplicate",
                "reorder",
                "error",
                "reset",
                "half_open",
                "throttle",
                "slice",
                "truncate",
                "stale",
            ],
            Site::RegistryLease => &["delay", "drop", "error"],
            Site::AccessAccept => &["delay", "drop", "reset", "half_open"],
            Site::AccessLogin => &["delay", "drop", "error", "reset", "half_open"],
            Site::AccessRequest => &[
                "delay",
                "drop",
                "duplicate",
                "reorder",
                "error",
                "reset",
                "half_open",
            ],
            Site::AccessReply => &[
                "delay",
                "drop",
                "duplicate",
                "reorder",
                "error",
                "reset",
                "half_open",
                "throttle",
                "slice",
                "truncate",
            ],
            Site::Notify => &[
                "delay",
                "drop",
                "duplicate",
                "reorder",
                "reset",
                "half_open",
                "throttle",
                "slice",
                "truncate",
                "gap",
            ],
            Site::IdgenNext => &["duplicate", "stale"],
            Site::StoreWrite => &["delay", "drop", "error"],
            Site::StoreRead => &["delay", "error", "stale", "gap"],
        }
    }

    /// Returns whether `action` is allowed at this site.
    pub fn allows(self, action: &Action) -> bool {
        self.actions().contains(&action.name())
    }

    /// Returns the commands of the frames at this site; empty for a site without frames.
    pub const fn cmds(self) -> &'static [Cmd] {
        match self {
            Site::GatewayReply => &[Cmd::ReqAccessServer, Cmd::ErrServer],
            Site::AccessLogin => &[Cmd::Login],
            Site::AccessRequest => &[
                Cmd::Login,
                Cmd::Ping,
                Cmd::SendP2PMsg,
                Cmd::AcceptP2PMsgAck,
                Cmd::SendGroupMsg,
                Cmd::SyncMsg,
                Cmd::Logout,
            ],
            Site::AccessReply => &[
                Cmd::Login,
                Cmd::Ping,
                Cmd::SendP2PMsg,
                Cmd::AcceptP2PMsgAck,
                Cmd::SendGroupMsg,
                Cmd::SyncMsg,
                Cmd::Logout,
                Cmd::ErrServer,
            ],
            Site::Notify => &[Cmd::Notify, Cmd::SendP2PMsg],
            _ => &[],
        }
    }

    /// Returns the filter keys that a rule at this site may use.
    pub const fn filters(self) -> &'static [&'static str] {
        match self {
            Site::GatewayReply => &["session", "cmd", "direction"],
            Site::RegistryLease | Site::AccessAccept => &["access"],
            Site::AccessLogin | Site::AccessRequest | Site::AccessReply | Site::Notify => {
                &["uid", "access", "session", "cmd", "direction"]
            }
            Site::IdgenNext | Site::StoreWrite | Site::StoreRead => &["uid"],
        }
    }

    /// Returns whether faults at this site are injected into frames.
    pub const fn has_frames(self) -> bool {
        self.direction().is_some()
    }

    /// Returns the direction of the frames at this site, or `None` for a site without frames.
    pub const fn direction(self) -> Option<Direction> {
        match self {
            Site::AccessLogin | Site::AccessRequest => Some(Direction::In),
            Site::GatewayReply | Site::AccessReply | Site::Notify => Some(Direction::Out),
            _ => None,
        }
    }

    /// Returns whether a rule at this site can be limited to one user.
    pub fn has_user(self) -> bool {
        self.filters().contains(&"uid")
    }

    /// Returns whether a rule at this site can be limited to one access server.
    pub fn has_access(self) -> bool {
        self.filters().contains(&"access")
    }

    /// Returns the bit of this site in the word of [`Switches`](super::Switches).
    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The direction of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From a client.
    In,
    /// To a client.
    Out,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//! Where faults can be, and what fits there.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Action;
use crate::proto::Cmd;

/// Where a fault can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Site {
    /// A frame that the gateway sends.
    #[serde(rename = "gateway.reply")]
    GatewayReply,
    /// An access server renews its lease.
    #[serde(rename = "registry.lease")]
    RegistryLease,
    /// An access server has accepted a connection.
    #[serde(rename = "access.accept")]
    AccessAccept,
    /// A login comes to an access server.
    #[serde(rename = "access.login")]
    AccessLogin,
    /// Any request comes to an access server.
    #[serde(rename = "access.request")]
    AccessRequest,
    /// An answer leaves an access server.
    #[serde(rename = "access.reply")]
    AccessReply,
    /// A notify leaves an access server.
    #[serde(rename = "notify")]
    Notify,
    /// A snowflake is made, for a message without an id or a group.
    #[serde(rename = "idgen.next")]
    IdgenNext,
    /// What a client or the HTTP API has brought is stored.
    #[serde(rename = "store.write")]
    StoreWrite,
    /// A page is read.
    #[serde(rename = "store.read")]
    StoreRead,
}

impl Site {
    /// All of them.
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

    /// What it is called outside Rust.
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

    /// The site of that name.
    pub fn named(name: &str) -> Option<Site> {
        Site::ALL.into_iter().find(|site| site.name() == name)
    }

    /// What can happen here, by the names of the actions.
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

    /// Whether `action` can happen here.
    pub fn allows(self, action: &Action) -> bool {
        self.actions().contains(&action.name())
    }

    /// The commands of the frames that pass here; none where no frames pass.
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
            Site::Notify => &[Cmd::Notify],
            _ => &[],
        }
    }

    /// The keys by which a rule can be narrowed down here: what passes has each of them.
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

    /// Whether frames pass here, each with its command.
    pub const fn has_frames(self) -> bool {
        self.direction().is_some()
    }

    /// Which way the frames go that pass here.
    pub const fn direction(self) -> Option<Direction> {
        match self {
            Site::AccessLogin | Site::AccessRequest => Some(Direction::In),
            Site::GatewayReply | Site::AccessReply | Site::Notify => Some(Direction::Out),
            _ => None,
        }
    }

    /// Whether what passes here belongs to a user.
    pub fn has_user(self) -> bool {
        self.filters().contains(&"uid")
    }

    /// Whether what passes here does so at one of the access servers.
    pub fn has_access(self) -> bool {
        self.filters().contains(&"access")
    }

    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Which way a frame goes.
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

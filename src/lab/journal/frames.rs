//! Recorded frames, and those of them that are meant.

use super::{Event, Mark, What};
use crate::lab::Direction;
use crate::proto::Cmd;

/// Recorded frames, oldest first.
#[derive(Debug, Clone)]
pub struct Frames {
    pub(super) events: Vec<Event>,
}

impl Frames {
    /// Only those from a mark on.
    #[must_use]
    pub fn since(self, mark: Mark) -> Frames {
        self.only(|event| event.seq >= mark.0)
    }

    /// Only those of this user's sessions, after their logins.
    #[must_use]
    pub fn uid(self, uid: i64) -> Frames {
        self.only(|event| event.uid == Some(uid))
    }

    /// Only those of this command.
    #[must_use]
    pub fn cmd(self, cmd: Cmd) -> Frames {
        self.only(|event| event.cmd == Some(cmd))
    }

    /// Only those at this access server, or at the `gateway`.
    #[must_use]
    pub fn server(self, name: &str) -> Frames {
        self.only(|event| &*event.server == name)
    }

    /// Only those that went this way.
    #[must_use]
    pub fn direction(self, direction: Direction) -> Frames {
        self.only(|event| event.what == What::Frame(direction))
    }

    fn only(mut self, is_meant: impl Fn(&Event) -> bool) -> Frames {
        self.events.retain(is_meant);
        self
    }

    /// The frames.
    pub fn collect(self) -> Vec<Event> {
        self.events
    }
}

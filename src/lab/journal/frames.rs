//! Recorded frames, with filters by user, command, server and direction.
//!
//! Serves tests in Rust, through [`Journal::frames`](super::Journal::frames). The frames are a copy: later ones are not in it.

use super::{Event, EventKind, Mark};
use crate::id::Uid;
use crate::lab::Direction;
use crate::proto::Cmd;

/// Recorded frames, oldest first.
#[derive(Debug, Clone)]
pub struct Frames {
    pub(super) events: Vec<Event>,
}

impl Frames {
    /// Keeps only frames from a mark on.
    #[must_use]
    pub fn since(self, mark: Mark) -> Frames {
        self.only(|event| event.seq >= mark.0)
    }

    /// Keeps only frames of this user's sessions, after their logins.
    #[must_use]
    pub fn uid(self, uid: impl Into<Uid>) -> Frames {
        let uid = uid.into();
        self.only(|event| event.uid == Some(uid.0))
    }

    /// Keeps only frames of this command.
    #[must_use]
    pub fn cmd(self, cmd: Cmd) -> Frames {
        self.only(|event| event.cmd == Some(cmd))
    }

    /// Keeps only frames at the access server with this name, or at the `gateway`.
    #[must_use]
    pub fn server(self, name: &str) -> Frames {
        self.only(|event| &*event.server == name)
    }

    /// Keeps only frames of this direction.
    #[must_use]
    pub fn direction(self, direction: Direction) -> Frames {
        self.only(|event| event.what == EventKind::Frame(direction))
    }

    fn only(mut self, is_kept: impl Fn(&Event) -> bool) -> Frames {
        self.events.retain(is_kept);
        self
    }

    /// Returns the frames.
    pub fn collect(self) -> Vec<Event> {
        self.events
    }
}

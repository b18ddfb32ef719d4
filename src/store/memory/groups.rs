//! The groups of a memory store. Serves `state`, and whatever lists groups or makes a snapshot of them.

use std::sync::Arc;

use super::ids::Ids;
use crate::id::{GroupId, Uid};
use crate::store;
use crate::store::members::Members;

/// A group, its present members, and the ids of its messages.
pub(super) struct Group {
    pub name: Arc<str>,
    /// The user who created the group, if known.
    pub owner: Option<Uid>,
    /// Shared with the messages that these members have received; replaced when one joins or quits.
    pub members: Members,
    /// Whether each of the members is known to have an inbox, so that a message need not look for those who have none.
    pub all_have_inboxes: bool,
    /// The messages to the group.
    pub ids: Ids<Receivers>,
}

/// The receivers of a message to a group.
pub(super) struct Receivers {
    /// The users who have received it: the members at that time.
    pub members: Members,
    /// How many inboxes still hold it.
    pub left: u32,
}

/// A copy of a group as of one moment. It shares the list of the members, so it is cheap to make under the lock.
pub(super) struct GroupSummary {
    name: Arc<str>,
    owner: Option<Uid>,
    members: Members,
}

impl Group {
    /// Returns a copy of the group as of this moment.
    pub fn summary(&self) -> GroupSummary {
        GroupSummary {
            name: Arc::clone(&self.name),
            owner: self.owner,
            members: Arc::clone(&self.members),
        }
    }
}

impl GroupSummary {
    /// Returns the group as callers of the store see it.
    pub fn into_group(self, gid: GroupId) -> store::Group {
        let mut members = self.members.to_vec();
        members.sort_unstable();
        store::Group {
            gid,
            name: self.name.to_string(),
            owner: self.owner,
            members,
        }
    }
}

//! The groups of a memory store. Serves `state`, and whatever lists groups or makes a snapshot of them.

use std::sync::Arc;

use super::ids::{Identity, Ids, VacantId};
use crate::id::{GroupId, Uid};
use crate::store::members::Members;
use crate::store::{self, Message};

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
    pub ids: Ids<GroupMessage>,
}

/// A message to a group whose id is known.
pub(super) struct GroupMessage {
    /// The message; without its text if no inbox holds it any more.
    pub message: Arc<Message>,
    /// The users who have received it: the members at that time.
    pub receivers: Members,
    /// How many inboxes hold it.
    pub holders: u32,
}

/// A copy of a group as of one moment. It shares the list of the members, so it is cheap to make under the lock.
pub(super) struct GroupSummary {
    name: Arc<str>,
    owner: Option<Uid>,
    members: Members,
}

impl Ids<GroupMessage> {
    /// Returns the place for a message; none if it was sent before.
    pub fn place_of(&mut self, message: &Message) -> Option<VacantId<'_, GroupMessage>> {
        let id = Identity::of(message);
        self.vacancy(id, |known| Identity::of(&known.message) == id)
    }

    /// Returns the message with the identity `id`.
    pub fn message(&self, id: Identity<'_>) -> Option<&GroupMessage> {
        self.get(id, |known| Identity::of(&known.message) == id)
    }

    /// Returns the message that has the identity of `message`.
    pub fn message_mut(&mut self, message: &Message) -> Option<&mut GroupMessage> {
        let id = Identity::of(message);
        self.get_mut(id, |known| Identity::of(&known.message) == id)
    }
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

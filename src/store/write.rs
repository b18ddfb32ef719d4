//! Writes: what a store can be asked to change, and the result of each.
//!
//! Serves the services, which make batches of writes and turn the results into answers, and the stores, which do them.
//! [`Committed`] has one result for each write, in the order of the batch.

use std::sync::Arc;

use super::{InboxState, Message, User};
use crate::id::{GroupId, Uid, Version};

/// A change of what is stored. Each write is done as a whole or not at all.
#[derive(Debug, Clone)]
pub enum Write {
    /// Puts a message of kind [`P2p`](super::Kind::P2p) into one inbox, unless a message with the same sender, receiver
    /// and id was stored before.
    P2p {
        /// The user whose inbox receives the message.
        target: Uid,
        /// The message, which names its sender.
        message: Arc<Message>,
    },
    /// Puts a message of kind [`Group`](super::Kind::Group) into the inboxes of all members of its group, that of the
    /// sender included, unless a message with the same sender, group and id was stored before.
    Group {
        /// The message, which names its sender and its group.
        message: Arc<Message>,
    },
    /// Puts an ack into one inbox, once: `message.source` accepts the message with the id `message.msg_id` that
    /// `target` has sent, alone or to a group.
    Ack {
        /// The user who has sent the message that is accepted, and whose inbox receives the ack.
        target: Uid,
        /// The ack, which names the user who accepts.
        message: Arc<Message>,
    },
    /// Registers a user.
    Register {
        /// The id of the user. It must not be registered.
        uid: Uid,
        /// The name and the hash of the password.
        user: User,
    },
    /// Creates a group with all its members, or not at all.
    CreateGroup {
        /// The id of the group. No group may have it or have had it.
        group: GroupId,
        /// The name of the group.
        name: String,
        /// The user who creates the group, who is its first member.
        owner: Uid,
        /// The other members. Repetitions and the owner are ignored.
        members: Vec<Uid>,
        /// When the group was created, in Unix milliseconds.
        made_at: i64,
    },
    /// Adds members to a group: all of them, or none. A user who is a member already stays one.
    Join {
        /// The group that gets the members.
        group: GroupId,
        /// The users who join.
        uids: Vec<Uid>,
        /// How many members the group may have.
        max_members: usize,
    },
    /// Removes a member from a group. The user's inbox keeps the messages to the group. It is no error if the user is
    /// not a member.
    Quit {
        /// The group that the user leaves.
        group: GroupId,
        /// The user who leaves.
        uid: Uid,
    },
    /// Moves a read mark forward, as a [`read_page`](super::MessageStore::read_page) does. A sync that follows other
    /// writes sends its mark with them in one batch, so that it costs no commit of its own.
    MarkRead {
        /// The user whose read mark is moved.
        uid: Uid,
        /// The newest version that the user has read. A version beyond the inbox leaves the mark where it is.
        read: Version,
    },
    /// Notes how far the ids that the server gives out have come, for
    /// [`latest_time_ms`](super::AccountStore::latest_time_ms).
    IssuedIds {
        /// The time in the newest id, in Unix milliseconds. It can be ahead of the clock.
        up_to_ms: i64,
    },
}

/// Why one write of a batch was not done. The other writes of the batch are not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// A user with this id is registered already.
    #[error("the user exists already")]
    UserExists,
    /// There is a group with this id already.
    #[error("the group exists already")]
    GroupExists,
    /// There is no group with this id.
    #[error("there is no such group")]
    NoSuchGroup,
    /// The sender of a message to a group is not a member of it.
    #[error("the sender is no member of the group")]
    NotAMember,
    /// The group would have more members than it may have.
    #[error("the group is full")]
    GroupFull,
    /// The user who accepts a message has not received it.
    #[error("there is no such message")]
    NoSuchMessage,
    /// The store in memory has reached its limit.
    #[error("the store is full: there is no room for this below store.memory_limit")]
    Full,
    /// The disk of the store has less room left than its floor.
    #[error("the store is full: its disk has less room left than store.min_free asks for")]
    DiskFull,
    /// A record that the write depends on is damaged, or the disk does not give it.
    #[error("what is stored can't be read")]
    Unreadable,
}

/// The result of a write that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The message or the ack is a new entry of one inbox.
    Stored {
        /// The user to whom the inbox belongs.
        uid: Uid,
        /// The version of the entry.
        version: Version,
    },
    /// The message is a new entry of the inbox of every member of a group.
    ///
    /// The inboxes are among [`Committed::grown_inboxes`]. The entry is the newest one of an inbox, so that its version
    /// is the inbox's total, unless a later write of the batch has put another entry into the inbox.
    StoredForGroup {
        /// The users to whom the inboxes belong: the members at that time, in no particular order. The list is shared
        /// with the store.
        receivers: Arc<Vec<Uid>>,
    },
    /// The message or the ack was stored before, so that the sender is answered as if it were stored now.
    ///
    /// The store does not know which version it has: it finds a message by its id, and the entry may have been removed.
    Duplicate,
    /// The change was made, or there was nothing to change. No inbox has a new entry.
    Done,
}

/// The result of a batch.
#[derive(Debug)]
pub struct Committed {
    /// The result of each write, in the order of the batch.
    pub results: Vec<Result<WriteOutcome, Rejected>>,
    /// The inboxes into which the batch has put entries, for notifies. If an inbox is listed several times, the highest
    /// total holds.
    pub grown_inboxes: Vec<InboxState>,
}

impl Committed {
    /// Returns for each write whether it was done, without what came of it.
    pub fn accepted(&self) -> Vec<Result<(), Rejected>> {
        let results = self.results.iter();
        results
            .map(|result| result.as_ref().map(drop).map_err(|rejected| *rejected))
            .collect()
    }
}

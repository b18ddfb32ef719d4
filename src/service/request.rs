//! The requests that a front makes to the operations on messages, and the errors with which these refuse them.
//!
//! Serves `message`, `batch` and `direct`, and the fronts that fill in the requests. A request holds the values that the
//! client has sent, unchecked: the operation checks them.

use std::fmt;

use super::UidMismatch;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::proto::Code;
use crate::store::{PageLimit, Rejected, StoreError};

/// The receiver of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One user.
    User(Uid),
    /// All members of a group.
    Group(GroupId),
}

impl From<Uid> for Target {
    fn from(uid: Uid) -> Self {
        Target::User(uid)
    }
}

impl From<GroupId> for Target {
    fn from(group: GroupId) -> Self {
        Target::Group(group)
    }
}

/// A message to be sent or accepted, with its texts borrowed from the frame or the request body. `T` is the id of a user or
/// of a group.
#[derive(Clone, Copy)]
pub struct SendRequest<'a, T> {
    /// The user whom the request names as the sender, or as the one who accepts; none stands for the user who is logged
    /// in.
    pub claimed: Option<Uid>,
    /// The user or the group that receives the message; for an acceptance, the sender of the accepted message.
    pub target: T,
    /// The sender's id of the message. If it is empty, the server makes one.
    pub msg_id: MsgId<'a>,
    /// The text; empty in an acceptance.
    pub text: &'a str,
}

impl<'a, T> SendRequest<'a, T> {
    /// Creates the request of the user who is logged in.
    pub fn new(target: T, msg_id: MsgId<'a>, text: &'a str) -> Self {
        SendRequest {
            claimed: None,
            target,
            msg_id,
            text,
        }
    }
}

/// Without the text, which must not reach a log.
impl<T: fmt::Debug> fmt::Debug for SendRequest<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRequest")
            .field("claimed", &self.claimed)
            .field("target", &self.target)
            .field("msg_id", &self.msg_id)
            .finish_non_exhaustive()
    }
}

/// A request for the messages that are newer than what a client has.
#[derive(Debug, Clone, Copy)]
pub struct SyncRequest {
    /// The user whom the request names; none stands for the user who is logged in.
    pub claimed: Option<Uid>,
    /// The version of the last message that the client has.
    pub after: Version,
    /// How many entries and bytes the front can take in one page.
    pub limit: PageLimit,
}

/// Why a message or an acceptance was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// The request names another sender than the user who is logged in.
    #[error(transparent)]
    UidMismatch(#[from] UidMismatch),
    /// Ids of users and groups are positive.
    #[error("{field} {id} is not positive")]
    BadTarget {
        /// The field of the request, as the wire contract calls it.
        field: &'static str,
        /// The value of the field.
        id: i64,
    },
    /// The text is longer than `limits.message` of the config.
    #[error("msg has {len} bytes, at most {max}")]
    TooLong {
        /// The length of the text in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The sender's id of the message is longer than `limits.msg_id` of the config.
    #[error("msgID has {len} bytes, at most {max}")]
    IdTooLong {
        /// The length of the id in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Only registered users receive messages, and the receiver is not registered.
    #[error("{0} is not registered")]
    NoSuchUser(Uid),
    /// The store has rejected this write; the others of its batch are not concerned.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// An injected fault refuses the whole batch with this code.
    #[error("{}", .0.text())]
    Injected(Code),
    /// The commit of the whole batch has failed: it is not known what of it is stored. The failure was logged.
    #[error(transparent)]
    NotCommitted(StoreError),
    /// The store could not be asked for the receiver.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a page was refused.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The request names another user than the one who is logged in.
    #[error(transparent)]
    UidMismatch(#[from] UidMismatch),
    /// An injected fault refuses the page with this code.
    #[error("{}", .0.text())]
    Injected(Code),
    /// The store could not read the inbox.
    #[error(transparent)]
    Store(#[from] StoreError),
}

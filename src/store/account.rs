//! Users and groups, in the form in which a store returns them.
//!
//! Serves [`AccountStore`](super::AccountStore), which answers with these types,
//! [`Write::Register`](super::Write::Register), and snapshots. Here a password is only ever a hash, and `Debug` leaves
//! the hash out.

use std::fmt;

use crate::id::{GroupId, Uid};

/// A registered user. The user's id is not a part of this: it is the key of the user in a store.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name that the user has registered with. It may be empty, and need not be unique.
    pub name: String,
    /// The hash of the password, as a string of the PHC format.
    pub password_hash: String,
}

/// Leaves out the hash of the password, which must not reach a log.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The id that the server has given the group. It is never used again.
    pub gid: GroupId,
    /// The name that the group was created with. It may be empty, and need not be unique.
    pub name: String,
    /// The user who created the group, even if no longer a member. None for a group that was stored by a version which
    /// did not store owners.
    pub owner: Option<Uid>,
    /// The present members, in the order of their ids.
    pub members: Vec<Uid>,
}

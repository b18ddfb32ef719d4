//! Who becomes a member of a group by a write.
//!
//! Serves every implementation of a store, so that all of them accept and refuse the same members. A list of members
//! has no repetitions.

use std::sync::Arc;

use hashbrown::HashSet;

use super::Rejected;
use crate::id::Uid;

/// The members of a group, shared with the messages to the group. The list is behind a pointer of one word, since the
/// memory store keeps one for each message to a group.
pub type Members = Arc<Vec<Uid>>;

/// Returns the members of a new group without repetitions: `owner` first, then `members` in their order.
pub fn members_of(owner: Uid, members: &[Uid]) -> Vec<Uid> {
    let mut all = Vec::with_capacity(members.len() + 1);
    let mut seen = HashSet::with_capacity(members.len() + 1);
    let members = members.iter().copied();
    all.extend(
        [owner]
            .into_iter()
            .chain(members)
            .filter(|uid| seen.insert(*uid)),
    );
    all
}

/// Returns those of `uids` who are not among `members` yet, without repetitions and in their order.
///
/// # Errors
///
/// [`Rejected::GroupFull`] when somebody is new and the group would have more than `limit` members.
pub fn joining(members: &[Uid], uids: &[Uid], limit: usize) -> Result<Vec<Uid>, Rejected> {
    let mut seen: HashSet<Uid> = members.iter().copied().collect();
    let new: Vec<Uid> = uids
        .iter()
        .copied()
        .filter(|uid| seen.insert(*uid))
        .collect();
    if !new.is_empty() && seen.len() > limit {
        return Err(Rejected::GroupFull);
    }
    Ok(new)
}

//! Who gets into a group by a write: the same for every store.

use hashbrown::HashSet;

use super::Rejected;

use crate::id::Uid;

/// The members that a group gets, in their order: `owner` first, and each once.
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

/// Those of `uids` who are no members yet, each once.
///
/// # Errors
///
/// When the group would have more than `most` members.
pub fn joining(members: &[Uid], uids: &[Uid], most: usize) -> Result<Vec<Uid>, Rejected> {
    let mut seen: HashSet<Uid> = members.iter().copied().collect();
    let new: Vec<Uid> = uids
        .iter()
        .copied()
        .filter(|uid| seen.insert(*uid))
        .collect();
    if !new.is_empty() && seen.len() > most {
        return Err(Rejected::GroupFull);
    }
    Ok(new)
}

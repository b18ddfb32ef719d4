//! Who gets into a group by a write: the same for every store.

use hashbrown::HashSet;

use super::Rejected;

/// The members that a group gets, in their order: `owner` first, and each once.
pub fn members_of(owner: i64, members: &[i64]) -> Vec<i64> {
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
pub fn joining(members: &[i64], uids: &[i64], most: usize) -> Result<Vec<i64>, Rejected> {
    let mut seen: HashSet<i64> = members.iter().copied().collect();
    let new: Vec<i64> = uids
        .iter()
        .copied()
        .filter(|uid| seen.insert(*uid))
        .collect();
    if !new.is_empty() && seen.len() > most {
        return Err(Rejected::GroupFull);
    }
    Ok(new)
}

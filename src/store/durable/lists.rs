//! Lists the users and the groups of the store.
//!
//! Serves [`AccountStore`](crate::store::AccountStore) of the durable store, and `save`, which puts them into a
//! snapshot.

use super::engine::{EngineError, View};
use super::record::{self, GroupRecord, Record, UserRecord};
use crate::id::{GroupId, Uid};
use crate::store::{Group, User};

/// Returns the registered users with ids above `after`, by id: the first `limit`.
///
/// # Errors
///
/// [`EngineError`] when one of the users can't be read.
pub fn users(view: &View<'_>, after: Uid, limit: usize) -> Result<Vec<(Uid, User)>, EngineError> {
    let Some(first) = after.checked_add(1).map(record::user_key) else {
        return Ok(Vec::new());
    };
    let last = record::user_key(Uid::MAX);
    let found = view.range(&first, &last).take(limit);
    found
        .map(|found| found.and_then(|(key, value)| user(&key, &value)))
        .collect()
}

/// Returns the user of a record.
///
/// # Errors
///
/// [`EngineError`] when the record is damaged.
pub fn user(key: &[u8], value: &[u8]) -> Result<(Uid, User), EngineError> {
    let user = UserRecord::decode_checked(key, value)?;
    Ok((record::first_number(key), user.into()))
}

/// Returns the groups with ids above `after`, by id: the first `limit`.
///
/// # Errors
///
/// [`EngineError`] when one of the groups can't be read.
pub fn groups(view: &View<'_>, after: GroupId, limit: usize) -> Result<Vec<Group>, EngineError> {
    let Some(first) = after.checked_add(1).map(record::group_key) else {
        return Ok(Vec::new());
    };
    let last = record::group_key(GroupId::MAX);
    let found = view.range(&first, &last).take(limit);
    found
        .map(|found| found.and_then(|(key, value)| group(view, &key, &value)))
        .collect()
}

/// Returns the group of a record, with its members.
///
/// # Errors
///
/// [`EngineError`] when the group or one of its members can't be read.
pub fn group(view: &View<'_>, key: &[u8], value: &[u8]) -> Result<Group, EngineError> {
    let GroupRecord { name, owner } = GroupRecord::decode_checked(key, value)?;
    let gid: GroupId = record::first_number(key);
    Ok(Group {
        gid,
        name,
        owner: Uid::nonzero(owner),
        members: view.members(gid)?,
    })
}
